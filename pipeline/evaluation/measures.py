"""From counts to metrics: of each category, and the unweighted mean of the categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.datasets.pixels import Flawed
from pipeline.evaluation.counting import Counted
from pipeline.metrics import Curve, Metric, Ranking, rank_images

_OF_RANKING: Mapping[str, Callable[[Ranking], Metric]] = {
    "AUROC": Ranking.auroc,
    "AP": Ranking.average_precision,
    "F1-max": Ranking.f1_max,
}
AUPRO = "AUPRO@0.3"
METRICS = (*(f"I-{name}" for name in _OF_RANKING), *(f"P-{name}" for name in _OF_RANKING), AUPRO)
NO_MASK, NO_SOUND_MASK = "no anomalous image has a mask", "no anomalous image has a sound mask"
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


@dataclass(frozen=True)
class Mean:
    """The unweighted mean over the categories that have the metric."""

    metric: Metric
    categories: int


def measure(category: str, counted: Counted) -> CategoryMeasures:
    """A category's seven metrics; where one is undefined, None and the reason."""
    images = rank_images(counted.scores, counted.labels)
    metrics = {f"I-{name}": of(images) for name, of in _OF_RANKING.items()}
    curves = _curves("I", images)
    pixels = counted.pixels
    if pixels is None or not counted.marked[1]:
        reason = NO_MASK if pixels is None else NO_SOUND_MASK
        metrics |= {name: Metric(None, reason) for name in METRICS if name not in metrics}
    else:
        ranking = pixels.ranking()
        metrics |= {f"P-{name}": of(ranking) for name, of in _OF_RANKING.items()} | {AUPRO: pixels.aupro()}
        curves |= _curves("P", ranking)
        curves |= {} if ranking.undefined else {"P-PRO": _thinned(pixels.pro())}
    labels = counted.labels
    return CategoryMeasures(
        category=category,
        metrics=metrics,
        images=(labels.count(0), labels.count(1)),
        marked=counted.marked,
        flaws=tuple(counted.flaws),
        curves=curves,
    )


def mean_of(categories: Sequence[CategoryMeasures], metric: str) -> Mean:
    """Of the categories that have the metric; where none has, None with their reasons."""
    found = [one.metrics[metric] for one in categories]
    values = [one.value for one in found if one.value is not None]
    if values:
        return Mean(Metric(float(np.mean(values))), len(values))
    reasons = dict.fromkeys(one.reason for one in found if one.reason)
    return Mean(Metric(None, "; ".join(reasons) or "no image"), 0)


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
