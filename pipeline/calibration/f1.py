"""A threshold from labelled scores: where F1 is highest."""

from __future__ import annotations

import numpy as np

from pipeline.calibration.rates import CONFIDENCE, Found, share_interval
from pipeline.metrics import Floats, Ranking

_DRAWS = 200
_SEED = 20_250_803  # any; the same one gives the same interval


def at_f1_max(ranking: Ranking) -> Found:
    """The threshold with the highest F1 score: half way between the two neighbouring scores that it parts.

    Args:    ranking: scores with how many normal and anomalous images, or pixels, have each.
    Returns: no value where there are not both; the interval of the rate is of the normal ones at or above the value, as
             if they had not chosen it: on further ones the rate is rather higher.
    """
    if ranking.undefined:
        return Found()
    value = _best(ranking.scores, ranking.normal, ranking.anomalous)
    flagged, count = int(ranking.normal[ranking.scores >= value].sum()), int(ranking.normal.sum())
    rate_low, rate_high = share_interval(flagged, count)
    return Found(value=value, rate_low=rate_low, rate_high=rate_high)


def with_interval(found: Found, ranking: Ranking) -> Found:
    """The interval of the threshold, by drawing as many images again, with replacement, 200 times."""
    if found.value is None:
        return found
    generator = np.random.default_rng(_SEED)
    counts = np.concatenate([ranking.normal, ranking.anomalous]).astype(np.float64)
    values = []
    for _ in range(_DRAWS):
        drawn = generator.multinomial(int(counts.sum()), counts / counts.sum())
        normal, anomalous = drawn[: len(ranking.scores)], drawn[len(ranking.scores) :]
        if normal.any() and anomalous.any():
            values.append(_best(ranking.scores, normal, anomalous))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail)) if values else (None, None)
    return Found(
        value=found.value,
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        rate_low=found.rate_low,
        rate_high=found.rate_high,
    )


def _best(scores: Floats, normal: np.ndarray, anomalous: np.ndarray) -> float:
    """As float32 can hold it, and never above the lowest score that it is to flag."""
    falling = np.argsort(-scores, kind="stable")
    values = scores[falling]
    hits, alarms = np.cumsum(anomalous[falling]), np.cumsum(normal[falling])
    last = np.append(values[1:] != values[:-1], True)  # a threshold takes all of one score or none
    f1 = np.where(last & (hits > 0), 2 * hits / (hits + alarms + anomalous.sum()), 0.0)
    at = int(np.argmax(f1))
    there = (normal + anomalous)[falling] > 0
    below = values[at + 1 :][there[at + 1 :]]
    middle = np.float32((values[at] + below[0]) / 2) if len(below) else np.float32(values[at])
    return float(middle) if below.size == 0 or middle > below[0] else float(np.float32(values[at]))
