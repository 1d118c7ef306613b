"""The threshold with the highest F1, by hand and beside every other threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calibration.f1 import at_f1_max, with_interval
from pipeline.metrics import PixelCounts, rank_images


def f1(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    flagged = scores >= np.float32(threshold)
    return 2 * (flagged & (labels == 1)).sum() / max(1, flagged.sum() + (labels == 1).sum())


def test_half_way_between_the_two_scores_that_it_parts() -> None:
    """Normal 0.1 and 0.5, anomalous 0.4, 0.75, 1: flagging from 0.4 on has F1 6/7, which nothing beats."""
    ranking = rank_images([0.1, 0.5, 0.4, 0.75, 1.0], [0, 0, 1, 1, 1])
    found = at_f1_max(ranking)
    assert found.value == pytest.approx(0.25)
    assert ranking.f1_max().value == pytest.approx(6 / 7)
    assert found.rate_low < 0.5 < found.rate_high  # one of two normal images reaches it


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0]), st.sampled_from([0, 1])), min_size=2, max_size=30)
)
def test_no_other_threshold_is_better(rows: list[tuple[float, int]]) -> None:
    """As the table compares them, in float32."""
    scores, labels = np.array([row[0] for row in rows], np.float32), np.array([row[1] for row in rows])
    found = at_f1_max(rank_images(scores, labels))
    if len(set(labels)) < 2:
        assert found.value is None
        return
    best = max(f1(scores, labels, one) for one in scores)
    assert f1(scores, labels, found.value) == pytest.approx(best)
    assert f1(scores, labels, found.value) == pytest.approx(rank_images(scores, labels).f1_max().value)


def test_neighbouring_numbers_are_parted() -> None:
    """Between two neighbouring float32 there is no half way: the higher one is the threshold."""
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    found = at_f1_max(rank_images([float(low), float(high)], [0, 1]))
    assert np.float32(found.value) == high


def test_the_interval_is_the_same_every_time_and_holds_the_value() -> None:
    """Drawn from a seed of its own; clearly parted scores leave the threshold between them."""
    generator = np.random.default_rng(1)
    scores = np.concatenate([generator.uniform(0, 0.4, 80), generator.uniform(0.6, 1, 20)])
    ranking = rank_images(scores, [0] * 80 + [1] * 20)
    found = with_interval(at_f1_max(ranking), ranking)
    assert found == with_interval(at_f1_max(ranking), ranking)
    assert 0.3 < found.low <= found.value <= found.high < 0.7


def test_pixels() -> None:
    """Counts of pixels by value: values between which no pixel lies are no neighbours."""
    counts = PixelCounts()
    heat = np.full((4, 4), 0.25, np.float32)
    mask = np.zeros((4, 4), bool)
    heat[0], mask[0] = 0.75, True
    counts.add(heat, mask)
    assert at_f1_max(counts.ranking()).value == pytest.approx(0.5)
