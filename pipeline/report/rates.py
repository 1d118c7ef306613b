"""Rates with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z_95 = 1.959964  # of a standard normal, so much lies within ± it


@dataclass(frozen=True)
class Rate:
    """A share of images and its 95 % interval (Wilson's score interval, sound for few images and shares of 0 and 1)."""

    part: int
    whole: int

    @property
    def share(self) -> float | None:
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float]:
        """Source:  Wilson, JASA 22 (1927), 209-212."""
        if not self.whole:
            return 0.0, 1.0
        share, square = self.part / self.whole, _Z_95**2
        middle = (share + square / (2 * self.whole)) / (1 + square / self.whole)
        half = _Z_95 / (1 + square / self.whole)
        half *= math.sqrt(share * (1 - share) / self.whole + square / (4 * self.whole**2))
        low = 0.0 if self.part == 0 else max(0.0, middle - half)
        return low, 1.0 if self.part == self.whole else min(1.0, middle + half)

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.part + other.part, self.whole + other.whole)


NONE = Rate(0, 0)
"""Of no images."""
