"""From a committed run's maps to counts of pixels by value, category by category, in Ray tasks.

A task takes the g×g scores of a few dozen images and returns counts, which add up. Of maps, one exists at a time in
each task; of counts, as many as tasks are in flight and the category's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cops.maps import anomaly_map
from pipeline import ledger
from pipeline.datasets.items import Dataset, LabelledImage
from pipeline.datasets.pixels import Flawed, mask_at_side
from pipeline.decode import DecodeRules
from pipeline.fan_out import in_tasks
from pipeline.masks import patch_grid
from pipeline.metrics import PixelCounts
from pipeline.read import fetched_portions
from pipeline.request import Request
from pipeline.schema import SCORES
from pipeline.sources.items import image_id
from pipeline.storage import Root, redact

_ROWS_PER_TASK = 64
_ROWS_AT_ONCE = 2_048  # of the tables, on the driver: 6 MB
_COLUMNS = pa.schema(
    [
        *(SCORES.field(name) for name in ("image_id", "category", "image_uri", "width", "height", "pred_score")),
        *(SCORES.field(name) for name in ("map_size", "patch_scores")),
        ("label", pa.int8()),
        ("defect", pa.string()),
        ("mask_uri", pa.string()),
    ]
)
_BY_CATEGORY = f"SELECT {', '.join(_COLUMNS.names)} FROM scores ORDER BY category, image_id"


@dataclass
class Counted:
    """What a category's images, or some of them, come to."""

    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    pixels: PixelCounts | None = None
    """None where no pixels were counted."""
    marked: tuple[int, int] = (0, 0)
    """Images whose pixels are counted: normal, anomalous."""
    flaws: list[Flawed] = field(default_factory=list)

    def __iadd__(self, other: Counted) -> Counted:
        self.scores += other.scores
        self.labels += other.labels
        self.flaws += other.flaws
        self.marked = (self.marked[0] + other.marked[0], self.marked[1] + other.marked[1])
        if other.pixels is not None:
            self.pixels = other.pixels if self.pixels is None else self.pixels + other.pixels
        return self


@dataclass(frozen=True, kw_only=True)
class CountMaps:
    """What a task does with a few rows of one category.

    Args:    image_size: the model's side S, px; maps and masks are compared at S×S.   sigma_px: smoothing of the map.
    """

    image_size: int
    sigma_px: float
    rules: DecodeRules

    def __call__(self, table: pa.Table) -> Counted:
        counted, pixels = image_scores(table), PixelCounts()
        marked = [0, 0]
        rows = table.to_pylist()
        for row, mask in zip(rows, self._masks(rows), strict=True):
            if isinstance(mask, Flawed):
                counted.flaws.append(mask)
                continue
            heat = anomaly_map(patch_grid(row), image_size=self.image_size, sigma_px=self.sigma_px)
            pixels.add(heat, mask)
            marked[row["label"]] += 1
        counted.pixels, counted.marked = pixels, (marked[0], marked[1])
        return counted

    def _masks(self, rows: Sequence[dict[str, Any]]) -> Iterator[npt.NDArray[np.bool_] | Flawed]:
        """Each row's mask at S×S, or why its pixels are not counted."""
        requests = [Request("file", row.get("mask_path") or row["mask_uri"]) for row in rows if row["mask_uri"]]
        portions = fetched_portions(requests, max_bytes=self.rules.max_bytes)
        fetched = itertools.chain.from_iterable(portion for _, portion in portions)
        for row in rows:
            item = _labelled(row)
            data = next(fetched) if item.mask_uri else None
            size = (row["width"], row["height"])
            mask = mask_at_side(item, data, self.rules, size=size, side=self.image_size)
            yield Flawed(item, "no_mask", "an anomalous image that nobody marked") if mask is None else mask


def image_scores(table: pa.Table) -> Counted:
    """The rows' image scores and labels, without their pixels."""
    return Counted(scores=table["pred_score"].to_pylist(), labels=table["label"].to_pylist())


def signed_masks(dataset: Dataset) -> dict[str, str]:
    """By `image_id`, what those masks are read by whose signature is in no table."""
    return {
        image_id(image.image_uri + image.unique): image.mask_path
        for image in dataset.images
        if image.mask_uri and redact(image.mask_path) != image.mask_path
    }


def count_categories(
    root: Root,
    parts: Sequence[str],
    count: CountMaps,
    *,
    with_masks: Collection[str],
    memory: int,
    mask_paths: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Counted]]:
    """Every category of a run with what its images come to, one after the other.

    Args:    parts: the run's files of scores.   with_masks: categories whose pixels are counted.
             memory: bytes that a task reserves, for the largest mask.   mask_paths: as of `signed_masks`.
    """
    if not parts:  # not one image could be scored
        return
    with ledger.tables(root, scores=list(parts)) as sql:
        tables = ledger.batches(sql.sql(_BY_CATEGORY), _COLUMNS, rows=_ROWS_AT_ONCE)
        if mask_paths:
            tables = (_with_paths(table, mask_paths) for table in tables)
        pieces = ((category, (category, table)) for category, table in _few_of_one_category(tables))
        found = in_tasks(partial(_counted, count, frozenset(with_masks)), pieces, memory=memory)
        for category, several in itertools.groupby(found, key=lambda one: one[0]):
            whole = Counted()
            for _, one in several:
                whole += one
            yield category, whole


def _with_paths(table: pa.Table, mask_paths: Mapping[str, str]) -> pa.Table:
    paths = [mask_paths.get(one) for one in table["image_id"].to_pylist()]
    return table.append_column("mask_path", pa.array(paths, pa.string()))


def _few_of_one_category(tables: Iterator[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    for table in tables:
        start = 0
        for category, run in itertools.groupby(table["category"].to_pylist()):
            stop = start + sum(1 for _ in run)
            for at in range(start, stop, _ROWS_PER_TASK):
                yield category, table.slice(at, min(_ROWS_PER_TASK, stop - at))
            start = stop


def _counted(count: CountMaps, with_masks: Collection[str], few: tuple[str, pa.Table]) -> Counted:
    category, table = few
    return count(table) if category in with_masks else image_scores(table)


def _labelled(row: dict[str, Any]) -> LabelledImage:
    return LabelledImage(
        image_uri=row["image_uri"],
        mask_uri=row["mask_uri"],
        label=row["label"],
        category=row["category"],
        kind=row["defect"],
    )
