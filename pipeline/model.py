"""The run's model: read once by the driver, shared with every actor through the object store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

import cops
from cops.checkpoint import EMBEDDED
from cops.config import CopsConfig
from cops.zero_shot import ZeroShotClip, zero_shot_id
from pipeline.config import Method, ScoreConfig
from pipeline.errors import InputError
from pipeline.storage import open_root, redact


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the run needs to know of its model without holding it. `method` is the detector that is made of it."""

    name: str
    method: Method
    model_id: str
    precision: str
    image_size: int
    sigma_px: float
    trained: bool
    provenance: dict[str, Any]


@dataclass(frozen=True)
class SharedModel:
    """A checkpoint whose tensors lie in Ray's object store: actors of one node read the same memory."""

    card: ModelCard
    config: CopsConfig
    weights: list[ray.ObjectRef]  # in a list, so that Ray hands on the reference and not a copy

    def build(self, device: str, threads: int) -> cops.CoPS | ZeroShotClip:
        """The detector on a device of the calling process."""
        torch.set_num_threads(threads)
        arrays: dict[str, np.ndarray[Any, Any]] = ray.get(self.weights[0])
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        checkpoint = cops.Checkpoint(self.config, self.card.provenance, tensors)
        model = cops.from_checkpoint(checkpoint, device, self.card.precision)
        if self.card.method == "cops":
            return model
        return ZeroShotClip(model, zero_shot_id(checkpoint, self.card.precision))


def read_model(model: str, clip_weights: str | None = None) -> cops.Checkpoint:
    """The checkpoint that a job asks for: a packaged name, a local file, or a file in a store.

    Raises:  CheckpointError: it cannot be used; says why.   InputError: there is no such file.
    """
    if "://" not in model:
        if model != EMBEDDED and not Path(model).exists():
            raise InputError(f"--model: there is no file {model}; expected a checkpoint, or {EMBEDDED!r}")
        return cops.read_checkpoint(model, clip_weights=clip_weights)
    root = open_root(model)
    try:
        content = root.fs.cat_file(root.path)
    except FileNotFoundError as exc:
        raise InputError(f"--model: there is no {redact(model)}") from exc
    return cops.read_checkpoint(content, clip_weights=clip_weights)


def card_of(checkpoint: cops.Checkpoint, config: ScoreConfig) -> ModelCard:
    """Raises:  ConfigError: the model cannot be used by the method: it does not know the words of its prompts."""
    precision = "float32" if config.precision == "auto" else config.precision
    is_cops = config.method == "cops"
    return ModelCard(
        name=redact(config.model),
        method=config.method,
        model_id=checkpoint.model_id(precision) if is_cops else zero_shot_id(checkpoint, precision),
        precision=precision,
        image_size=checkpoint.config.image_size,
        sigma_px=checkpoint.config.sigma_px,
        trained=checkpoint.provenance.get("trained") is True,
        provenance=checkpoint.provenance,
    )


def share(checkpoint: cops.Checkpoint, card: ModelCard) -> SharedModel:
    arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
    return SharedModel(card, checkpoint.config, [ray.put(arrays)])


def builder(model: SharedModel, device: str, threads: int) -> partial[cops.CoPS | ZeroShotClip]:
    return partial(model.build, device, threads)
