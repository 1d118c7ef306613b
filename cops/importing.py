"""Published weights into our checkpoint, with the constants that their file does not hold."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import Tensor

import cops
from cops.assembly import NOISE, config_of_parts
from cops.checkpoint import check_finite, compare_tensors, expected_shapes, find_clip, save_checkpoint
from cops.class_tokens import draw_class_noise
from cops.clip_weights import file_sha256
from cops.config import CopsConfig, profile_named
from cops.errors import ConfigError
from cops.published import LEARNED, read_published


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Turn published CoPS weights (.pth) into a checkpoint of this project."""

    weights: Annotated[Path, tyro.conf.Positional]
    """The published file, with the key prompt_learner."""
    profile: str
    """Which k, α and β go with the weights: paper, published-visa or published-mvtec. The file does not say."""
    output: Path
    """The checkpoint to write (.safetensors)."""
    backbone: str = "ViT-L-14-336-quickgelu"
    """open_clip's name of the CLIP model, or a .json file with such a model's config."""
    pretrained: str | None = None
    """open_clip's tag of the CLIP weights: openai where None. A .json backbone has none."""
    image_size: int = 518
    """Side of the square that the model sees, px."""
    noise_seed: int = 0
    """Seed of the fixed bank of class noise, which is stored."""
    clip_weights: Path | None = None
    """A local CLIP file, whose checksum is recorded in the checkpoint."""
    clip_sha256: str | None = None
    """Checksum to accept for it, where it is not OpenAI's own."""
    include_backbone: bool = False
    """Store CLIP's weights as well, so that the checkpoint needs no other file."""

    def __post_init__(self) -> None:
        profile_named(self.profile)


def import_weights(options: ImportOptions) -> Path:
    """Write the checkpoint and give its path back.

    Raises:  CheckpointError: the file is none of the published kind, does not fit the backbone, or CLIP cannot be had.
             ConfigError: there is no such backbone or profile.
    """
    learned = read_published(options.weights)
    backbone, pretrained = find_backbone(options.backbone, options.pretrained)
    config = config_of_parts(
        backbone,
        learned,
        image_size=options.image_size,
        pretrained=pretrained,
        profile=options.profile,
        noise_seed=options.noise_seed,
    )
    learned |= _noise(config)
    expected = {name: shape for name, shape in expected_shapes(config).items() if name.startswith(LEARNED)}
    compare_tensors(expected, learned, label=str(options.weights))
    check_finite(learned, label=str(options.weights))
    save_checkpoint(
        options.output,
        config=config,
        tensors=learned | _clip(config, options),
        provenance=_provenance(options),
    )
    return options.output


def find_backbone(backbone: str, pretrained: str | None) -> tuple[str | dict[str, Any], str | None]:
    """A backbone and the tag of its weights: open_clip's names, or the config that a .json file holds.

    Raises:  ConfigError: the file is no such config, or a tag is given with it.
    """
    if not backbone.endswith(".json"):
        return backbone, pretrained or "openai"
    if pretrained is not None:
        raise ConfigError(f"--pretrained {pretrained} goes with open_clip's name of a backbone, not a file")
    try:
        config = json.loads(Path(backbone).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read the backbone config {backbone}: {exc}") from exc
    if not isinstance(config, dict):
        raise ConfigError(f"{backbone} holds no model config of open_clip")
    return config, None


def _noise(config: CopsConfig) -> dict[str, Tensor]:
    samples, width = expected_shapes(config)[NOISE]
    return {NOISE: draw_class_noise(samples, width, seed=config.noise_seed)}


def _clip(config: CopsConfig, options: ImportOptions) -> dict[str, Tensor]:
    """CLIP's weights to store with the others. Given or stored, they are read, so that a wrong file shows here."""
    if options.clip_weights is None and not options.include_backbone:
        return {}
    clip = find_clip(config, options.clip_weights, accepted=options.clip_sha256)
    expected = {name: shape for name, shape in expected_shapes(config).items() if not name.startswith(LEARNED)}
    compare_tensors(expected, clip, label=str(options.clip_weights or options.pretrained))
    return {name: smallest(tensor) for name, tensor in clip.items()} if options.include_backbone else {}


def smallest(tensor: Tensor) -> Tensor:
    """float16 where that loses nothing, as with OpenAI's weights, which were published in it."""
    half = tensor.half()
    return half if half.float().equal(tensor) else tensor


def _provenance(options: ImportOptions) -> dict[str, Any]:
    recorded = {"clip_sha256": file_sha256(options.clip_weights)} if options.clip_weights else {}
    return {
        "trained": True,
        "source": options.weights.name,
        "source_sha256": file_sha256(options.weights),
        "noise_seed": options.noise_seed,
        "created_by": f"cops {cops.__version__}",
        **recorded,
    }
