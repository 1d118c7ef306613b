"""What calibration needs of anomaly maps, rebuilt from `patch_scores`: each image's peak, or pixels by value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cops.maps import anomaly_map
from pipeline.calibration.rates import CONFIDENCE, Found, Scores
from pipeline.localize import hot_crop
from pipeline.masks import patch_grid
from pipeline.metrics import VALUES, ordered_values, value_order

BLOCKS = 50
"""Into so many parts the images are dealt; parts are drawn again for the interval, for pixels of an image are alike."""
_NEAR_THE_TOP = 0.9
_DRAWS = 1_000
_SEED = 20_250_803  # any; the same one gives the same interval

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """A task's work: the highest value of each image's map, at the size of the original, as its mask is made from."""

    image_size: int
    sigma_px: float

    def __call__(self, table: pa.Table) -> Scores:
        return np.array([self._peak(row) for row in table.to_pylist()], np.float32)

    def _peak(self, row: Mapping[str, Any]) -> np.float32:
        """The map is made where it can reach a level just below the S×S map's peak; mostly that is a small part."""
        grid, size_hw = patch_grid(row), (row["height"], row["width"])
        level = float(anomaly_map(grid, image_size=self.image_size, sigma_px=self.sigma_px).max())
        while True:
            level *= _NEAR_THE_TOP
            part, _ = hot_crop(grid, level, image_size=self.image_size, sigma_px=self.sigma_px, size_hw=size_hw)
            if part.size and part.max() >= level:  # nothing outside of the part reaches the level
                return np.float32(part.max())


@dataclass(frozen=True, kw_only=True)
class PixelValues:
    """A task's work: pixels of S×S maps by value, as of `pipeline.metrics.PixelCounts`; every image counts alike."""

    image_size: int
    sigma_px: float

    def __call__(self, table: pa.Table) -> Counts:
        counts = np.zeros(VALUES, np.int64)
        for row in table.to_pylist():
            heat = anomaly_map(patch_grid(row), image_size=self.image_size, sigma_px=self.sigma_px)
            counts += np.bincount(value_order(heat).ravel(), minlength=VALUES)
        return counts


def at_pixel_rate(counts: Counts, rate: float) -> Found:
    """The lowest float16 value that at most `rate` of all pixels reach.

    Args:    counts: (blocks, values), pixels of each block of images by value.
    Returns: intervals by drawing as many blocks again, with replacement; None of them from a single block.
    """
    filled = counts[counts.sum(axis=1) > 0]
    if not len(filled):
        return Found()
    values = ordered_values()
    place = _place(filled.sum(axis=0), rate)
    if values[place] > 1:
        return Found()
    found = Found(value=float(values[place]))
    if len(filled) == 1:
        return found
    generator = np.random.default_rng(_SEED)
    places, shares = [], []
    for _ in range(_DRAWS):
        times = np.bincount(generator.integers(len(filled), size=len(filled)), minlength=len(filled))
        drawn = times @ filled
        places.append(_place(drawn, rate))
        shares.append(drawn[place:].sum() / drawn.sum())
    tail = (1 - CONFIDENCE) / 2
    low, high = (int(np.quantile(places, at, method="nearest")) for at in (tail, 1 - tail))
    rate_low, rate_high = (float(np.quantile(shares, at)) for at in (tail, 1 - tail))
    interval = {"low": float(values[low]), "high": min(1.0, float(values[high]))}
    return replace(found, **interval, rate_low=rate_low, rate_high=rate_high)


def _place(counts: Counts, rate: float) -> int:
    """The first value from which on there are no more than the share `rate` of pixels.

    One above the value that is counted last: a pixel was rounded to float16, and may have been a little above it.
    """
    at_or_above = np.cumsum(counts[::-1])[::-1]
    return int(np.flatnonzero(at_or_above > rate * counts.sum()).max()) + 1
