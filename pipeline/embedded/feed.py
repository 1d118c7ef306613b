"""Batches of training pictures: each drawn from its number alone, so that any run can be done again or gone on with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cops.config import CopsConfig
from cops.training.pretraining import CaptionedBatch
from pipeline.embedded.captions import STATES, caption
from pipeline.embedded.pool import Pool
from pipeline.samples.catalog import stream

_DAMAGED_PX = 6.0  # of a view: less shows nothing


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training: how many steps, of how many pairs, and how much of a picture each shows."""

    steps: int
    pairs: int
    grid: int
    """Patches across a view. Views of fewer than the model's are windows of a picture, of a chance size."""
    crowds: float = 0.0
    """The share of scenes of many pieces."""
    peak: float = 0.0
    """`PretrainingWeights.peak`, for views that are whole pictures."""


@dataclass(frozen=True)
class _Pair:
    pixels: Float[Tensor, "2 3 s s"]
    coverage: Float[Tensor, "2 n"]
    captions: tuple[str, str]
    kinds: tuple[int, int]


class Pictures(Dataset[_Pair]):
    """Pairs of a phase by their number in the whole training."""

    def __init__(self, config: CopsConfig, phase: Phase, pool: Pool, *, seed: int, first: int, count: int) -> None:
        self.config, self.phase, self.pool, self.seed = config, phase, pool, seed
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> _Pair:
        index, patch = self.first + at, _patch_px(self.config)
        drawn, rng = self.pool[index], stream(self.seed, 78, index)
        planes = [drawn.normal, drawn.damaged, drawn.mask.astype(np.float32)]
        shown = self.phase.grid * patch
        if shown < self.pool.side:
            planes = _window(planes, shown, rng)
        *pictures, mask = _turned(planes, rng)
        cells = mask.reshape(self.phase.grid, patch, self.phase.grid, patch).mean(axis=(1, 3)).reshape(-1)
        state = drawn.state if mask.sum() > _DAMAGED_PX else None
        shade = _shade(rng)
        return _Pair(
            pixels=torch.stack([normalise(picture @ shade, self.config) for picture in pictures]),
            coverage=torch.from_numpy(np.stack([np.zeros_like(cells), cells])),
            captions=(caption(drawn.noun, None, rng), caption(drawn.noun, state, rng)),
            kinds=(-1, -1 if state is None else list(STATES).index(state)),
        )


def batches(
    config: CopsConfig, phase: Phase, pool: Pool, *, seed: int, first: int, steps: int, workers: int
) -> Iterator[CaptionedBatch]:
    """The batches of so many steps, from pair `first` on."""
    yield from DataLoader(
        Pictures(config, phase, pool, seed=seed, first=first, count=steps * phase.pairs),
        batch_size=phase.pairs,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,  # OpenMP does not outlive a fork
    )


def normalise(picture: np.ndarray, config: CopsConfig) -> Float[Tensor, "3 s s"]:
    """A picture (s, s, 3) from 0 to 255 as the model's input."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.pixel_mean, config.pixel_std))
    return (pixels - mean) / std


def _window(planes: list[np.ndarray], shown: int, rng: Generator) -> list[np.ndarray]:
    """The same chance square of each plane, more often than not on the defect, brought to the size shown."""
    side = planes[0].shape[0]
    width = round(side * math.exp(rng.uniform(math.log(shown / side), 0)))
    top, left = rng.integers(0, side - width + 1, 2)
    rows, cols = np.nonzero(planes[-1])
    if rows.size and rng.uniform() < 0.85:
        pick = int(rng.integers(rows.size))
        top = int(np.clip(rows[pick] - rng.integers(0, width), 0, side - width))
        left = int(np.clip(cols[pick] - rng.integers(0, width), 0, side - width))
    how = cv2.INTER_AREA if width > shown else cv2.INTER_LINEAR
    return [
        cv2.resize(
            np.ascontiguousarray(plane[top : top + width, left : left + width]), (shown, shown), interpolation=how
        )
        for plane in planes
    ]


def _turned(planes: list[np.ndarray], rng: Generator) -> list[np.ndarray]:
    """Turned by right angles and mirrored, all alike."""
    quarters, step = int(rng.integers(4)), -1 if rng.uniform() < 0.5 else 1
    return [np.ascontiguousarray(np.rot90(plane, quarters)[:, ::step]) for plane in planes]


def _shade(rng: Generator) -> Float[np.ndarray, "3 3"]:
    """A change of colours: another light, and now and then the channels in another order."""
    order = rng.permutation(3) if rng.uniform() < 0.3 else np.arange(3)
    return np.eye(3, dtype=np.float32)[order] * np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)).astype(np.float32)


def _patch_px(config: CopsConfig) -> int:
    assert isinstance(config.backbone, dict)
    return int(config.backbone["vision_cfg"]["patch_size"])


def _collate(pairs: list[_Pair]) -> CaptionedBatch:
    return CaptionedBatch(
        pixels=torch.cat([pair.pixels for pair in pairs]),
        coverage=torch.cat([pair.coverage for pair in pairs]),
        captions=[text for pair in pairs for text in pair.captions],
        kinds=torch.tensor([kind for pair in pairs for kind in pair.kinds]),
    )


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
