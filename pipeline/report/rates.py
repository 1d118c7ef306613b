"""Rates with their intervals, and when one is said to have changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z_95, _Z_99 = 1.959964, 2.575829  # of a standard normal, so much lies within ± them
# Two 95 % intervals are apart by chance in one of sixty comparisons with 14 times as many images: of 20 groups, in
# every third night. Two 99 % intervals, in one of some hundreds.
RATE_RULE = "Higher or lower: the 99 % intervals of this rate and the earlier one, by the same threshold, do not meet"


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
        return self._interval(_Z_95)

    def _interval(self, z: float) -> tuple[float, float]:
        """Source:  Wilson, JASA 22 (1927), 209-212."""
        if not self.whole:
            return 0.0, 1.0
        share, square = self.part / self.whole, z**2
        middle = (share + square / (2 * self.whole)) / (1 + square / self.whole)
        half = z / (1 + square / self.whole)
        half *= math.sqrt(share * (1 - share) / self.whole + square / (4 * self.whole**2))
        low = 0.0 if self.part == 0 else max(0.0, middle - half)
        return low, 1.0 if self.part == self.whole else min(1.0, middle + half)

    def changed_from(self, before: Rate) -> int:
        """1 where it is higher than before, -1 where lower, 0 where the two 99 % intervals meet."""
        (low, high), (low_before, high_before) = self._interval(_Z_99), before._interval(_Z_99)
        return 1 if low > high_before else -1 if high < low_before else 0

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.part + other.part, self.whole + other.whole)
