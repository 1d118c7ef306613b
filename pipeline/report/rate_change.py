"""Whether a rate is other than before: beyond chance, beyond what nights differ by anyway, and enough to matter."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import special, stats

from pipeline.report.drift import ALPHA, holm
from pipeline.report.rates import NONE, Rate

MIN_BEFORE, MIN_NOW = 30, 5  # images
MIN_RUNS = 5  # whose own rates tell by how much nights differ
RATIO, POINTS = 1.5, 0.05
RATE_RULE = (
    f"Higher or lower: {RATIO} times the rate before (or that part of it) or {100 * POINTS:.0f} points apart, and "
    f"p < {ALPHA:.2f}, Holm-corrected over all tests of this table, by Fisher's exact test and, from {MIN_RUNS} "
    f"trailing runs on, by a t-test against the spread of their own rates, too; at least {MIN_BEFORE} images before "
    f"and {MIN_NOW} now"
)

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class Stratum:
    """Images that are alike: of this time, and of each trailing run."""

    now: Rate
    before: tuple[Rate, ...] = ()

    @property
    def is_comparable(self) -> bool:
        return self.now.whole > 0 and self.images_before >= MIN_BEFORE

    @property
    def images_before(self) -> int:
        return sum(rate.whole for rate in self.before)


@dataclass(frozen=True, kw_only=True)
class RateChange:
    """A rate beside the one before; p is that of chance alone, after `judge` corrected for all tests of a table.

    Args:    now: of the strata that can be compared.   before: what the trailing runs' rates come to with this time's
             mix of strata; None where nothing is comparable.   p: None where there are too few images to test.
             runs: trailing runs with such images; of fewer than `MIN_RUNS`, chance is that of counting alone.
    """

    now: Rate = NONE
    before: float | None = None
    p: float | None = None
    runs: int = 0

    @property
    def direction(self) -> int:
        """1 where it is higher than before, -1 where lower, 0 where nothing can be said."""
        if self.p is None or not self.p < ALPHA or self.before is None or self.now.share is None:
            return 0
        low, high = sorted((self.before, self.now.share))
        is_large = high >= RATIO * low or high - low >= POINTS
        return (1 if self.now.share > self.before else -1) if is_large else 0


def compare_groups(groups: Mapping[Group, Sequence[Stratum]]) -> dict[Group | None, RateChange]:
    """Each group, and under None all of them together; p-values corrected for as many tests as that makes."""
    weighed = {group: _Weighed(alike) for group, strata in groups.items() if (alike := _comparable(strata))}
    usual = _spread(list(weighed.values())) if len(weighed) > 1 else None
    found: dict[Group | None, RateChange] = {
        group: _change(weighed[group], usual) if group in weighed else RateChange() for group in groups
    }
    found[None] = compare([stratum for strata in groups.values() for stratum in strata])
    tested = {group: one.p for group, one in found.items() if one.p is not None}
    corrected = zip(tested, holm(list(tested.values())), strict=True)
    return found | {group: replace(found[group], p=p) for group, p in corrected}


def compare(strata: Sequence[Stratum]) -> RateChange:
    """Like with like: of each stratum as many images as there are now, at the rate that it had before."""
    alike = _comparable(strata)
    return _change(_Weighed(alike), None) if alike else RateChange()


def _comparable(strata: Sequence[Stratum]) -> list[Stratum]:
    return [stratum for stratum in strata if stratum.is_comparable]


def _change(weighed: _Weighed, usual: float | None) -> RateChange:
    p = max(weighed.p_of_counting(), weighed.p_of_nights(usual)) if weighed.now.whole >= MIN_NOW else None
    return RateChange(now=weighed.now, before=weighed.expected / weighed.now.whole, p=p, runs=weighed.runs)


class _Weighed:
    """Strata with the trailing runs' rates, weighed by this time's images."""

    def __init__(self, strata: Sequence[Stratum]) -> None:
        images = np.array([stratum.now.whole for stratum in strata], np.float64)
        parts = np.array([[rate.part for rate in stratum.before] for stratum in strata], np.float64)  # (stratum, run)
        wholes = np.array([[rate.whole for rate in stratum.before] for stratum in strata], np.float64)
        parts, wholes = (side[:, wholes.sum(axis=0) > 0] for side in (parts, wholes))
        shares = parts.sum(axis=1) / wholes.sum(axis=1)
        held = (parts.sum(axis=1) + 0.5) / (wholes.sum(axis=1) + 1)  # 0 of a few is no rate of 0
        of_one = held * (1 - held)  # the variance of one image
        self.now = sum((stratum.now for stratum in strata), NONE)
        self.expected = float(images @ shares)
        self.runs = wholes.shape[1]
        self._variance = float(images @ of_one)
        # How many earlier images of this time's mix would tell the rate as well as those that there are.
        self._before = float(images.sum() * self._variance / np.sum(images**2 * of_one / wholes.sum(axis=1)))
        self._weights = wholes.sum(axis=0) / wholes.sum()  # of the runs
        by_run, variances = shares @ wholes, of_one @ wholes
        squares = (parts.sum(axis=0) - by_run) ** 2
        self.excess = float(np.sum(squares / variances)) - (self.runs - 1)
        self.room = float(np.sum(by_run**2 / variances * (1 - self._weights)))

    def p_of_counting(self) -> float:
        """Fisher's exact test, two-sided by doubling: as if nights differed by chance alone."""
        before = max(1, round(self._before))
        part = round(before * self.expected / self.now.whole)
        table = (self.now.whole + before, self.now.part + part, self.now.whole)
        above = stats.hypergeom.sf(self.now.part - 1, *table)
        return min(1.0, 2 * float(min(above, stats.hypergeom.cdf(self.now.part, *table))))

    def p_of_nights(self, usual: float | None) -> float:
        """A t-test of this time's number, whose variance holds what nights differ by, too; 0 of few trailing runs.

        Args:    usual: the spread of all groups' rates, which counts as much as the group's own.
        """
        if self.runs < MIN_RUNS:
            return 0.0
        own, freedom = _spread([self]), self.runs - 1
        spread, freedom = (own, freedom) if usual is None else ((own + usual) / 2, 2 * freedom)
        by_chance = self._variance * (1 + self.now.whole / self._before)
        by_night = spread * self.expected**2 * (1 + float(np.sum(self._weights**2)))
        t = abs(self.now.part - self.expected) / math.sqrt(by_chance + by_night)
        return float(2 * special.stdtr(freedom, -t))


def _spread(several: Sequence[_Weighed]) -> float:
    """By how much the rates of runs differ beyond chance: their variance as a part of the rate's square, by moments.

    Source:  Williams, Applied Statistics 31 (1982), 144-148, with a variance of m p (1 - p) + spread (m p)².
    """
    room = sum(one.room for one in several)
    return max(0.0, sum(one.excess for one in several) / room) if room > 0 else 0.0
