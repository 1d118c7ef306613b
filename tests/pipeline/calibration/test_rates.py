"""A threshold at a rate of false alarms: worked out by hand, and held on draws whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.calibration.config import images_for_rate
from pipeline.calibration.rates import at_rate, share_interval


def rising(count: int) -> np.ndarray:
    return (np.arange(count) / 1000).astype(np.float32)


def test_one_of_a_hundred() -> None:
    """99 images and 1 %: the 100th may be the highest. The threshold lies just above the highest of the 99."""
    found = at_rate(rising(99), 0.01)
    assert found.value == np.nextafter(np.float32(0.098), np.float32(1))
    assert found.high is None  # no score of 99 bounds the quantile from above
    assert found.rate_high == pytest.approx(1 - 0.025 ** (1 / 99))  # Beta(1, 99), in closed form
    assert found.rate_low == 0  # none of the 99 reaches it


def test_five_of_a_hundred() -> None:
    """With 5 % the five highest of a hundred may be flagged: the threshold lies just above the fifth of 99."""
    found = at_rate(rising(99), 0.05)
    assert found.value == np.nextafter(np.float32(0.094), np.float32(1))
    assert found.rate_low == pytest.approx(stats.beta(4, 96).ppf(0.025))  # four of the 99 reach it
    assert found.rate_high == pytest.approx(stats.beta(5, 95).ppf(0.975))


@pytest.mark.parametrize(("rate", "least"), [(0.01, 99), (0.05, 19), (0.001, 999), (0.5, 1), (0.3, 3)])
def test_fewer_images_cannot_hold_the_rate(rate: float, least: int) -> None:
    """One image less, and even a threshold above all of them would be reached too often."""
    assert images_for_rate(rate) == least
    assert at_rate(rising(least), rate).value is not None
    assert at_rate(rising(least - 1), rate).value is None


def test_equal_scores_are_flagged_together_or_not_at_all() -> None:
    """Many images with the highest score: the threshold is above them."""
    scores = np.array([0.5] * 50 + [0.1] * 149, np.float32)
    found = at_rate(scores, 0.05)
    assert found.value == np.nextafter(np.float32(0.5), np.float32(1))
    assert found.rate_low == 0  # and it may be that nothing ever reaches it


@pytest.mark.parametrize("steps", [5, 20, 60, 200])
def test_the_interval_holds_with_ties(steps: int) -> None:
    """Of scores that take a few values only, the true share lies in it in 95 % of calibrations, or more."""
    generator = np.random.default_rng(5)
    shares = []
    for _ in range(2_000):
        found = at_rate((generator.integers(steps, size=300) / steps).astype(np.float32), 0.02)
        if found.value is not None:
            truth = (np.arange(steps) / steps >= found.value).mean()
            shares.append((found.rate_low <= truth, truth <= found.rate_high))
    assert np.mean(shares, axis=0).min() >= 0.97


def test_no_threshold_above_the_highest_possible_score() -> None:
    """Where normal images score 1, nothing in 0..1 parts them from others."""
    assert at_rate(np.ones(200, np.float32), 0.01).value is None


def test_the_rate_holds_on_further_images() -> None:
    """Of uniform scores the share of further images at or above a threshold t is 1 − t: on average k / (n + 1)."""
    generator = np.random.default_rng(3)
    shares = [1 - at_rate(generator.random(199, np.float32), 0.05).value for _ in range(4_000)]
    sure = 4 * np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - 0.05) < sure < 0.002


def test_the_intervals_hold_what_they_promise() -> None:
    """In 95 % of calibrations, or more: the true quantile in its interval, the rate to come in its own."""
    generator = np.random.default_rng(4)
    found = [at_rate(generator.random(500, np.float32), 0.02) for _ in range(2_000)]
    quantile = np.mean([(one.low or 0) <= 0.98 <= (one.high or 1) for one in found])
    to_come = np.mean([one.rate_low <= 1 - one.value <= one.rate_high for one in found])
    assert quantile >= 0.945
    assert 0.945 <= to_come < 0.98


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=300), st.sampled_from([0.01, 0.02, 0.1, 0.5]))
def test_never_more_than_the_target_on_the_images_themselves(values: list[float], rate: float) -> None:
    """Whatever the scores: at most rate · (n + 1) reach the threshold, and one lower would break it."""
    scores = np.array(values, np.float32)
    found = at_rate(scores, rate)
    if found.value is None:
        return
    allowed = rate * (len(scores) + 1) + 1e-6
    assert (scores >= np.float32(found.value)).sum() <= allowed
    assert (scores >= np.nextafter(np.float32(found.value), np.float32(-1))).sum() + 1 > allowed - 1


def test_a_counted_share() -> None:
    """Clopper and Pearson by their definition: at each end such a count, or a more extreme one, has 2.5 %."""
    low, high = share_interval(3, 50)
    assert stats.binom.sf(2, 50, low) == pytest.approx(0.025, abs=1e-6)
    assert stats.binom.cdf(3, 50, high) == pytest.approx(0.025, abs=1e-6)
