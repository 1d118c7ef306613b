"""What training starts from: the published code's initial weights, drawn from a seed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

SPREAD = 0.02  # standard deviation of learned tokens, queries, deep prompts and linear layers


def initial_tensors(shapes: Mapping[str, tuple[int, ...]], *, seed: int) -> dict[str, Tensor]:
    """Initial weights for the named shapes of a prompt learner or an encoder.

    Each depends on its own name and the seed alone, so that a part more or less shifts no other.
    Source:  the published training code; differs: it draws from torch's global generator, one after another.
    """
    return {name: _initial_tensor(name, shape, seed=seed) for name, shape in shapes.items()}


def _initial_tensor(name: str, shape: tuple[int, ...], *, seed: int) -> Tensor:
    owner, _, kind = name.rpartition(".")
    if kind.endswith("bias"):
        return torch.zeros(shape)
    if owner.rpartition(".")[2].startswith("ln_"):
        return torch.ones(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
    if kind == "in_proj_weight":  # of attention, which the published code leaves as torch makes it: Xavier, uniform
        bound = math.sqrt(6 / sum(shape))
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return torch.empty(shape).normal_(std=SPREAD, generator=generator)
