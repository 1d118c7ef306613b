"""When a rate is said to be other than before: worked out by hand, beside SciPy, and in nights that are drawn."""

import numpy as np
import pytest
from scipy import stats

from pipeline.report.drift import ALPHA
from pipeline.report.rate_change import MIN_RUNS, RateChange, Stratum, compare, compare_groups
from pipeline.report.rates import Rate


def stratum(now: tuple[int, int], *before: tuple[int, int]) -> Stratum:
    return Stratum(Rate(*now), tuple(Rate(*one) for one in before))


@pytest.mark.parametrize("now", [(9, 60), (1, 60), (60, 60), (0, 60)])
def test_few_runs_are_held_to_fishers_test(now: tuple[int, int]) -> None:
    """SciPy's, the smaller side doubled; a spread that nobody knows takes nothing away."""
    before = [(2, 100), (3, 110), (1, 90)]
    found = compare([stratum(now, *before)])
    table = [[now[0], now[1] - now[0]], [6, 294]]
    sides = [stats.fisher_exact(table, side).pvalue for side in ("greater", "less")]
    assert found.p == pytest.approx(min(1, 2 * min(sides)))
    assert (found.before, found.now, found.runs) == (0.02, Rate(*now), 3)


def test_the_spread_of_nights_by_hand() -> None:
    """Rates of 0.5 % to 1.5 % in nights of 100,000: their own spread, and hardly chance, decides on 1.6 %."""
    shares = [0.005, 0.015, 0.006, 0.014, 0.007, 0.013, 0.008, 0.012]
    before = [(round(100_000 * share), 100_000) for share in shares]
    found = compare([stratum((1600, 100_000), *before)])
    counts = np.array([one for one, _ in before])
    t = (1600 - 1000) / np.sqrt(counts.var(ddof=1) * (1 + 1 / 8))
    assert found.p == pytest.approx(2 * stats.t.sf(t, 7), rel=0.05)
    steady = compare([stratum((1600, 100_000), *[(1000, 100_000)] * 8)])
    assert steady.p is not None and found.p is not None and steady.p < 1e-5 < found.p


def test_like_beside_like_by_hand() -> None:
    """Ten of 100 at a rate of 2 % and 300 at 10 %: 32 anomalies of 400 are what was expected."""
    found = compare([stratum((2, 100), *[(20, 1000)] * 6), stratum((30, 300), *[(10, 100)] * 6)])
    assert (found.before, found.now) == (pytest.approx(32 / 400), Rate(32, 400))
    assert found.direction == 0 and found.p is not None and found.p > 0.9


@pytest.mark.parametrize(
    ("now", "before", "direction"),
    [
        (0.016, 0.010, 1),
        (0.014, 0.010, 0),
        (0.451, 0.40, 1),
        (0.44, 0.40, 0),
        (0.010, 0.016, -1),
        (0.349, 0.40, -1),
        (0.010, 0.0, 1),
    ],
)
def test_what_is_large_enough(now: float, before: float, direction: int) -> None:
    """One and a half times, or five points: less is of no importance, however sure."""
    rate = Rate(round(now * 10_000), 10_000)
    assert RateChange(now=rate, before=before, p=0.0).direction == direction
    assert RateChange(now=rate, before=before, p=ALPHA).direction == 0


def test_what_is_too_small() -> None:
    """Fewer than 30 images before are left out of the sum; fewer than five now are not tested."""
    new, few = stratum((1, 1), (0, 29)), stratum((4, 4), (0, 30))
    assert compare([new]) == RateChange()
    assert (compare([few]).p, compare([few]).before) == (None, 0.0)
    assert compare([new, stratum((9, 60), (6, 300))]) == compare([stratum((9, 60), (6, 300))])
    assert compare([]) == RateChange()
    assert compare([stratum((5, 5), *[(0, 6)] * 5)]).p is not None


def test_p_is_corrected_for_all_that_is_tested() -> None:
    """Each group and all together: of two, the smallest of three."""
    strata = {"a": [stratum((9, 60), (6, 300))], "b": [stratum((2, 60), (6, 300))], "c": [stratum((1, 1))]}
    found, alone = compare_groups(strata), compare(strata["a"])
    assert alone.p is not None and found["a"].p == pytest.approx(3 * alone.p)
    assert (found["c"].p, found[None].now) == (None, Rate(11, 120))


def drawn(
    rng: np.random.Generator, *, groups: int, images: int, spread: float, runs: int = 14, times: float = 1.0
) -> dict[int | None, RateChange]:
    """Nights of a rate of 1 % that varies from one to the next; in the last one the first group's is `times` that."""
    rates = 0.01 * np.exp(rng.normal(0, spread, (runs + 1, groups)))
    rates[-1, 0] *= times
    counts = rng.binomial(images, rates)
    return compare_groups(
        {
            at: [stratum((int(counts[-1, at]), images), *((int(one), images) for one in counts[:-1, at]))]
            for at in range(groups)
        }
    )


def alarms(nights: int, **options: float) -> float:
    """The share of nights in which anything is said to be higher."""
    rng = np.random.default_rng(0)
    return sum(any(one.direction > 0 for one in drawn(rng, **options).values()) for _ in range(nights)) / nights


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"groups": 20, "images": 50_000, "spread": 0.15}, 0.05),
        ({"groups": 20, "images": 50_000, "spread": 0.3}, 0.12),
        ({"groups": 20, "images": 50_000, "spread": 0.15, "runs": MIN_RUNS}, 0.05),
        ({"groups": 300, "images": 100, "spread": 0.0}, 0.02),
        ({"groups": 20, "images": 500, "spread": 0.15}, 0.05),
    ],
)
def test_false_alarms_are_rare(options: dict[str, float], limit: float) -> None:
    """Of nights in which nothing changed but by chance and as nights do, in millions of images or in many groups."""
    assert alarms(60 if options["groups"] == 300 else 200, **options) <= limit


def test_a_real_doubling_is_found() -> None:
    """Of one category of twenty in a night of a million; nothing else is said to be higher then."""
    rng = np.random.default_rng(1)
    found = [drawn(rng, groups=20, images=50_000, spread=0.15, times=2.0) for _ in range(100)]
    assert sum(one[0].direction > 0 for one in found) >= 80
    assert sum(any(one[at].direction > 0 for at in range(1, 20)) for one in found) <= 5
