"""A threshold from scores of normal images alone: at most so many of them, and of their like, lie at or above it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A threshold and what is known of it; None where it is not.

    Args:    low, high: 95 % interval of the value that the target share of all such images reaches.
             rate_low, rate_high: 95 % interval of the share of such images that will reach the threshold.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None


def at_rate(scores: Scores, rate: float) -> Found:
    """The lowest threshold that a further image from the same source reaches with a chance of at most `rate`.

    It lies just above the k-th highest score, k = ⌊rate · (n + 1)⌋: of n + 1 images in random order, the last is among
    the k highest with a chance of k / (n + 1). That holds for every distribution, and with ties it only falls: how far
    is known from the images that do reach it, so the lower end of the share is theirs.
    Args:    scores: (n,), of distinct normal images.   rate: of false alarms, above 0 and below 1.
    Returns: no value where n is too small, or where the k-th highest score is the highest that there is.
    Source:  conformal prediction, Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World (2005), 2.2; the
             share of further images is Beta(k, n + 1 − k) at most, the interval of the quantile that of order
             statistics.
    """
    count = len(scores)
    allowed = math.floor(rate * (count + 1) + 1e-9)
    if allowed < 1:
        return Found()
    falling = np.sort(scores)[::-1]
    value = np.nextafter(falling[allowed - 1], np.float32(np.inf), dtype=np.float32)
    if value > 1:
        return Found()
    tail = (1 - CONFIDENCE) / 2
    reached = int((falling >= value).sum())
    # Of n images, how many lie above the quantile: between these two, with 95 %. That many down from the top it lies.
    above = stats.binom(count, rate)
    most, fewest = int(above.ppf(1 - tail)), int(above.ppf(tail))
    return Found(
        value=float(value),
        low=float(falling[most]) if most < count else None,
        high=float(falling[fewest - 1]) if fewest >= 1 else None,
        rate_low=float(stats.beta(reached, count + 1 - reached).ppf(tail)) if reached else 0.0,
        rate_high=float(stats.beta(allowed, count + 1 - allowed).ppf(1 - tail)),
    )


def share_interval(flagged: int, count: int) -> tuple[float, float]:
    """The exact 95 % interval of a share that was counted.

    Source:  Clopper and Pearson, Biometrika 26 (1934).
    """
    interval = stats.binomtest(flagged, count).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)
