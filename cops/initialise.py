"""Seeded random weights for a model's missing parts, scaled so that scores differ between pictures."""

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

# Standard deviations of what is no weight matrix, near those of trained CLIP and CoPS models.
SPREADS = {
    "class_embedding": 0.5,
    "positional_embedding": 0.2,
    "token_embedding.weight": 0.3,
    "ctx_pos": 0.3,
    "ctx_neg": 0.3,
    "t_n": 0.3,
    "t_a": 0.3,
}
DEEP_SPREAD = 0.3
GAIN = 1.2  # of weight matrices: a little above 1, so that residual branches are not drowned by their input
LOGIT_SCALE = math.log(1 / 0.07)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], *, seed: int) -> dict[str, Tensor]:
    """Seeded weights for the named shapes. Each depends on its own name and the seed alone, not on its neighbours."""
    return {name: random_tensor(name, shape, seed=seed) for name, shape in shapes.items()}


def random_tensor(name: str, shape: tuple[int, ...], *, seed: int) -> Tensor:
    owner, _, kind = name.rpartition(".")
    if name == "logit_scale":
        return torch.full(shape, LOGIT_SCALE)
    if owner.rpartition(".")[2].startswith("ln_"):
        return torch.ones(shape) if kind == "weight" else torch.zeros(shape)
    if kind.endswith("bias"):
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
    return torch.empty(shape).normal_(std=_spread(name, shape), generator=generator)


def _spread(name: str, shape: tuple[int, ...]) -> float:
    for ending, spread in SPREADS.items():
        if name.endswith(ending):
            return spread
    if "compound_prompts_text" in name:
        return DEEP_SPREAD
    # The projections stand the other way round: they multiply from the right.
    fan_in = shape[0] if name in ("visual.proj", "text_projection") else math.prod(shape[1:])
    return GAIN / math.sqrt(fan_in)
