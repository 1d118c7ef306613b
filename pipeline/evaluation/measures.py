"""From counts to metrics: of each category, and the unweighted mean of the categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.datasets.pixels import Flawed
from pipeline.evaluation.counting import Counted
from pipeline.metrics import NO_MASK, Curve, Mean, Metric, Ranking, category_metrics, mean, rank_images

NO_SOUND_MASK = "no anomalous image has a sound mask"
_POINTS = 500  # of a drawn curve


@dataclass(frozen=True, kw_only=True)
class CategoryMeasures:
    """A category's metrics and curves. `images` were scored, of `marked` the pixels were counted: normal, anomalous."""

    category: str
    metrics: Mapping[str, Metric]
    images: tuple[int, int]
    marked: tuple[int, int]
    flaws: Sequence[Flawed] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """By name, such as `I-ROC` and `P-PRO`; those that are defined."""

    def counted(self, metric: str) -> tuple[int, int]:
        """Normal and anomalous images that a metric is of."""
        return self.images if metric.startswith("I-") else self.marked


def measure(category: str, counted: Counted) -> CategoryMeasures:
    """A category's seven metrics; where one is undefined, None and the reason."""
    images = rank_images(counted.scores, counted.labels)
    pixels = counted.pixels if counted.marked[1] else None
    curves = _curves("I", images)
    if pixels is not None:
        ranking = pixels.ranking()
        curves |= _curves("P", ranking)
        curves |= {} if ranking.undefined else {"P-PRO": _thinned(pixels.pro())}
    labels = counted.labels
    return CategoryMeasures(
        category=category,
        metrics=category_metrics(images, pixels, no_pixels=NO_MASK if counted.pixels is None else NO_SOUND_MASK),
        images=(labels.count(0), labels.count(1)),
        marked=counted.marked,
        flaws=tuple(counted.flaws),
        curves=curves,
    )


def mean_of(categories: Sequence[CategoryMeasures], metric: str) -> Mean:
    """Of the categories that have the metric; where none has, None with their reasons."""
    return mean(one.metrics[metric] for one in categories)


def _curves(thing: str, ranking: Ranking) -> dict[str, Curve]:
    if ranking.undefined:
        return {}
    return {f"{thing}-ROC": _thinned(ranking.roc()), f"{thing}-PR": _thinned(ranking.precision_recall())}


def _thinned(curve: Curve) -> Curve:
    """No more points than can be seen, evenly along the curve."""
    if len(curve.x) <= _POINTS:
        return curve
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(curve.x), np.diff(curve.y)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)))
    return Curve(curve.x[kept], curve.y[kept])
