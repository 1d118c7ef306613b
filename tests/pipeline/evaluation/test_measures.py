"""Metrics of categories and their mean: what is undefined is None with the reason, and is in no mean."""

import numpy as np
import pytest
from making import counted

from pipeline.evaluation.counting import Counted
from pipeline.evaluation.measures import NO_SOUND_MASK, mean_of, measure
from pipeline.metrics import METRICS, NO_MASK, Curve, rank_images


def reasons(found):
    return {name: metric.reason for name, metric in found.metrics.items() if metric.value is None}


def test_a_category_has_all_seven_metrics():
    """By the field's names; image metrics are of images, pixel metrics of those whose masks are sound."""
    category = counted()
    category.marked = (3, 2)
    found = measure("c", category)
    assert tuple(found.metrics) == METRICS and not reasons(found)
    assert found.metrics["I-AUROC"] == rank_images(category.scores, category.labels).auroc()
    assert found.metrics["AUPRO@0.3"] == category.pixels.aupro()
    assert (found.counted("I-AP"), found.counted("AUPRO@0.3"), found.counted("P-AP")) == ((3, 3), (3, 2), (3, 2))
    assert set(found.curves) == {"I-ROC", "I-PR", "P-ROC", "P-PR", "P-PRO"}


def test_without_masks_there_are_no_pixel_metrics():
    """As of HeadCT; and as of a category whose masks are all flawed."""
    flawed = counted()
    flawed.marked = (3, 0)
    for category, reason in ((counted(masks=False), NO_MASK), (flawed, NO_SOUND_MASK)):
        found = measure("c", category)
        assert reasons(found) == dict.fromkeys(METRICS[3:], reason)
        assert set(found.curves) == {"I-ROC", "I-PR"}


def test_without_normal_images_there_are_no_image_metrics():
    """As of ISIC: pixels of anomalous images are normal ones, too."""
    found = measure("c", counted(normal=0))
    assert reasons(found) == dict.fromkeys(METRICS[:3], "no normal image")
    assert set(found.curves) == {"P-ROC", "P-PR", "P-PRO"}


def test_a_category_of_which_nothing_could_be_scored():
    """It has a row, and reasons."""
    assert set(reasons(measure("c", Counted()))) == set(METRICS)


def test_the_mean_is_over_the_categories_that_have_the_metric():
    """Unweighted: a category of many images counts as one of few."""
    categories = [measure("a", counted(1)), measure("b", counted(2, normal=9)), measure("c", counted(3, normal=0))]
    mean = mean_of(categories, "I-AUROC")
    assert mean.categories == 2
    assert mean.metric.value == pytest.approx(
        (categories[0].metrics["I-AUROC"].value + categories[1].metrics["I-AUROC"].value) / 2
    )
    assert mean_of(categories, "P-AP").categories == 3
    none = mean_of(categories[2:], "I-AUROC")
    assert (none.metric.value, none.metric.reason, none.categories) == (None, "no normal image", 0)


def test_drawn_curves_are_thin_and_true():
    """500 points of 10,000 keep both ends, and lie on the curve."""
    x = np.linspace(0, 1, 10_001)
    category = counted()
    category.pixels.pro = lambda: Curve(x, np.sqrt(x))
    curve = measure("c", category).curves["P-PRO"]
    assert len(curve.x) <= 500 and (curve.x[0], curve.x[-1]) == (0, 1)
    np.testing.assert_array_equal(curve.y, np.sqrt(curve.x))
    assert np.hypot(np.diff(curve.x), np.diff(curve.y)).max() < 0.011
