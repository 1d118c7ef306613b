"""Metrics held against scikit-learn, brute force, and values worked out by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from pipeline.metrics import PixelCounts, rank_images


def make_maps(seed, *, count=4, side=24, anomalous=3):
    """Maps of few distinct values, so that there are ties, with blobs as masks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), bool)
    for mask in masks[:anomalous]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, side - 3, 2)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    maps = np.round(rng.random(masks.shape) * 0.7 + masks * 0.3, rng.integers(1, 4)).astype(np.float16)
    return maps, masks


def count(maps, masks):
    counts = PixelCounts()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(anomaly_map, mask)
    return counts


def brute_force_aupro(maps, masks, limit):
    """Every distinct value as threshold, every region by itself."""
    regions = []
    for at, mask in enumerate(masks):
        labels, found = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(at, labels == number) for number in range(1, found + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        overlap = np.mean([found[at][region].mean() for at, region in regions])
        points.append((found[~masks].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 == x0 else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_pixel_metrics_are_those_of_scikit_learn(seed):
    """Counting by value loses nothing: AUROC, AP and F1-max to 1e-9 of all pixels in one list."""
    maps, masks = make_maps(seed)
    ranking = count(maps, masks).ranking()
    labels, scores = masks.ravel(), maps.ravel().astype(np.float64)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert ranking.auroc().value == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-9)
    assert ranking.average_precision().value == pytest.approx(
        sklearn_metrics.average_precision_score(labels, scores), abs=1e-9
    )
    assert ranking.f1_max().value == pytest.approx(f1.max(), abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=40)
def test_aupro_is_that_of_brute_force(seed, limit):
    """Thresholding at every value and looking at every region gives the same area."""
    maps, masks = make_maps(seed)
    assert count(maps, masks).aupro(limit).value == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_monotone_changes_change_no_metric(seed):
    """Metrics see the order of the scores alone."""
    maps, masks = make_maps(seed)
    values, places = np.unique(maps, return_inverse=True)
    moved = np.linspace(-3, 9, len(values)).astype(np.float16)[places].reshape(maps.shape)
    one, two = count(maps, masks), count(moved, masks)
    assert two.aupro().value == pytest.approx(one.aupro().value, abs=1e-12)
    assert two.ranking().auroc().value == pytest.approx(one.ranking().auroc().value, abs=1e-12)
    assert two.ranking().average_precision().value == pytest.approx(one.ranking().average_precision().value, abs=1e-12)


def test_counts_of_shards_add_up():
    """Two shards' counts are those of the whole."""
    maps, masks = make_maps(5)
    parts = count(maps[:1], masks[:1]) + count(maps[1:], masks[1:])
    whole = count(maps, masks)
    assert parts.aupro().value == pytest.approx(whole.aupro().value, abs=1e-12)
    np.testing.assert_array_equal(parts.anomalous, whole.anomalous)
    np.testing.assert_array_equal(parts.normal, whole.normal)
    assert parts.regions == whole.regions


def test_aupro_by_hand():
    """Two regions of 1 and 3 pixels, 10 normal pixels; values 4 to 1."""
    mask = np.array([[1, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool)
    scores = np.array([[4, 3, 2, 2, 2, 1, 1], [1, 1, 1, 1, 1, 1, 1]], np.float16)
    # Points (0, 1/2), (1/10, 1/2), (1/10, 1), then 1: to 0.3 the area is 0.05 + 0.2.
    assert count([scores], [mask]).aupro().value == pytest.approx(0.25 / 0.3)


@pytest.mark.parametrize(("limit", "expected"), [(0.3, 0.0), (0.6, 0.5), (1.0, 0.7)])
def test_aupro_ends_where_the_curve_first_reaches_the_limit(limit, expected):
    """Three of ten normal pixels rank first, then the region: a step up at 0.3 is no part of the area before it."""
    mask = np.array([[0] * 10 + [1, 1]], bool)
    scores = np.array([[3] * 3 + [1] * 7 + [2, 2]], np.float16)
    assert count([scores], [mask]).aupro(limit).value == pytest.approx(expected)


def test_regions_touch_at_corners():
    """Pixels that touch at a corner are one region."""
    counts = count([np.zeros((2, 2), np.float16)], [np.eye(2, dtype=bool)])
    assert counts.regions == 1


def test_negative_values_and_both_zeros_keep_their_order():
    """−1 < −0 = 0 < 1, in float16's bits too."""
    scores = np.array([[-1, -0.0, 0.0, 1]], np.float16)
    mask = np.array([[False, False, True, True]])
    assert count([scores], [mask]).ranking().auroc().value == pytest.approx(3.5 / 4)


@pytest.mark.parametrize(
    ("mask", "reason"), [(np.zeros((2, 2), bool), "no anomalous pixel"), (np.ones((2, 2), bool), "no normal pixel")]
)
def test_undefined_pixel_metrics_are_none_with_the_reason(mask, reason):
    """One class alone has no metric, never 0 nor 1."""
    counts = count([np.ones((2, 2), np.float16)], [mask])
    ranking = counts.ranking()
    for metric in (counts.aupro(), ranking.auroc(), ranking.average_precision(), ranking.f1_max()):
        assert (metric.value, metric.reason) == (None, reason)


def test_image_metrics_by_hand():
    """Four images, one pair in the wrong order."""
    ranking = rank_images([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    assert ranking.auroc().value == pytest.approx(0.75)
    assert ranking.average_precision().value == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert ranking.f1_max().value == pytest.approx(0.8)


@pytest.mark.parametrize(("labels", "reason"), [([0, 0], "no anomalous image"), ([1, 1], "no normal image")])
def test_undefined_image_metrics_are_none_with_the_reason(labels, reason):
    """Sets without normal images, as of polyps, have no image metric."""
    assert rank_images([0.1, 0.2], labels).average_precision().reason == reason


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, np.nan], [0, 1], "finite"),
        ([0.1, 0.2], [0, 2], "labels 0"),
        ([0.1, 0.2], [0], "as many labels"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, labels, message):
    """Bad scores and labels are named."""
    with pytest.raises(ValueError, match=message):
        rank_images(scores, labels)


def test_maps_that_cannot_be_counted_are_refused():
    """NaN, and a mask of another size."""
    with pytest.raises(ValueError, match="NaN"):
        PixelCounts().add(np.full((2, 2), np.nan), np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="size"):
        PixelCounts().add(np.zeros((2, 2)), np.ones((2, 3), bool))
