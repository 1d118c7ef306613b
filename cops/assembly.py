"""From parts to a model that scores: checkpoints, state dicts, seeded weights where nothing is given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cops
from cops.backbone import architecture
from cops.checkpoint import EMBEDDED, Checkpoint, check_tensors, expected_shapes, find_clip, read_checkpoint
from cops.class_tokens import draw_class_noise
from cops.config import CopsConfig, check_names, profile_named
from cops.errors import ConfigError
from cops.initialise import random_tensors
from cops.model import CoPS
from cops.precision import PRECISIONS, use_precision
from cops.published import LEARNED, count_deep_layers, normalise_names

NOISE = f"{LEARNED}class_noise"
PUBLISHED_HEADS = 12


def load(
    name_or_path: str | Path | bytes = EMBEDDED,
    device: str = "cpu",
    precision: str = "float32",
    clip_weights: str | Path | None = None,
    *,
    clip_sha256: str | None = None,
) -> CoPS:
    """A model from a checkpoint file, or the one that comes with the package, `embedded`.

    Args:    device: `cpu`, `cuda`, `cuda:1`, … or `auto`.   precision: `float32`, `bfloat16`, `float16`, `int8` (on a
             CPU), or `auto`, which is float32.   clip_weights, clip_sha256: as in `read_checkpoint`.
    Raises:  CheckpointError: the weights cannot be used.   ConfigError: there is no such device or precision.
    """
    return from_checkpoint(read_checkpoint(name_or_path, clip_weights, clip_sha256=clip_sha256), device, precision)


def from_checkpoint(checkpoint: Checkpoint, device: str = "cpu", precision: str = "float32") -> CoPS:
    """The model of a checkpoint. On the CPU in float32 it takes the tensors as they are and copies nothing.

    Several processes can so serve one set of read-only tensors in shared memory.
    Raises:  ConfigError: there is no such device or precision.
    """
    precision = find_precision(precision)
    place = find_device(device)
    if precision == "int8":
        _require_int8(place)
    with torch.device("meta"):
        model = CoPS(checkpoint.config)
    model.load_state_dict(checkpoint.tensors, strict=True, assign=True)
    model.provenance, model.model_id = dict(checkpoint.provenance), checkpoint.model_id(precision)
    model.requires_grad_(False)
    use_precision(model, precision)
    return model.to(place).eval()


def build(
    backbone_config: str | Mapping[str, Any],
    *,
    image_size: int | None = None,
    clip_state_dict: Mapping[str, Tensor] | None = None,
    prompt_state_dict: Mapping[str, Tensor] | None = None,
    pretrained: str | None = None,
    clip_weights: str | Path | None = None,
    clip_sha256: str | None = None,
    profile: str = "paper",
    seed: int = 0,
    class_noise: Tensor | None = None,
    device: str = "cpu",
    precision: str = "float32",
    **constants: Any,
) -> CoPS:
    """A model of any CLIP vision transformer that open_clip can describe. What is not given is random, and seeded.

    Args:    backbone_config: an open_clip model name or config.   image_size: px; the backbone's own where None.
             clip_state_dict: names as in open_clip.   prompt_state_dict: names as published, with or without
             `prompt_learner.`; entries of the VAE's encoder are left out, inference does not need them.
             pretrained: open_clip's tag; downloaded unless clip_weights gives the file.   class_noise: (R, C).
             profile: k, α and β; constants: any field of `CopsConfig`, over the profile's.
    Raises:  ConfigError: the parts cannot make a model.   CheckpointError: weights do not fit or cannot be had.
    """
    checkpoint = assemble(
        backbone_config,
        image_size=image_size,
        clip_state_dict=clip_state_dict,
        prompt_state_dict=prompt_state_dict,
        pretrained=pretrained,
        clip_weights=clip_weights,
        clip_sha256=clip_sha256,
        profile=profile,
        seed=seed,
        class_noise=class_noise,
        **constants,
    )
    return from_checkpoint(checkpoint, device, precision)


def assemble(
    backbone: str | Mapping[str, Any],
    *,
    image_size: int | None = None,
    clip_state_dict: Mapping[str, Tensor] | None = None,
    prompt_state_dict: Mapping[str, Tensor] | None = None,
    pretrained: str | None = None,
    clip_weights: str | Path | None = None,
    clip_sha256: str | None = None,
    profile: str = "paper",
    seed: int = 0,
    class_noise: Tensor | None = None,
    **constants: Any,
) -> Checkpoint:
    """What `build` builds, as a checkpoint; the arguments are the same."""
    if clip_state_dict is not None and (pretrained or clip_weights):
        raise ConfigError("give CLIP's weights once: clip_state_dict, or clip_weights or pretrained")
    learned = normalise_names(prompt_state_dict or {})
    has_learned = bool(learned)
    if class_noise is not None:
        learned[NOISE] = class_noise
    config = config_of_parts(
        backbone,
        learned,
        image_size=image_size,
        pretrained=pretrained,
        profile=profile,
        **{"noise_seed": seed, **constants},
    )
    clip = dict(clip_state_dict or {})
    if clip_state_dict is None and (pretrained is not None or clip_weights is not None):
        clip = find_clip(config, clip_weights, accepted=clip_sha256)
    given = clip | learned
    tensors = given | _missing_parts(config, clip=clip, learned=learned, seed=seed)
    random_parts = [part for part, there in (("clip", clip), ("prompt_learner", has_learned)) if not there]
    provenance = {
        "trained": not random_parts,
        "source": "cops.build",
        "random_parts": random_parts,
        "seed": seed,
        "created_by": f"cops {cops.__version__}",
    }
    return Checkpoint(config=config, provenance=provenance, tensors=check_tensors(config, tensors, label="the model"))


def config_of_parts(
    backbone: str | Mapping[str, Any],
    learned: Mapping[str, Tensor],
    *,
    image_size: int | None,
    pretrained: str | None,
    profile: str,
    **constants: Any,
) -> CopsConfig:
    """The config of the parts: what the weights' shapes say, then the profile, then the constants given."""
    arch = architecture(backbone)
    width, layers = int(arch["embed_dim"]), int(arch["text_cfg"].get("layers", 12))
    derived: dict[str, Any] = {
        "backbone": backbone if isinstance(backbone, str) else dict(backbone),
        "pretrained": pretrained,
        "image_size": image_size or arch["vision_cfg"].get("image_size", 224),
        "heads": PUBLISHED_HEADS if width % PUBLISHED_HEADS == 0 else max(1, width // 64),
        "deep_layers": count_deep_layers(learned) if learned else min(8, layers - 1),
    }
    if NOISE in learned:
        derived["samples"] = len(learned[NOISE])
    chosen = profile_named(profile)
    of_profile = {"profile": profile, "k": chosen.k, "alpha": chosen.alpha, "beta": chosen.beta}
    if {"k", "alpha", "beta"} & set(constants):
        of_profile["profile"] = "custom"
    values = derived | of_profile | constants
    check_names(values)
    return CopsConfig(**values)


def find_device(device: str) -> torch.device:
    """The torch device of a name; `auto` is CUDA where there is one.

    Raises:  ConfigError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as exc:
        raise ConfigError(f"unknown device {device!r}; use cpu, cuda or auto") from exc
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"no device {device!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices"
        )
    return place


def find_precision(precision: str) -> str:
    """The name of a precision; `auto` is float32, in which the published numbers are given.

    Raises:  ConfigError: there is no such precision.
    """
    if precision == "auto":
        return "float32"
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; use {', '.join(PRECISIONS)} or auto")
    return precision


def _require_int8(device: torch.device) -> None:
    if device.type != "cpu":
        raise ConfigError(f"precision 'int8' is for CPUs; on {device.type} use bfloat16 or float16")
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise ConfigError(f"precision 'int8' needs torch with oneDNN, which this torch {torch.__version__} lacks")


def _missing_parts(
    config: CopsConfig, *, clip: Mapping[str, Tensor], learned: Mapping[str, Tensor], seed: int
) -> dict[str, Tensor]:
    """Seeded weights for a part that is absent as a whole; a part given with gaps is an error for the check to name."""
    expected = expected_shapes(config)
    has_learned = any(name != NOISE for name in learned)
    absent = {
        name: shape
        for name, shape in expected.items()
        if name != NOISE and not (has_learned if name.startswith(LEARNED) else clip)
    }
    parts = random_tensors(absent, seed=seed)
    if NOISE not in learned:
        samples, width = expected[NOISE]
        parts[NOISE] = draw_class_noise(samples, width, seed=config.noise_seed)
    return parts
