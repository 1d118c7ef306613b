"""What a table of thresholds says of itself beside them: intervals, and the runs whose scores it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.layout import RunLayout, check_run_id
from pipeline.report.window import Record, Window
from pipeline.report.words import listed
from pipeline.runs import read_record
from pipeline.storage import redact
from pipeline.thresholds import is_pooled, read_table, read_thresholds

_MOST_RUNS = 400


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """One group's row: the threshold, its 95 % interval, the false-alarm rate asked for, and from how many images."""

    image: float | None = None
    image_interval: tuple[float, float] | None = None
    image_rate_target: float | None = None
    num_images: int | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A table of thresholds for the reported model.

    Args:    by: the columns that its groups are told by.   run_ids: the runs that it was made from, of these the ones
             that are there and of the model.   chosen: which images of these, as the condition of SQL that
             jobs/calibrate.py was given; None: all.   pooled: the row for every other group.
    """

    name: str
    by: tuple[str, ...]
    rows: Mapping[tuple[str | None, ...], Calibrated]
    pooled: Calibrated | None = None
    run_ids: tuple[str, ...] = ()
    chosen: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def own_runs(self) -> tuple[str, ...]:
        """Runs that were taken whole: sets of images for calibration, where a night has a condition, too."""
        return () if self.chosen else self.run_ids

    def of(self, group: Sequence[str | None], by: Sequence[str]) -> list[Calibrated]:
        """The rows that images of a group may have: by all columns that both know, and last the pooled one."""
        told = dict(zip(by, group, strict=True))
        common = [at for at, name in enumerate(self.by) if name in told]
        own = [row for key, row in self.rows.items() if common and all(key[at] == told[self.by[at]] for at in common)]
        return [*own, *filter(None, [self.pooled])]


def read_calibration(uri: str, window: Window, output: str) -> Calibration:
    """Raises:  InputError: no such table, or one of another model; or it names what is no run."""
    name = redact(uri)
    thresholds = read_thresholds(uri, window.model_id)
    rows, by = read_table(uri).to_pylist(), thresholds.by
    named = _run_ids(rows, name)
    found = {run_id: read_record(RunLayout.at(output, run_id)) for run_id in named}
    there = tuple(run_id for run_id, record in found.items() if record and record.get("model_id") == window.model_id)
    others = [run_id for run_id, record in found.items() if record and run_id not in there]
    return Calibration(
        name=name,
        by=by,
        rows={tuple(_as_text(row[one]) for one in by): _calibrated(row) for row in rows if not is_pooled(row, by)},
        pooled=next((_calibrated(row) for row in rows if is_pooled(row, by)), None),
        run_ids=there,
        chosen=_chosen(rows, name),
        notes=tuple(_notes(named, there, others, window)),
    )


def table_of(labels: Record) -> tuple[str, str] | None:
    """The table that labels were made by, and its digest then; None where it was numbers or nothing.

    Args:    labels: the record of a label set, or a run's config.
    """
    uri, digest = labels.get("thresholds"), labels.get("thresholds_digest")
    return (uri, digest) if isinstance(uri, str) and isinstance(digest, str) else None


def _run_ids(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        told = row.get("run_ids") or []
        if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
            raise InputError(f"--thresholds: {name}: expected a list of run ids in run_ids, got {told!r:.200}")
        found.update(dict.fromkeys(told))
    if len(found) > _MOST_RUNS:
        raise InputError(f"--thresholds: {name} is made from {len(found)} runs; a report reads {_MOST_RUNS} at most")
    return [check_run_id(run_id, f"--thresholds: {name}: run_ids") for run_id in found]


def _chosen(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    told = {row.get("chosen") for row in rows}
    (chosen,) = told if len(told) == 1 else (0,)
    if not isinstance(chosen, str | None):
        raise InputError(f"--thresholds: {name}: expected in chosen the same condition in every row")
    return chosen or None


def _notes(named: Sequence[str], there: Sequence[str], others: Sequence[str], window: Window) -> list[str]:
    notes = []
    if not named:
        notes.append("The table of thresholds does not say which runs it was made from.")
    if gone := len(named) - len(there) - len(others):
        notes.append(f"{gone} of the {len(named)} runs that the thresholds were calibrated on are not in this output.")
    if others:
        notes.append(
            f"Runs of another model have by now the names of those that the thresholds were calibrated on "
            f"({listed(others)}): they are not compared with."
        )
    if set(there) & set(window.run_ids):
        notes.append("What is reported is among the runs that the thresholds were calibrated on.")
    return notes


def _calibrated(row: Mapping[str, Any]) -> Calibrated:
    low, high = _number(row.get("image_threshold_low")), _number(row.get("image_threshold_high"))
    images = row.get("num_images")
    return Calibrated(
        image=_number(row["image_threshold"]),
        image_interval=None if low is None or high is None else (low, high),
        image_rate_target=_number(row.get("image_rate_target")),
        num_images=images if isinstance(images, int) else None,
        source=row["image_source"] if isinstance(row.get("image_source"), str) else None,
    )


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value)
