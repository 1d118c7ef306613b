"""Thresholds of pixels: the maps are rebuilt in Ray tasks, a few dozen at a time, and what they come to adds up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import duckdb
import numpy as np

from pipeline.calibration.config import CalibrateConfig
from pipeline.calibration.f1 import at_f1_max
from pipeline.calibration.images import map_pieces
from pipeline.calibration.levels import Level, Levels, from_pooled, level_at, level_at_rate, too_few
from pipeline.calibration.maps import BLOCKS, Counts, Peaks, PixelValues, at_pixel_rate
from pipeline.calibration.rates import Scores
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.evaluation.counting import Counted, CountMaps
from pipeline.execution import connect, decode_memory, map_memory
from pipeline.fan_out import in_tasks
from pipeline.metrics import VALUES
from pipeline.runs import map_settings

_LARGEST = "SELECT coalesce(max(width::BIGINT * height), 0) FROM scores SEMI JOIN chosen USING (run_id, image_id)"
_COUNT = "SELECT count(*) FROM chosen"


class _Gathered(Protocol):
    """What the maps of a group come to, piece by piece; at its end a threshold, None where images are too few."""

    def add(self, piece: Any) -> None: ...
    def level(self) -> Level | None: ...
    def under(self, pooled: Level) -> Level: ...


class _Peaks:
    """Of images with any false region."""

    def __init__(self, config: CalibrateConfig) -> None:
        self.config = config
        self.peaks: list[Scores] = []

    def add(self, piece: Scores) -> None:
        self.peaks.append(piece)

    def level(self) -> Level | None:
        return level_at_rate(self.config, np.concatenate(self.peaks), self.config.pixel_rate)

    def under(self, pooled: Level) -> Level:
        return level_at(pooled.found, np.concatenate(self.peaks))


class _Values:
    """Of false pixels."""

    def __init__(self, config: CalibrateConfig, pixels: int) -> None:
        self.config, self.pixels = config, pixels
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

    def under(self, pooled: Level) -> Level:  # noqa: ARG002 -- how many images have a pixel above it is not counted
        return Level(images=self.images)


class _Marked:
    """Of labelled pixels."""

    def __init__(self, config: CalibrateConfig) -> None:
        self.config = config
        self.counted = Counted()

    def add(self, piece: Counted) -> None:
        self.counted += piece

    @property
    def images(self) -> int:
        return sum(self.counted.marked)

    def level(self) -> Level | None:
        pixels = self.counted.pixels
        if pixels is None or pixels.ranking().undefined or self.images < self.config.min_images:
            return None
        found, f1 = at_f1_max(pixels.ranking()), pixels.ranking().f1_max().value
        return Level(found=found, source="group", images=self.images, f1=f1)

    def under(self, pooled: Level) -> Level:  # noqa: ARG002 -- as above
        return Level(images=self.images)


def pixel_rule(config: CalibrateConfig, columns: frozenset[str]) -> str:
    """By which rule the thresholds of pixels are found: with labels and masks, at the highest F1."""
    by_masks = config.labels is not None and config.pixel_rule != "none" and "mask_uri" in columns
    return "f1_max" if by_masks else config.pixel_rule


def pixel_levels(
    config: CalibrateConfig, sql: duckdb.DuckDBPyConnection, record: Mapping[str, Any], rule: str
) -> Levels:
    """The thresholds of pixels of the images in `chosen`, of the normal ones where there are labels and no masks.

    Raises:  InputError: there are too few images altogether, or the runs do not tell what maps are rebuilt by.
    """
    if config.labels is not None and rule != "f1_max":
        sql.execute("DELETE FROM chosen WHERE taken_as = 1")
    gather, work, memory = _ways(config, sql, record, rule)
    pieces = map_pieces(sql, config.by, most=config.max_map_images, least_pieces=BLOCKS, with_masks=rule == "f1_max")
    found, whole = {}, gather()
    for group, run in itertools.groupby(in_tasks(work, pieces, memory=memory), key=lambda one: one[0]):
        part = gather()
        for _, piece in run:
            part.add(piece)
            whole.add(piece)
        found[group] = part
    pooled = whole.level() if found else None
    if pooled is None:
        ((images,),) = sql.execute(_COUNT).fetchall()
        rate = config.pixel_rate if rule == "images" else None  # of pixels there are always enough
        raise InputError(
            f"--pixel-rule {rule}: {too_few(config, int(images), rate)}; --pixel-rule none leaves them out"
        )
    own: Levels = {group: part.level() or from_pooled(pooled, part.under(pooled)) for group, part in found.items()}
    return {**own, None: from_pooled(pooled, pooled)}


def _ways(
    config: CalibrateConfig, sql: duckdb.DuckDBPyConnection, record: Mapping[str, Any], rule: str
) -> tuple[Callable[[], _Gathered], Callable[[Any], Any], int]:
    """How pieces are gathered, what a task does with one, and how much memory it takes."""
    size = map_settings(record)
    connect()
    if rule == "f1_max":
        rules = DecodeRules(**record["config"]["decode"])
        return lambda: _Marked(config), CountMaps(**size, rules=rules), decode_memory(rules.max_pixels)
    ((largest,),) = sql.execute(_LARGEST).fetchall()
    if rule == "images":
        return lambda: _Peaks(config), Peaks(**size), map_memory(int(largest))
    return lambda: _Values(config, size["image_size"] ** 2), PixelValues(**size), map_memory(size["image_size"] ** 2)
