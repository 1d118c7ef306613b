"""Which images are shown: the highest scores, and those nearest to the threshold. Only their rows are read whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.runs import Run
from pipeline.schema import SCORES

_PARTS_AT_ONCE = 4
_RANKED_BY = ("pred_score", "pred_label", "image_threshold")
_READ = (
    "image_id", "image_uri", "shard", "content_hash", "category", "width", "height", "num_bytes", "pred_score",
    "class_score", "patch_score_max", "image_threshold", "pred_label", "patch_scores", "map_size", "pixel_threshold",
    "pred_mask", "mask_area", "regions",
)  # fmt: skip


@dataclass(frozen=True)
class Pick:
    """One row of the scores of a run."""

    run: Run
    row: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Args:    top: the anomalies of highest score; where no image has a label, the highest scores.
    borderline: not among these, the nearest to their threshold, on whichever side.
    """

    top: tuple[Pick, ...]
    borderline: tuple[Pick, ...]


@dataclass(frozen=True)
class _Place:
    """Where a row stands, the best first."""

    order: float
    run: int
    part: int
    row: int


def pick(runs: Sequence[Run], *, top: int, borderline: int, labelled: bool, by: Sequence[str]) -> Picks:
    """Args:    labelled: whether any image of these runs has a label.   by: columns that are shown beside."""
    highest, nearest = _best(runs, [(_highest(labelled), top), (_nearest, top + borderline)])
    others = [place for place in nearest if (place.run, place.part, place.row) not in _names(highest)][:borderline]
    columns = list(dict.fromkeys([*_READ, *by]))
    rows = _read(runs, [*highest, *others], columns)
    return Picks(top=tuple(rows[: len(highest)]), borderline=tuple(rows[len(highest) :]))


def _names(places: Sequence[_Place]) -> set[tuple[int, int, int]]:
    return {(place.run, place.part, place.row) for place in places}


_Order = Callable[[pa.Table], npt.NDArray[np.float64]]  # of each row; least first, NaN never


def _highest(labelled: bool) -> _Order:
    def order(part: pa.Table) -> npt.NDArray[np.float64]:
        scores = -_numbers(part, "pred_score")
        return np.where(_numbers(part, "pred_label") == 1, scores, np.nan) if labelled else scores

    return order


def _nearest(part: pa.Table) -> npt.NDArray[np.float64]:
    return np.abs(_numbers(part, "pred_score") - _numbers(part, "image_threshold"))


def _numbers(part: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A column as float64; a null is NaN."""
    found: npt.NDArray[np.float64] = part[name].cast(pa.float64()).to_numpy()
    return np.where(np.isinf(found), np.nan, found)


def _best(runs: Sequence[Run], orders: Sequence[tuple[_Order, int]]) -> list[list[_Place]]:
    """The first rows of all parts in each order; ties in the order of the parts."""

    def of_part(run: int, at: int) -> list[list[_Place]]:
        part = runs[run].part(at, _RANKED_BY)
        return [_first(order(part), count, partial(_Place, run=run, part=at)) for order, count in orders]

    parts = [(run, at) for run in range(len(runs)) for at in range(runs[run].num_parts)]
    best: list[list[_Place]] = [[] for _ in orders]
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as threads:
        for found in threads.map(lambda place: of_part(*place), parts):
            for at, (_, count) in enumerate(orders):
                best[at] = sorted(best[at] + found[at], key=lambda one: (one.order, one.run, one.part, one.row))[:count]
    return best


def _first(order: npt.NDArray[np.float64], count: int, place: Callable[..., _Place]) -> list[_Place]:
    there = np.flatnonzero(~np.isnan(order))
    rows = there[np.argsort(order[there], kind="stable")[:count]]
    return [place(order=float(order[row]), row=int(row)) for row in rows]


def _read(runs: Sequence[Run], places: Sequence[_Place], columns: Sequence[str]) -> list[Pick]:
    """Their rows, part by part: one part of the table in memory at a time. A column that a run lacks is null."""
    found: dict[tuple[int, int, int], dict[str, Any]] = {}
    wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
    for run, part, row in sorted(_names(places)):
        wanted[run, part].append(row)
    for (run, part), rows in wanted.items():
        there = [name for name in columns if name in SCORES.names or name in runs[run].scores.schema.names]
        taken = runs[run].part(part, there).take(rows).to_pylist()
        empty = dict.fromkeys(columns)
        found |= {(run, part, row): empty | values for row, values in zip(rows, taken, strict=True)}
    return [Pick(runs[place.run], found[place.run, place.part, place.row]) for place in places]
