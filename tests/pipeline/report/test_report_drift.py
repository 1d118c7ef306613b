"""Drift, worked out by hand and beside SciPy; and the rule that flags."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.report.drift import MIN_IMAGES, Drift, compare, holm, judge, ks, ks_p, psi, psi_p

DECILES = np.full(10, 100)


def test_psi_by_hand() -> None:
    """Two parts: 10 + 10 before, 15 + 5 now, half an image added to each: (p - q) ln(p / q) of both."""
    before, now = np.array([10, 10]), np.array([15, 5])
    shift, parts = psi(now, before)
    p, q = 15.5 / 21, 0.5
    expected = (p - q) * math.log(p / q) + (1 - p - q) * math.log((1 - p) / q)
    assert (round(shift, 9), parts) == (round(expected, 9), 2)


def test_psi_is_over_the_deciles_of_the_earlier_scores() -> None:
    """A thousand bins make ten parts of a tenth each; the textbook's shift of a tenth from first to last is 0.21…"""
    fine = np.ones(1000, int) * 10
    now = fine.copy()
    now[:100] -= 5
    now[900:] += 5
    shift, parts = psi(now, fine)
    assert parts == 10
    assert shift == pytest.approx((0.05 * math.log(2)) + 0.05 * math.log(1.5), rel=2e-3)


def test_equal_scores_make_fewer_parts() -> None:
    """All earlier scores alike: one part at them and one above, and a move out of it is seen."""
    before, now = np.array([0, 500, 0, 0]), np.array([0, 0, 0, 500])
    shift, parts = psi(now, before)
    assert parts == 2
    assert shift > 5
    assert psi(before, before) == (0.0, 2)
    assert compare(before, before).psi_p == 1.0


def test_ks_by_hand() -> None:
    """Cumulative 0.5, 1, 1 and 0, 0.5, 1: the largest distance is a half."""
    assert ks(np.array([2, 2, 0]), np.array([0, 3, 3])) == 0.5
    assert ks(DECILES, 7 * DECILES) == 0.0


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=200),
    st.lists(st.integers(0, 30), min_size=1, max_size=200),
)
def test_ks_is_its_definition(one: list[int], two: list[int]) -> None:
    """At every score the shares at or below it, side by side; ties among them."""
    counted = [np.bincount(side, minlength=31) for side in (one, two)]
    at_or_below = [[sum(score <= at for score in side) / len(side) for at in range(31)] for side in (one, two)]
    assert ks(*counted) == pytest.approx(max(abs(f - g) for f, g in zip(*at_or_below, strict=True)), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6])
def test_d_and_its_chance_are_scipys(shift: float) -> None:
    """Near the exact one from thirty images on, and rather above it than below."""
    rng = np.random.default_rng(3)
    one, two = rng.normal(shift, 1, 30), rng.normal(0, 1, 200)
    found = stats.ks_2samp(one, two, method="exact")
    counted = [np.searchsorted(np.sort(np.concatenate([one, two])), side) for side in (one, two)]
    assert ks(*(np.bincount(side, minlength=230) for side in counted)) == pytest.approx(found.statistic)
    assert found.pvalue <= ks_p(found.statistic, 30, 200) <= found.pvalue + 0.1


def test_holm_by_hand() -> None:
    """0.01 × 4, 0.02 × 3, 0.03 × 2, 0.9 × 1, none below one before it, none above 1."""
    assert holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.6, 0.5]) == [1.0, 1.0, 1.0]
    assert holm([]) == []


def test_too_few_images_are_told_nothing_of() -> None:
    """Below thirty on either side: no figure, no flag, and no test that the others' p-values pay for."""
    few, many = np.array([0, MIN_IMAGES - 1]), np.array([500, 500])
    for one, two in ((few, many), (many, few)):
        found = compare(one, two)
        assert (found.psi, found.ks, found.is_flagged) == (None, None, False)
    alone = compare(DECILES, DECILES[::-1])
    assert judge({"a": alone, "b": compare(few, many)})["a"] == judge({"a": alone})["a"]


@pytest.mark.parametrize(
    ("found", "flagged"),
    [
        ({"psi": 0.25, "psi_p": 0.009, "ks": 0.0}, True),
        ({"psi": 0.24, "psi_p": 1e-9, "ks": 0.0}, False),
        ({"psi": 0.25, "psi_p": 0.01, "ks": 0.0}, False),
        ({"psi": 0.0, "ks": 0.10, "ks_p": 0.009}, True),
        ({"psi": 0.0, "ks": 0.099, "ks_p": 1e-9}, False),
        ({"psi": 9.0, "psi_p": 0.5, "ks": 0.9, "ks_p": 0.5}, False),
    ],
)
def test_the_rule(found: dict[str, float], flagged: bool) -> None:
    """Large enough to matter, and more than chance gives: both, of one of the two measures."""
    assert Drift(images=100, before=100, **found).is_flagged == flagged


def test_chance_alone_is_seldom_flagged() -> None:
    """2,000 pairs of samples of one distribution, in nights of 20 groups: of these 100 at most a few are flagged."""
    rng = np.random.default_rng(0)
    nights = 0
    for _ in range(100):
        pairs = [(rng.integers(0, 1000, 60), rng.integers(0, 1000, 400)) for _ in range(20)]
        counted = [[np.bincount(side, minlength=1000) for side in pair] for pair in pairs]
        nights += any(one.is_flagged for one in judge({at: compare(*pair) for at, pair in enumerate(counted)}).values())
    assert nights <= 5


def test_psis_chance_is_what_chance_does() -> None:
    """Of samples of one distribution, a twentieth has a p below 0.05, more or less."""
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(1000):
        now, before = (np.bincount(rng.integers(0, 500, size), minlength=500) for size in (300, 900))
        shift, parts = psi(now, before)
        below += psi_p(shift, parts, 300, 900) < 0.05
    assert 25 <= below <= 80


def test_a_shift_is_found() -> None:
    """A tenth up on 200 images is flagged, by both measures."""
    rng = np.random.default_rng(2)
    now, before = (np.bincount((1000 * one).astype(int).clip(0, 999), minlength=1000)
                   for one in (rng.beta(2, 12, 200) + 0.1, rng.beta(2, 12, 2000)))  # fmt: skip
    found = judge({"a": compare(now, before)})["a"]
    assert (found.by_psi, found.by_ks) == (True, True)
