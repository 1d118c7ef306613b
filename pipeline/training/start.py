"""The model that training starts from: frozen CLIP as given, and prompts drawn from the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

import cops
from cops.assembly import NOISE, assemble
from cops.checkpoint import expected_shapes
from cops.class_tokens import draw_class_noise
from cops.clip_weights import file_sha256, published_sha256
from cops.importing import find_backbone, smallest
from cops.published import ENCODER, LEARNED
from cops.training.initial import initial_tensors
from cops.training.objective import Learner
from pipeline.errors import InputError
from pipeline.model import read_model
from pipeline.training.config import Start, TrainConfig

FULL_SIZE = 518  # px, the paper's


@dataclass(frozen=True)
class Base:
    """Where CLIP's weights are from: the checkpoint to train in, how it is named, and what its file has to record."""

    checkpoint: cops.Checkpoint
    name: str
    record: dict[str, Any]
    """`clip_sha256`, where CLIP's weights stay in a file of their own and its checksum is known."""

    @property
    def random_clip(self) -> bool:
        return "clip" in self.checkpoint.provenance.get("random_parts", ())


def read_base(config: TrainConfig) -> Base:
    """The model to train in, with k, α and β of the recipe; what it has learned before is not used.

    Raises:  CheckpointError: its weights cannot be used.   ConfigError: it cannot be built so, as where the image size
             is no multiple of the patch.   InputError: there is no such file.
    """
    start = config.start
    base = _of_backbone(start) if start.backbone else _of_checkpoint(start)
    size = start.image_size or base.checkpoint.config.image_size
    values = config.find_constants() | {"image_size": size, "noise_seed": config.find_recipe().seed}
    changed = dataclasses.replace(base.checkpoint.config, **values)
    expected_shapes(changed)  # refuses what cannot be built
    return dataclasses.replace(base, checkpoint=dataclasses.replace(base.checkpoint, config=changed))


def make_learner(base: Base, seed: int, device: torch.device) -> Learner:
    """CLIP as it is given, and around it what is to be learned, drawn from the seed."""
    config, given = base.checkpoint.config, base.checkpoint.tensors
    shapes = expected_shapes(config)
    learned = {name: shape for name, shape in shapes.items() if name.startswith(LEARNED) and name != NOISE}
    tensors = {name: given[name] for name in shapes if not name.startswith(LEARNED)}
    tensors |= initial_tensors(learned, seed=seed)
    tensors[NOISE] = draw_class_noise(*shapes[NOISE], seed=seed)
    learner = Learner(cops.from_checkpoint(cops.Checkpoint(config, {}, tensors)))
    of_encoder = {ENCODER + name: tuple(tensor.shape) for name, tensor in learner.encoder.state_dict().items()}
    drawn = initial_tensors(of_encoder, seed=seed)
    learner.encoder.load_state_dict({name.removeprefix(ENCODER): tensor for name, tensor in drawn.items()})
    return learner.to(device)


def tensors_to_save(base: Base, learner: Learner) -> Mapping[str, Tensor]:
    """What a trained checkpoint holds: CLIP's weights, too, where the base's file had them."""
    learned = {LEARNED + name: tensor for name, tensor in learner.model.prompt_learner.state_dict().items()}
    if not base.checkpoint.own_clip:
        return learned
    clip = {name: tensor for name, tensor in base.checkpoint.tensors.items() if not name.startswith(LEARNED)}
    return {name: smallest(tensor) for name, tensor in clip.items()} | learned


def _of_checkpoint(start: Start) -> Base:
    checkpoint = read_model(start.model, start.clip_weights)
    name = PurePosixPath(start.model).name
    known = checkpoint.provenance.get("clip_sha256") or _sha256(start, checkpoint)
    return Base(checkpoint, name, {} if checkpoint.own_clip or not known else {"clip_sha256": known})


def _of_backbone(start: Start) -> Base:
    assert start.backbone
    backbone, pretrained = find_backbone(start.backbone, start.pretrained)
    if pretrained is None and start.clip_weights is None:
        raise InputError(f"--backbone {PurePosixPath(start.backbone).name}: give its weights by --clip-weights")
    checkpoint = assemble(
        backbone,
        image_size=start.image_size or FULL_SIZE,
        pretrained=pretrained,
        clip_weights=start.clip_weights,
        clip_sha256=start.clip_sha256,
    )
    checkpoint = dataclasses.replace(checkpoint, own_clip=False)
    known = _sha256(start, checkpoint)
    return Base(checkpoint, PurePosixPath(start.backbone).name, {"clip_sha256": known} if known else {})


def _sha256(start: Start, checkpoint: cops.Checkpoint) -> str | None:
    if start.clip_weights:
        return file_sha256(start.clip_weights)
    return published_sha256(checkpoint.config.backbone, checkpoint.config.pretrained)
