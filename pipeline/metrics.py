"""How well scores and maps tell anomalous from normal: exact, mergeable, in memory that no archive fills.

Maps are evaluated as float16, of which there are 65,536 values: counting pixels by value loses nothing, and counts of
shards add up. I- are metrics of images, P- of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

VALUES = 2**16  # of a float16
PRO_LIMIT = 0.3  # AUPRO@0.3: up to this false positive rate
_EIGHT_NEIGHBOURS = np.ones((3, 3), int)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A value in [0, 1]; or None and the reason why there is none."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Curve:
    """Points of a curve, thresholds falling."""

    x: Floats
    y: Floats


@dataclass(frozen=True)
class Ranking:
    """Scores with how many normal and anomalous things have each; scores may stand more than once."""

    scores: Floats
    normal: npt.NDArray[np.int64]
    anomalous: npt.NDArray[np.int64]
    thing: str = "image"

    @property
    def undefined(self) -> str | None:
        """Why nothing can be told apart here; None where it can."""
        if not self.anomalous.sum():
            return f"no anomalous {self.thing}"
        return None if self.normal.sum() else f"no normal {self.thing}"

    def auroc(self) -> Metric:
        """The area under the ROC curve."""
        if self.undefined:
            return Metric(None, self.undefined)
        labels, scores, weights = self._samples()
        return Metric(float(roc_auc_score(labels, scores, sample_weight=weights)))

    def average_precision(self) -> Metric:
        """The sum of precisions weighted by the steps of recall: no interpolation."""
        if self.undefined:
            return Metric(None, self.undefined)
        labels, scores, weights = self._samples()
        return Metric(float(average_precision_score(labels, scores, sample_weight=weights)))

    def f1_max(self) -> Metric:
        """The highest F1 score over every threshold."""
        if self.undefined:
            return Metric(None, self.undefined)
        curve = self.precision_recall()
        return Metric(float((2 * curve.x * curve.y / np.maximum(curve.x + curve.y, np.finfo(float).tiny)).max()))

    def roc(self) -> Curve:
        """False against true positive rate."""
        labels, scores, weights = self._samples()
        false_rate, true_rate, _ = roc_curve(labels, scores, sample_weight=weights)
        return Curve(false_rate, true_rate)

    def precision_recall(self) -> Curve:
        """Recall against precision."""
        labels, scores, weights = self._samples()
        precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=weights)
        return Curve(recall, precision)

    def _samples(self) -> tuple[npt.NDArray[np.int8], Floats, npt.NDArray[np.int64]]:
        """What scikit-learn takes: a label, a score and a weight for each kind of thing that there is."""
        labels = np.repeat(np.array([0, 1], np.int8), len(self.scores))
        scores, weights = np.tile(self.scores, 2), np.concatenate([self.normal, self.anomalous])
        there = weights > 0
        return labels[there], scores[there], weights[there]


def rank_images(scores: Sequence[float] | Floats, labels: Sequence[int] | npt.NDArray[np.int64]) -> Ranking:
    """Image scores with their labels: 0 normal, 1 anomalous.

    Raises:  ValueError: a label is neither, or a score is no number.
    """
    values, kinds = np.asarray(scores, np.float64), np.asarray(labels)
    if values.shape != kinds.shape or values.ndim != 1:
        raise ValueError(f"expected as many labels as scores, got {kinds.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("expected finite scores")
    if not np.isin(kinds, (0, 1)).all():
        raise ValueError(f"expected labels 0 (normal) and 1 (anomalous), got {np.unique(kinds).tolist()}")
    return Ranking(values, (kinds == 0).astype(np.int64), (kinds == 1).astype(np.int64))


@dataclass
class PixelCounts:
    """Pixels of anomaly maps by value; counts of parts of a dataset add up to those of the whole."""

    normal: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(VALUES, np.int64))
    anomalous: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(VALUES, np.int64))
    overlap: Floats = field(default_factory=lambda: np.zeros(VALUES))
    """Sum over anomalous regions of the share of each region's pixels that has this value."""
    regions: int = 0

    def add(self, anomaly_map: npt.NDArray[np.floating], mask: npt.NDArray[np.bool_]) -> None:
        """Count one image's pixels.

        Args:    anomaly_map: (h, w), rounded to float16 here.   mask: (h, w), True where anomalous.
        Raises:  ValueError: the shapes differ, or the map has NaN.
        """
        if anomaly_map.shape != mask.shape or mask.ndim != 2:
            raise ValueError(f"expected a mask of the map's size {anomaly_map.shape}, got {mask.shape}")
        keys = value_order(anomaly_map)
        anomalous = keys[mask]
        self.anomalous += np.bincount(anomalous, minlength=VALUES)
        self.normal += np.bincount(keys[~mask], minlength=VALUES)
        if len(anomalous):
            labels, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
            of_pixels = labels[mask]
            areas = np.bincount(of_pixels, minlength=count + 1)
            self.overlap += np.bincount(anomalous, weights=1 / areas[of_pixels], minlength=VALUES)
            self.regions += count

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.normal + other.normal,
            self.anomalous + other.anomalous,
            self.overlap + other.overlap,
            self.regions + other.regions,
        )

    def ranking(self) -> Ranking:
        """Of pixels, by their value."""
        return Ranking(ordered_values(), self.normal, self.anomalous, thing="pixel")

    def pro(self) -> Curve:
        """False positive rate against per-region overlap: the mean share of each region that is found.

        Source:  Bergmann et al., The MVTec Anomaly Detection Dataset (IJCV 2021), 5.2; every threshold is a point.
        """
        there = (self.normal > 0) | (self.overlap > 0)
        false_rate = np.cumsum(self.normal[there][::-1]) / max(1, self.normal.sum())
        overlap = np.cumsum(self.overlap[there][::-1]) / max(1, self.regions)
        return Curve(np.concatenate([[0.0], false_rate]), np.concatenate([[0.0], overlap]))

    def aupro(self, limit: float = PRO_LIMIT) -> Metric:
        """The area under the PRO curve up to a false positive rate, as a share of that rate.

        Differs: the field's 200 evenly spaced thresholds change with any monotone change of the scores; this does not.
        """
        if reason := self.ranking().undefined:
            return Metric(None, reason)
        curve = self.pro()
        at = int(np.searchsorted(curve.x, limit))  # the first point that is not below the limit
        x = np.append(curve.x[:at], limit)
        y = np.append(curve.y[:at], np.interp(limit, curve.x[at - 1 : at + 1], curve.y[at - 1 : at + 1]))
        return Metric(float(np.trapezoid(y, x) / limit))


_OF_RANKING: Mapping[str, Callable[[Ranking], Metric]] = {
    "AUROC": Ranking.auroc,
    "AP": Ranking.average_precision,
    "F1-max": Ranking.f1_max,
}
AUPRO = "AUPRO@0.3"
METRICS = (*(f"I-{name}" for name in _OF_RANKING), *(f"P-{name}" for name in _OF_RANKING), AUPRO)
NO_MASK = "no anomalous image has a mask"


def category_metrics(images: Ranking, pixels: PixelCounts | None, *, no_pixels: str = NO_MASK) -> dict[str, Metric]:
    """The seven metrics of a category, in the order of `METRICS`; where one is undefined, None and the reason.

    Args:    pixels: None where none were counted.   no_pixels: the reason of the pixel metrics then.
    """
    metrics = {f"I-{name}": of(images) for name, of in _OF_RANKING.items()}
    if pixels is None:
        return metrics | {name: Metric(None, no_pixels) for name in METRICS if name not in metrics}
    ranking = pixels.ranking()
    return metrics | {f"P-{name}": of(ranking) for name, of in _OF_RANKING.items()} | {AUPRO: pixels.aupro()}


@dataclass(frozen=True)
class Mean:
    """The unweighted mean over the categories that have the metric."""

    metric: Metric
    categories: int


def mean(categories: Iterable[Metric]) -> Mean:
    """Of the categories that have the metric; where none has, None with their reasons."""
    found = list(categories)
    values = [one.value for one in found if one.value is not None]
    if values:
        return Mean(Metric(float(np.mean(values))), len(values))
    reasons = dict.fromkeys(one.reason for one in found if one.reason)
    return Mean(Metric(None, "; ".join(reasons) or "no image"), 0)


def value_order(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """A number for each float16, rising with its value; −0 and 0 have one."""
    halves = values.astype(np.float16) + np.float16(0)
    if np.isnan(halves).any():
        raise ValueError("the anomaly map has NaN")
    bits = halves.view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000)


def ordered_values() -> Floats:
    """The value of each number that `value_order` gives; NaN's places, which nothing counts, hold infinities."""
    keys = np.arange(VALUES, dtype=np.uint16)
    bits = np.where(keys & 0x8000, keys & 0x7FFF, ~keys)
    return np.nan_to_num(bits.view(np.float16).astype(np.float64), nan=np.inf, posinf=np.inf, neginf=-np.inf)
