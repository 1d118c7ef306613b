"""Scores as counts: any number of them in bounded memory, and fine enough that nothing is lost to look at.

A bin is a float32 with the first 11 bits of its mantissa: 0.05 % of the score wide, at 0.001 as at 0.9, so that a
category whose scores are all small is told as finely as another. What is below 2⁻²⁰ is one bin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.signedinteger]  # one number for each bin
Scores = npt.NDArray[np.float32]

_LEAST, _DROPPED_BITS = np.float32(2.0**-20), 12
_FIRST = int(_LEAST.view(np.uint32)) >> _DROPPED_BITS
BINS = (int(np.float32(1.0).view(np.uint32)) >> _DROPPED_BITS) - _FIRST + 2


def bins_of(scores: Scores) -> npt.NDArray[np.int64]:
    """The bin of each score; of 1 and above, the last."""
    held = np.clip(scores, _LEAST, np.float32(1.0))
    bins = (held.view(np.uint32) >> _DROPPED_BITS).astype(np.int64) - (_FIRST - 1)
    bins[scores < _LEAST] = 0
    return bins


def _lower_ends() -> npt.NDArray[np.float64]:
    bits = (np.arange(BINS - 1, dtype=np.uint32) + np.uint32(_FIRST)) << np.uint32(_DROPPED_BITS)
    return np.concatenate([[0.0], bits.view(np.float32).astype(np.float64)])


SCORE_OF_BIN = _lower_ends()


def quantile(counts: Counts, share: float) -> float | None:
    """The least score with that share of all at or below it, to a bin; None where there are no scores."""
    total = counts.sum()
    if not total:
        return None
    return float(SCORE_OF_BIN[np.searchsorted(np.cumsum(counts), max(1.0, share * total))])


def in_steps(counts: Counts, top: float, steps: int) -> npt.NDArray[np.float64]:
    """Shares of all scores in equal steps from 0 to `top`; what is above counts in the last one."""
    ends = np.linspace(0.0, top, steps + 1)
    found, _ = np.histogram(np.minimum(SCORE_OF_BIN, top), bins=ends, weights=counts)
    shares: npt.NDArray[np.float64] = found / max(1, counts.sum())
    return shares
