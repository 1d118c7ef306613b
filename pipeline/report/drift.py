"""Whether scores are distributed as they were: PSI and Kolmogorov-Smirnov, and the rule that flags.

Both sides are counts over the same bins, in the order of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, kolmogorov

Counts = npt.NDArray[np.signedinteger]
Weighed = npt.NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

MIN_IMAGES = 30  # on either side
PSI_LIMIT, KS_LIMIT, ALPHA = 0.25, 0.10, 0.01
_PARTS = 10  # deciles of the earlier scores
DRIFT_RULE = (
    f"Flagged: PSI ≥ {PSI_LIMIT:.2f}, or KS D ≥ {KS_LIMIT:.2f}, and chance alone would do that with p < {ALPHA:.2f}, "
    f"Holm-corrected over all tests of this table; at least {MIN_IMAGES} images on either side"
)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Two samples of scores compared; the p-values are those of chance alone, after `judge` corrected for all of them.

    Args:    images, before: how many on either side.   psi, ks: None where there are too few.
    """

    images: int
    before: int
    psi: float | None = None
    psi_p: float = 1.0
    ks: float | None = None
    ks_p: float = 1.0

    @property
    def by_psi(self) -> bool:
        return self.psi is not None and self.psi >= PSI_LIMIT and self.psi_p < ALPHA

    @property
    def by_ks(self) -> bool:
        return self.ks is not None and self.ks >= KS_LIMIT and self.ks_p < ALPHA

    @property
    def is_flagged(self) -> bool:
        return self.by_psi or self.by_ks


def compare(now: Counts, before: Counts | Weighed) -> Drift:
    """Both measures of two samples, uncorrected."""
    images, earlier = int(now.sum()), round(float(before.sum()))
    if min(images, earlier) < MIN_IMAGES:
        return Drift(images=images, before=earlier)
    shift, parts = psi(now, before)
    distance = ks(now, before)
    return Drift(
        images=images, before=earlier, psi=shift, psi_p=psi_p(shift, parts, images, earlier),
        ks=distance, ks_p=ks_p(distance, images, earlier),
    )  # fmt: skip


def alike(pairs: Sequence[tuple[Counts, Counts]]) -> tuple[Counts, Weighed] | None:
    """Several groups' scores as one pair of samples, like beside like: the earlier ones by this time's mix of groups,
    and as many of them as tell as much (Kish's number). Groups of fewer than `MIN_IMAGES` before are left out; None
    where that are all.
    """
    pairs = [(now, before) for now, before in pairs if now.sum() and before.sum() >= MIN_IMAGES]
    if not pairs:
        return None
    weights = [now.sum() / before.sum() for now, before in pairs]
    sizes = [before.sum() for _, before in pairs]
    weighed = sum((weight * before for weight, (_, before) in zip(weights, pairs, strict=True)), np.zeros(1))
    told = sum(weight * size for weight, size in zip(weights, sizes, strict=True))
    squares = sum(weight**2 * size for weight, size in zip(weights, sizes, strict=True))
    return np.sum([now for now, _ in pairs], axis=0), weighed * (told / squares)


def psi(now: Counts, before: Counts | Weighed) -> tuple[float, int]:
    """The population stability index Σ (p - q) ln(p / q) over the deciles of the earlier scores, and how many parts
    these make (equal scores make fewer). Half an image is added to each part, so that an empty one has a logarithm.

    Source:  Siddiqi, Credit Risk Scorecards (2006): below 0.10 no shift, 0.10 to 0.25 some, from 0.25 on a large one.
    """
    reached = np.cumsum(before)
    ends = np.unique(np.searchsorted(reached, reached[-1] * np.arange(1, _PARTS) / _PARTS))  # each part's last bin
    starts = np.concatenate([[0], ends + 1])
    starts = starts[starts < len(before)]
    p, q = (np.add.reduceat(side, starts) + 0.5 for side in (now, before))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q))), len(starts)


def psi_p(shift: float, parts: int, images: int, before: int) -> float:
    """How likely chance alone gives such a PSI: it is near (1/n + 1/m) times a χ² of parts - 1 degrees of freedom.

    Source:  Yurdakul and Naranjo, Journal of Risk Model Validation 14 (2020), 89-100.
    """
    return float(chdtrc(parts - 1, shift / (1 / images + 1 / before))) if parts > 1 else 1.0


def ks(now: Counts, before: Counts | Weighed) -> float:
    """Kolmogorov and Smirnov's D: the largest distance of the two cumulative distributions."""
    return float(np.max(np.abs(np.cumsum(now) / now.sum() - np.cumsum(before) / before.sum())))


def ks_p(distance: float, images: int, before: int) -> float:
    """How likely chance alone gives such a D, for many images; for few, or equal scores, it is rather less likely."""
    return float(kolmogorov(distance * math.sqrt(images * before / (images + before))))


def judge(found: Mapping[Key, Drift]) -> dict[Key, Drift]:
    """The same with p-values corrected for as many tests as there are of the lot: two for each with enough images."""
    tested = [key for key, one in found.items() if one.psi is not None]
    corrected = holm([p for key in tested for p in (found[key].psi_p, found[key].ks_p)])
    pairs = zip(corrected[::2], corrected[1::2], strict=True)
    judged = {
        key: replace(found[key], psi_p=of_psi, ks_p=of_ks) for key, (of_psi, of_ks) in zip(tested, pairs, strict=True)
    }
    return dict(found) | judged


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected so that all of them together err with no more than their limit.

    Source:  Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    corrected, highest = [1.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        corrected[at] = highest
    return corrected
