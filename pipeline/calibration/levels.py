"""Thresholds of groups: a group's own, or the pooled one where it has too few images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from pipeline.calibration.config import CalibrateConfig, images_for_rate
from pipeline.calibration.f1 import at_f1_max, with_interval
from pipeline.calibration.images import Group, Images
from pipeline.calibration.rates import Found, at_rate
from pipeline.errors import InputError
from pipeline.metrics import rank_images

LEAST_OF_A_KIND = 10
"""So many normal and so many anomalous images, at least, does a threshold by labels take: one defect is an accident."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One threshold of a group.

    Args:    source: whose images it was found on; `none` where no threshold holds the rate.
             images: how many of the group's were looked at.   flagged: how many of these reach it.
    """

    found: Found = field(default_factory=Found)
    source: Literal["group", "pooled", "none"] = "none"
    images: int = 0
    flagged: int | None = None
    f1: float | None = None


Levels = dict[Group | None, Level]
"""By group; the pooled one by None."""


def image_levels(config: CalibrateConfig, several: Sequence[Images]) -> Levels:
    """Raises:  InputError: there are too few images altogether, or labels of one kind only."""
    scores = np.concatenate([one.scores[one.in_pool] for one in several])
    by_group = [one.labels[one.in_pool] for one in several if one.labels is not None]
    labels = np.concatenate(by_group) if by_group else None
    pooled = _own(config, scores, labels)
    if pooled is None:
        told = too_few(config, len(scores), config.image_rate) if labels is None else too_few_labels(config, labels)
        raise InputError(told)
    levels: Levels = {None: from_pooled(pooled, pooled)}
    for one in several:
        here = level_at(pooled.found, one.scores)
        levels[one.group] = _own(config, one.scores, one.labels) or from_pooled(pooled, here)
    return levels


def _own(config: CalibrateConfig, scores: np.ndarray, labels: np.ndarray | None) -> Level | None:
    """None where there are too few images."""
    if labels is None:
        return level_at_rate(config, scores, config.image_rate)
    if len(scores) < config.min_images or np.bincount(labels, minlength=2).min() < LEAST_OF_A_KIND:
        return None
    order = np.lexsort((labels, scores))  # rows come in any order, and the interval is drawn by their places
    ranking = rank_images(scores[order], labels[order])
    return replace(level_at(with_interval(at_f1_max(ranking), ranking), scores), f1=ranking.f1_max().value)


def level_at_rate(config: CalibrateConfig, scores: np.ndarray, rate: float) -> Level | None:
    """None where there are too few scores."""
    return level_at(at_rate(scores, rate), scores) if len(scores) >= config.least_images(rate) else None


def level_at(found: Found, scores: np.ndarray) -> Level:
    if found.value is None:
        return Level(images=len(scores))
    flagged = int((scores >= np.float32(found.value)).sum())
    return Level(found=found, source="group", images=len(scores), flagged=flagged)


def from_pooled(pooled: Level, here: Level) -> Level:
    """The pooled threshold where it is taken: what a group's own rate will be is known of the pool alone."""
    if pooled.found.value is None:
        return here
    known = pooled.found if here is pooled else replace(pooled.found, rate_low=None, rate_high=None)
    return replace(here, found=known, source="pooled")


def too_few(config: CalibrateConfig, there: int, rate: float | None) -> str:
    """What to say where even all images together are too few, for the rate or where any number would do for it."""
    if rate is None or config.min_images > images_for_rate(rate):
        return f"expected {config.min_images:,} normal images or more (--min-images), got {there:,}: give more runs"
    why = f"a rate of {rate:g} cannot be told from fewer"
    expected = f"expected {config.least_images(rate):,} normal images or more ({why})"
    return f"{expected}, got {there:,}: give more runs, or a higher rate"


def too_few_labels(config: CalibrateConfig, labels: np.ndarray) -> str:
    """Likewise where there are labels."""
    normal, anomalous = np.bincount(labels, minlength=2)
    return (
        f"--labels {config.labels}: expected {LEAST_OF_A_KIND} normal and {LEAST_OF_A_KIND} anomalous images or more, "
        f"{config.min_images:,} or more together (--min-images); got {normal:,} and {anomalous:,}"
    )
