"""Rates, counts of scores, and how numbers are told."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.report.histograms import BINS, SCORE_OF_BIN, bins_of, in_steps, quantile
from pipeline.report.rates import Rate
from pipeline.report.reasons import MEANINGS, meaning
from pipeline.report.words import difference, group_name, interval, listed, p_value, percent, score
from pipeline.schema import Reason


@pytest.mark.parametrize(("part", "whole"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 1000), (0, 1)])
def test_wilsons_interval(part: int, whole: int) -> None:
    """SciPy's, to seven digits."""
    expected = stats.binomtest(part, whole).proportion_ci(0.95, method="wilson")
    assert Rate(part, whole).interval == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_wilsons_interval_by_hand() -> None:
    """One of ten: (0.1 + 0.19207) / 1.38415 ± 1.95996 / 1.38415 · √(0.009 + 0.0096037)."""
    middle, half = 0.29207 / 1.38415, 1.95996 / 1.38415 * math.sqrt(0.009 + 0.0096037)
    assert Rate(1, 10).interval == pytest.approx((middle - half, middle + half), abs=1e-4)
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert Rate(0, 0).share is None


@given(st.integers(0, 200), st.integers(0, 200))
def test_an_interval_holds_its_rate(part: int, more: int) -> None:
    """And lies within 0 and 1."""
    rate = Rate(part, part + more)
    low, high = rate.interval
    assert 0 <= low <= (rate.share or 0) <= high <= 1


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200))
def test_bins_are_in_the_order_of_scores(scores: list[float]) -> None:
    """Each score's bin begins at or below it, and 0.05% higher ends; the order stays."""
    values = np.sort(np.array(scores, np.float32))
    bins = bins_of(values)
    assert (np.diff(bins) >= 0).all()
    assert (bins >= 0).all() and (bins < BINS).all()
    starts = SCORE_OF_BIN[bins]
    assert (starts <= values).all()
    fine = values >= 2.0**-20
    assert (values[fine] < starts[fine] * (1 + 2.0**-10)).all()


def test_scores_beyond_the_scale_are_counted() -> None:
    """Another detector's score above 1 in the last bin, one below 0 in the first."""
    assert bins_of(np.array([-3, 0, 1, 2], np.float32)).tolist() == [0, 0, BINS - 1, BINS - 1]


def test_quantiles_and_steps_by_hand() -> None:
    """Ten scores 0.1 … 1.0: the fifth is the median; four steps to 1 hold 2, 2, 3, 3 of them."""
    counts = np.bincount(bins_of(np.arange(1, 11, dtype=np.float32) / 10), minlength=BINS)
    assert quantile(counts, 0.5) == pytest.approx(0.5, rel=1e-3)
    assert quantile(counts, 1.0) == pytest.approx(1.0)
    assert quantile(np.zeros(BINS, int), 0.5) is None
    assert (10 * in_steps(counts, 1.0, 4)).round().tolist() == [2, 2, 3, 3]
    assert (10 * in_steps(counts, 0.45, 1)).tolist() == [10], "what is above counts in the last step"


def test_every_reason_has_a_meaning() -> None:
    """Also one of another version."""
    assert set(MEANINGS) == set(Reason)
    assert meaning("empty") == "a file of no bytes, or a null cell"
    assert meaning("<b>") == "a reason of another version"


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (None, "–"), (0.0, "0%"), (1.0, "100%"), (0.034, "3.4%"), (0.0012, "0.12%"), (0.00003, "0.003%"),
        (0.000001, "< 0.001%"), (0.9994, "99.9%"), (0.99999, "> 99.9%"),
    ],
)  # fmt: skip
def test_percent(share: float | None, told: str) -> None:
    """With the digits that tell small shares apart; all or nothing where it is just that."""
    assert percent(share) == told


def test_words() -> None:
    """Small scores and p-values stay apart from 0; a long list is cut; an empty name is seen."""
    assert [score(value) for value in (None, 0.0, 0.5, 0.00123)] == ["–", "0.000", "0.500", "0.0012"]
    assert [p_value(value) for value in (0.00001, 0.0012, 0.5)] == ["< 0.0001", "0.0012", "0.50"]
    assert [difference(value) for value in (0.45, -0.0004, 0.0)] == ["+0.450", "-0.0004", "+0.000"]
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert group_name((None, ""), ("category", "line")) == '(no category) · ""'
    assert group_name((), ("category",)) == "(all others)"
    assert interval(Rate(1, 10)) == "1.8–40.4%"
