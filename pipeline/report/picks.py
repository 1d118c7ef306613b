"""Which images are shown: the highest scores, and those near their threshold. Only their rows are read whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.report.cells import Group
from pipeline.report.facts import Facts
from pipeline.report.histograms import quantile
from pipeline.runs import Run
from pipeline.schema import SCORES

NEAR = 0.25
"""Borderline is what lies no farther from its threshold than this part of the way from there to its group's median."""
_PARTS_AT_ONCE = 4
_RANKED_BY = ("pred_score", "pred_label", "image_threshold")
_READ = (
    "image_id", "image_uri", "shard", "content_hash", "category", "width", "height", "num_bytes", "pred_score",
    "class_score", "patch_score_max", "image_threshold", "pred_label", "patch_scores", "map_size", "pixel_threshold",
    "pred_mask", "mask_area", "regions",
)  # fmt: skip

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]  # of groups


@dataclass(frozen=True)
class Pick:
    """One row of the scores of a run."""

    run: Run
    row: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Args:    top: the anomalies of highest score; where no image has a label, the highest scores.
    borderline: not among these and near their threshold, on whichever side: the nearest of each group, then the second
    of each, and so on.
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

    @property
    def name(self) -> tuple[int, int, int]:
        return self.run, self.part, self.row

    @property
    def rank(self) -> tuple[float, ...]:
        return self.order, *self.name


_Best = Mapping[int, Sequence[_Place]]  # the first of each group
_Order = Callable[[pa.Table], tuple[Numbers, Codes]]  # of each row, least first and NaN never; and its group


def pick(runs: Sequence[Run], facts: Facts, *, top: int, borderline: int, labelled: bool) -> Picks:
    """Args:    facts: of these runs.   labelled: whether any image of these runs has a label."""
    best, near = _best(runs, facts.by, [(_highest(labelled), top), (_Nearest(facts), top + borderline)])
    highest = [place for places in best.values() for place in places]
    shown = {place.name for place in highest}
    left = [[place for place in places if place.name not in shown] for places in near.values()]
    in_turns = sorted((turn, place.rank, place) for places in left for turn, place in enumerate(places))
    others = [place for *_, place in in_turns[:borderline]]
    rows = _read(runs, [*highest, *others], list(dict.fromkeys([*_READ, *facts.by])))
    return Picks(top=tuple(rows[: len(highest)]), borderline=tuple(rows[len(highest) :]))


def _highest(labelled: bool) -> _Order:
    def order(part: pa.Table) -> tuple[Numbers, Codes]:
        scores = -_numbers(part, "pred_score")
        one_group = np.zeros(len(part), np.int64)
        return np.where(_numbers(part, "pred_label") == 1, scores, np.nan) if labelled else scores, one_group

    return order


class _Nearest:
    """How far scores lie from their threshold, on the scale of their group, so that categories whose scores are small
    have their share: 1 is its median, and what is farther than `NEAR` is not there. Where a threshold lies at the
    median, 1 is half of what holds 80 % of the scores.
    """

    def __init__(self, facts: Facts) -> None:
        self._by = facts.by
        self._codes = {group: at for at, group in enumerate(facts.groups)}
        counts = [facts.now[group] for group in facts.groups] + [
            np.sum([*facts.now.values()], axis=0)
        ]  # last: what is not known
        low, self._medians, high = (np.array([quantile(one, at) or 0.0 for one in counts]) for at in (0.1, 0.5, 0.9))
        self._spreads = (high - low) / 2

    def __call__(self, part: pa.Table) -> tuple[Numbers, Codes]:
        codes = _codes(part, self._by, self._codes)
        thresholds = _numbers(part, "image_threshold")
        apart = np.abs(_numbers(part, "pred_score") - thresholds)
        scale = np.maximum(np.abs(thresholds - self._medians[codes]), self._spreads[codes])
        found = np.divide(apart, scale, out=np.where(apart == 0, 0.0, np.nan), where=scale > 0)
        return np.where(found <= NEAR, found, np.nan), codes


def _codes(part: pa.Table, by: Sequence[str], known: Mapping[Group, int]) -> Codes:
    """The number of each row's group; of one that is not known, the number after the last."""
    columns = [
        part[name].cast(pa.string()) if name in part.column_names else pa.nulls(len(part), pa.string()) for name in by
    ]
    names = pa.table(columns, [f"k{at}" for at in range(len(by))]).append_column("row", pa.array(range(len(part))))
    found = np.full(len(part), len(known), np.int64)
    for told in names.group_by(names.column_names[:-1]).aggregate([("row", "list")]).to_pylist():
        group = tuple(told[f"k{at}"] for at in range(len(by)))
        found[told["row_list"]] = known.get(group, len(known))
    return found


def _numbers(part: pa.Table, name: str) -> Numbers:
    """A column as float64; a null is NaN."""
    found: Numbers = part[name].cast(pa.float64()).to_numpy()
    return np.where(np.isinf(found), np.nan, found)


def _best(runs: Sequence[Run], by: Sequence[str], orders: Sequence[tuple[_Order, int]]) -> list[_Best]:
    """The first rows of all parts in each order, by group; ties in the order of the parts."""
    columns = [[*dict.fromkeys([*_RANKED_BY, *_there(run, by)])] for run in runs]

    def of_part(run: int, at: int) -> list[_Best]:
        part = runs[run].part(at, columns[run])
        return [_first(*order(part), count, partial(_Place, run=run, part=at)) for order, count in orders]

    parts = [(run, at) for run in range(len(runs)) for at in range(runs[run].num_parts)]
    best: list[dict[int, Sequence[_Place]]] = [{} for _ in orders]
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as threads:
        for found in threads.map(lambda place: of_part(*place), parts):
            for held, more, (_, count) in zip(best, found, orders, strict=True):
                for group, places in more.items():
                    both = [*held.get(group, ()), *places]
                    held[group] = sorted(both, key=lambda one: one.rank)[:count]
    return [*best]


def _first(order: Numbers, codes: Codes, count: int, place: Callable[..., _Place]) -> _Best:
    there = np.flatnonzero(~np.isnan(order))
    rows = there[np.lexsort((order[there], codes[there]))]
    _, starts, sizes = np.unique(codes[rows], return_index=True, return_counts=True)
    turns = np.arange(len(rows)) - np.repeat(starts, sizes)
    found: dict[int, list[_Place]] = defaultdict(list)
    for row in rows[turns < count]:
        found[int(codes[row])].append(place(order=float(order[row]), row=int(row)))
    return found


def _there(run: Run, columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name in SCORES.names or name in run.scores.schema.names]


def _read(runs: Sequence[Run], places: Sequence[_Place], columns: Sequence[str]) -> list[Pick]:
    """Their rows, part by part: one part of the table in memory at a time. A column that a run lacks is null."""
    found: dict[tuple[int, int, int], dict[str, Any]] = {}
    wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
    for run, part, row in sorted(place.name for place in places):
        wanted[run, part].append(row)
    for (run, part), rows in wanted.items():
        taken = runs[run].part(part, _there(runs[run], columns)).take(rows).to_pylist()
        empty = dict.fromkeys(columns)
        found |= {(run, part, row): empty | values for row, values in zip(rows, taken, strict=True)}
    return [Pick(runs[place.run], found[place.name]) for place in places]
