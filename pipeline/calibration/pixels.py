"""Thresholds of pixels: the maps are rebuilt in Ray tasks, a few dozen at a time, and what they come to adds up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np

from pipeline.calibration.config import CalibrateConfig
from pipeline.calibration.f1 import at_f1_max
from pipeline.calibration.images import Group, PieceOf, map_pieces
from pipeline.calibration.levels import (
    LEAST_OF_A_KIND,
    Level,
    Levels,
    from_pooled,
    level_at,
    level_at_rate,
    too_few,
)
from pipeline.calibration.maps import BLOCKS, Counts, Peaks, PixelValues, at_pixel_rate
from pipeline.calibration.marked import CountMarked, Marked, manifests
from pipeline.calibration.rates import Scores
from pipeline.errors import InputError
from pipeline.evaluation.counting import CountMaps
from pipeline.execution import connect, decode_memory, map_memory
from pipeline.fan_out import in_tasks
from pipeline.metrics import VALUES
from pipeline.originals import rules_of
from pipeline.runs import map_settings

_LARGEST = "SELECT coalesce(max(width::BIGINT * height), 0) FROM scores SEMI JOIN chosen USING (run_id, image_id)"

Under = Callable[[Level], Level]
"""From the pooled threshold to what a group comes to under it."""


class Gathered:
    """What the maps of a group come to, piece by piece. At its end a threshold, None where images are too few; `under`
    is then all that is kept, for counts of pixels take up to 26 MB.
    """

    def __init__(self, config: CalibrateConfig) -> None:
        self.config = config

    def add(self, piece: Any) -> None:
        raise NotImplementedError

    @property
    def images(self) -> int:
        raise NotImplementedError

    def level(self) -> Level | None:
        raise NotImplementedError

    def under(self) -> Under:  # how many images have a pixel above it is not counted
        here = Level(images=self.images)
        return lambda _: here

    def too_few(self) -> str:
        return f"--pixel-rule pixels: {too_few(self.config, self.images, None)}"

    def check(self) -> None:
        """Raises:  InputError: what was gathered is not to be relied upon."""

    def told(self) -> Sequence[str]:
        """What has to be known of images that were left out."""
        return ()


class GatheredPeaks(Gathered):
    """Of images with any false region."""

    def __init__(self, config: CalibrateConfig) -> None:
        super().__init__(config)
        self.pieces: list[Scores] = []

    def add(self, piece: Scores) -> None:
        self.pieces.append(piece)

    @property
    def peaks(self) -> Scores:
        return np.concatenate([*self.pieces, np.empty(0, np.float32)])

    @property
    def images(self) -> int:
        return len(self.peaks)

    def level(self) -> Level | None:
        return level_at_rate(self.config, self.peaks, self.config.pixel_rate)

    def under(self) -> Under:
        peaks = self.peaks
        return lambda pooled: level_at(pooled.found, peaks)

    def too_few(self) -> str:
        return f"--pixel-rule images: {too_few(self.config, self.images, self.config.pixel_rate)}"


class GatheredValues(Gathered):
    """Of false pixels."""

    def __init__(self, config: CalibrateConfig, pixels: int) -> None:
        super().__init__(config)
        self.pixels = pixels
        self.blocks: Counts = np.zeros((BLOCKS, VALUES), np.int64)
        self.pieces = 0

    def add(self, piece: Counts) -> None:
        self.blocks[self.pieces % BLOCKS] += piece
        self.pieces += 1

    @property
    def images(self) -> int:
        return int(self.blocks.sum()) // self.pixels

    def level(self) -> Level | None:
        if self.images < self.config.min_images:
            return None
        found = at_pixel_rate(self.blocks, self.config.pixel_rate)
        return Level(found=found, source="none" if found.value is None else "group", images=self.images)


class GatheredMarks(Gathered):
    """Of labelled pixels."""

    def __init__(self, config: CalibrateConfig) -> None:
        super().__init__(config)
        self.marked = Marked()

    def add(self, piece: Marked) -> None:
        self.marked += piece

    @property
    def images(self) -> int:
        return self.marked.normal + self.marked.anomalous

    def level(self) -> Level | None:
        pixels, too_few_marked = self.marked.pixels, self.marked.anomalous < LEAST_OF_A_KIND
        if too_few_marked or pixels is None or pixels.ranking().undefined or self.images < self.config.min_images:
            return None
        found, f1 = at_f1_max(pixels.ranking()), pixels.ranking().f1_max().value
        return Level(found=found, source="group", images=self.images, f1=f1)

    def too_few(self) -> str:
        expected = f"{self.config.min_images:,} images (--min-images), {LEAST_OF_A_KIND} anomalous ones among them"
        told = "".join(f"; {line}" for line in self.told())
        return (
            f"--labels {self.config.labels}: expected {expected}, with masks that can be used; "
            f"got {self.images:,} and {self.marked.anomalous:,}{told}"
        )

    def check(self) -> None:
        self.marked.check()

    def told(self) -> Sequence[str]:
        return self.marked.told()


def pixel_rule(config: CalibrateConfig, columns: frozenset[str]) -> str:
    """By which rule the thresholds of pixels are found: with labels and masks, at the highest F1."""
    by_masks = config.labels is not None and config.pixel_rule != "none" and "mask_uri" in columns
    return "f1_max" if by_masks else config.pixel_rule


def pixel_levels(
    config: CalibrateConfig, sql: duckdb.DuckDBPyConnection, records: Sequence[Mapping[str, Any]], rule: str
) -> tuple[Levels, Sequence[str]]:
    """The thresholds of pixels of the images in `chosen`, of the normal ones where there are labels and no masks; and
    what there is to be told of them.

    Raises:  InputError: there are too few images altogether, masks cannot be read, or the runs do not tell what maps
             are rebuilt by.
    """
    if config.labels is not None and rule != "f1_max":
        sql.execute("DELETE FROM chosen WHERE taken_as = 1")
    gather, work, memory = _ways(config, sql, records, rule)
    pieces = map_pieces(sql, config.by, most=config.max_map_images, least_pieces=BLOCKS, with_masks=rule == "f1_max")
    return levels_of(in_tasks(work, pieces, memory=memory), gather)


def levels_of(found: Iterable[tuple[PieceOf, Any]], gather: Callable[[], Gathered]) -> tuple[Levels, Sequence[str]]:
    """As `pixel_levels`, from what the pieces came to, group by group.

    Args:    gather: makes a place for the pieces of a group, or of all.
    """
    several: dict[Group, Level | Under] = {}
    whole = gather()
    for _, run in itertools.groupby(found, key=lambda one: one[0].number):
        part = gather()
        for whose, piece in run:
            part.add(piece)
            if whose.in_pool:
                whole.add(piece)
        several[whose.group] = part.level() or part.under()
    whole.check()
    if (pooled := whole.level()) is None:
        raise InputError(f"{whole.too_few()}; --pixel-rule none leaves them out")
    own: Levels = {
        group: one if isinstance(one, Level) else from_pooled(pooled, one(pooled)) for group, one in several.items()
    }
    return {**own, None: from_pooled(pooled, pooled)}, whole.told()


def _ways(
    config: CalibrateConfig, sql: duckdb.DuckDBPyConnection, records: Sequence[Mapping[str, Any]], rule: str
) -> tuple[Callable[[], Gathered], Callable[[Any], Any], int]:
    """How pieces are gathered, what a task does with one, and how much memory it takes."""
    size = map_settings(records[0])
    connect()
    if rule == "f1_max":
        several = [rules_of(record) for record in records]  # alike but for their bounds
        most = {name: max(getattr(one, name) for one in several) for name in ("max_pixels", "max_bytes")}
        rules = replace(several[0], **most)
        work = CountMarked(count=CountMaps(**size, rules=rules), manifests=manifests(records))
        return lambda: GatheredMarks(config), work, decode_memory(rules.max_pixels)
    ((largest,),) = sql.execute(_LARGEST).fetchall()
    if rule == "images":
        return lambda: GatheredPeaks(config), Peaks(**size), map_memory(int(largest))
    return (
        lambda: GatheredValues(config, size["image_size"] ** 2),
        PixelValues(**size),
        map_memory(size["image_size"] ** 2),
    )
