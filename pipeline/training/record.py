"""What a training says of itself: in its folder, in the log, and in the header of each checkpoint."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import cops
from cops.training.fit import EpochLosses
from pipeline.commit import git_commit, versions
from pipeline.datasets import Dataset
from pipeline.errors import InputError, RunError
from pipeline.progress import duration
from pipeline.training.config import LOSS, Metric, TrainConfig
from pipeline.training.folder import Epoch, Folder
from pipeline.training.start import Base
from pipeline.training.survey import Survey

FORMAT = "cops-training-record/1"
_REMARKS = ("created_by", "git_commit", "versions")  # another version may go on
_NOT_OF_A_CHECKPOINT = ("format", "versions", "listed")


def identity(config: TrainConfig, base: Base, dataset: Dataset, validation: Dataset | None) -> dict[str, Any]:
    """What decides the result, as far as it is known before any image is read."""
    model = base.checkpoint.config
    found = {
        "recipe": asdict(config.find_recipe()),
        "constants": {"k": model.k, "alpha": model.alpha, "beta": model.beta, "image_size": model.image_size},
        "base_model": {"name": base.name, "model_id": base.checkpoint.model_id(), "random_clip": base.random_clip},
        "metric": config.chosen_by,
        "decode": {name: getattr(config.decode, name) for name in ("bit_depth_range", "alpha_background")},
        "listed": {"auxiliary": _listing(dataset), "validation": validation and _listing(validation)},
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(found))
    return as_stored


def describe(known: Mapping[str, Any], trained_on: Survey, validated_on: Survey | None) -> dict[str, Any]:
    """An identity with what was found in the datasets, their hashes, and what it runs on."""
    about = dict(known) | {
        "format": FORMAT,
        "auxiliary_dataset": trained_on.describe(),
        "created_by": f"cops {cops.__version__}",
        "git_commit": git_commit(),
        "versions": versions(),
    }
    return about | ({"validation_dataset": validated_on.describe()} if validated_on else {})


def _listing(dataset: Dataset) -> str:
    """Name and images of a dataset as they are listed, in short: tells another one before any image is read."""
    digest = hashlib.sha256()
    for one in dataset.images:
        paths = [(uri or "").removeprefix(dataset.root) for uri in (one.image_uri, one.mask_uri)]
        digest.update(json.dumps([*paths, one.label, one.category]).encode())
    return f"{dataset.name}, {len(dataset.images)} images, {digest.hexdigest()[:12]}"


def refuse_other(known: Mapping[str, Any], now: Mapping[str, Any], folder: Folder) -> None:
    """Raises:  InputError: the folder holds a training of other values; names each of them."""
    found = list(differences(known, {name: value for name, value in now.items() if name not in _REMARKS}))
    if found:
        raise InputError(
            f"--output: the training in {folder.root} was begun otherwise: {'; '.join(found)}. "
            "Give the same values, or another --output"
        )


def differences(known: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What is not as it was, of the names that both have: `recipe.seed was 0, is now 1`."""
    for name in sorted(set(known) & set(now)):
        before, after = known[name], now[name]
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} was {before!r}, is now {after!r}"


def epoch_record(
    number: int, losses: EpochLosses, metrics: dict[str, float], *, seconds: float, chosen_by: Metric
) -> Epoch:
    """Raises:  RunError: the loss is no number any more.   InputError: there is nothing to choose the epoch by."""
    if not math.isfinite(losses.total):
        raise RunError(
            f"epoch {number}: the loss is {losses.total}, {losses.losses}; a lower --learning-rate may help, with "
            "another --output"
        )
    if chosen_by not in (LOSS, *metrics):
        raise InputError(f"--metric {chosen_by}: the validation set gives none; there are {', '.join(metrics)}")
    return {
        "epoch": number,
        "loss": losses.total,
        "losses": losses.losses,
        "metrics": metrics,
        "seconds": round(seconds, 3),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def best_of(epochs: Sequence[Epoch], metric: Metric) -> Epoch:
    """The epoch to keep: of the lowest loss, or of the highest value of another metric; of equal ones the first."""
    if metric == LOSS:
        return min(epochs, key=lambda epoch: epoch["loss"])
    return max(epochs, key=lambda epoch: epoch["metrics"][metric])


def line(epoch: Epoch, metric: Metric) -> str:
    """`loss 5.4670, image_auroc 0.5469, 19 s`; the log has the other metrics."""
    value = f", {metric} {epoch['metrics'][metric]:.4f}" if metric != LOSS else ""
    return f"loss {epoch['loss']:.4f}{value}, {duration(epoch['seconds'])}"


def provenance(about: Mapping[str, Any], base: Base, epoch: Epoch) -> dict[str, Any]:
    """A checkpoint's own account. No path and nothing of this machine is in it."""
    return {
        **{name: value for name, value in about.items() if name not in _NOT_OF_A_CHECKPOINT},
        **base.record,
        "trained": True,
        "source": "jobs/train.py",
        "seed": about["recipe"]["seed"],
        **{name: epoch[name] for name in ("epoch", "loss", "losses", "metrics")},
    }
