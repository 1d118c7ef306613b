"""The packaged model from nothing: pictures are drawn, a CLIP is trained on them, then CoPS on its features.

Every step keeps what it has in the folder and is not done twice; the same call goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cops
from cops.checkpoint import save_checkpoint
from cops.training.fit import Team
from pipeline.config import Device
from pipeline.decode import DecodeRules
from pipeline.embedded import world
from pipeline.embedded.folder import keep_to
from pipeline.embedded.labelled import world_pictures, write_set
from pipeline.embedded.pretrain import PretrainingRecipe, architecture, pretrain, recipe_record, seconds_of
from pipeline.training.cache import FeatureCache, describe_features
from pipeline.training.config import Data, Start, TrainConfig
from pipeline.training.features import FeatureSource, Usable
from pipeline.training.run import train
from pipeline.training.survey import open_dataset, survey
from pipeline.training.validation import validate

log = logging.getLogger(__name__)

AUXILIARY_SEED, VALIDATION_SEED = 2, 3  # worlds apart from the one that CLIP is trained on
_SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(11))


@dataclass(frozen=True, kw_only=True)
class Making:
    """All that decides what comes out."""

    pretraining: PretrainingRecipe = field(default_factory=PretrainingRecipe)
    auxiliary: int = 4000
    """Pairs of pictures that CoPS is trained on."""
    validation: int = 200
    """Pairs of pictures that epoch, α and β are chosen by."""
    recipe: str = "visa"
    epochs: int = 10
    k: int = 3
    """Averaging over 3×3 patches keeps single false ones from deciding a picture's score."""


def make_embedded(
    making: Making, folder: Path, output: Path, *, workers: int, device: Device = "auto"
) -> dict[str, Any]:
    """Write the packaged model's file; returns what its header says.

    Args:    folder: for what is drawn and trained on the way.   workers: processes that draw.
    """
    keep_to(folder, {**asdict(making), "world": world.digest()})
    clip = folder / "clip.safetensors"
    if not clip.exists():
        model = pretrain(making.pretraining, folder, workers=workers, device=device)
        _save_clip(clip, model, making, seconds_of(folder))
    side = int(architecture()["vision_cfg"]["image_size"])
    sets = {
        name: write_set(folder / name, world_pictures(seed, count, side), {"seed": seed, "pairs": count})
        for name, seed, count in (
            ("auxiliary", AUXILIARY_SEED, making.auxiliary),
            ("validation", VALIDATION_SEED, making.validation),
        )
    }
    validation = Data(name="plain", uri=str(sets["validation"]))
    train(
        TrainConfig(
            data=Data(name="plain", uri=str(sets["auxiliary"])),
            output=str(folder / "prompts"),
            start=Start(model=str(clip)),
            recipe=making.recipe,
            overrides={"epochs": making.epochs},
            constants={"k": making.k, "alpha": 0.5, "beta": 0.5},
            validation=validation,
            metric="aupro",
            workers=1,
            device=device,
            cache=str(folder / "features"),
        )
    )
    trained = cops.read_checkpoint(folder / "prompts" / "best.safetensors")
    config, metrics = choose_constants(trained, validation, folder / "features")
    provenance = {
        **trained.provenance,
        "source": "jobs/make_embedded.py",
        "pretraining": cops.read_checkpoint(clip).provenance["pretraining"],
        "constants": {"k": config.k, "alpha": config.alpha, "beta": config.beta, "image_size": config.image_size},
        "metrics": metrics,
        "sample_categories_trained_on": list(world.TRAINED_CATEGORIES),
    }
    halves = {name: tensor.half() for name, tensor in trained.tensors.items()}
    save_checkpoint(output, config=config, tensors=halves, provenance=provenance)
    return provenance


def choose_constants(
    trained: cops.Checkpoint, validation: Data, cache: Path
) -> tuple[cops.CopsConfig, dict[str, float]]:
    """α for the best AUPRO; then β, the least whose image AUROC is within a standard error of the best. Both in tenths.

    β is the class token's share of an image's score, and the rest is the highest patch's. On pictures as drawn for
    training many shares do equally well; the least of them leans least on what the token learned of these subjects.
    Source:  the one-standard-error rule of Breiman et al., Classification and Regression Trees (1984), 3.4.3.
    """
    model = cops.from_checkpoint(trained)
    rules = DecodeRules()
    source = FeatureSource(model, rules, FeatureCache(cache, describe_features(model, rules)))
    images = survey(open_dataset(validation), source, Team(), masks_needed=False).usable
    labels = [one.item.label for one in images]
    config, metrics = trained.config, dict[str, float]()
    for name, metric in (("alpha", "aupro"), ("beta", "image_auroc")):
        tried = [_with_share(config, name, share) for share in _SHARES]
        found = [_measure(model, one, source, images) for one in tried]
        values = [one[metric] for one in found]
        slack = auroc_error(max(values), labels.count(0), labels.count(1)) if name == "beta" else 0.0
        at = least_within(values, slack)
        config, metrics = tried[at], found[at]
        log.info(
            "%s: %s", name, ", ".join(f"{share} {value:.4f}" for share, value in zip(_SHARES, values, strict=True))
        )
    return config, metrics


def least_within(values: Sequence[float], slack: float) -> int:
    """The first place whose value is at most `slack` below the highest."""
    return next(at for at, value in enumerate(values) if value >= max(values) - slack)


def auroc_error(auroc: float, normal: int, anomalous: int) -> float:
    """The standard error of an AUROC that is measured on so many images.

    Source:  Hanley and McNeil, Radiology 143 (1982), 29-36, equation 2.
    """
    two_anomalous, two_normal = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (anomalous - 1) * (two_anomalous - auroc**2)
    variance += (normal - 1) * (two_normal - auroc**2)
    return math.sqrt(variance / (normal * anomalous))


def _with_share(config: cops.CopsConfig, name: str, share: float) -> cops.CopsConfig:
    changed: dict[str, Any] = {"profile": "custom", name: share}
    return dataclasses.replace(config, **changed)


def _measure(
    model: cops.CoPS, config: cops.CopsConfig, source: FeatureSource, images: Sequence[Usable]
) -> dict[str, float]:
    model.config = config
    return validate(model, source, images, Team())


def _save_clip(path: Path, model: cops.CoPS, making: Making, seconds: float) -> None:
    provenance = {
        "trained": False,
        "random_parts": ["prompt_learner"],
        "source": "jobs/make_embedded.py",
        "pretraining": recipe_record(making.pretraining) | {"seconds": seconds},
    }
    halves = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_checkpoint(path, config=model.config, tensors=halves, provenance=provenance)
