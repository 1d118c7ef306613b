"""One attempt at a run: what the run is, its plan, and what of it is left to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import ledger
from pipeline.config import ScoreConfig
from pipeline.errors import ClaimError, InputError
from pipeline.incremental import drop_scored
from pipeline.layout import TABLES, Parts, RunLayout
from pipeline.model import ModelCard
from pipeline.plan import PlanSummary, count_rows, metadata_types, plan_record, rewrite_plan, write_plan
from pipeline.schema import PLAN
from pipeline.sources import PlanRows, Source, recognise
from pipeline.storage import redact, remove_file, remove_tree
from pipeline.store_errors import with_patience
from pipeline.thresholds import Thresholds
from pipeline.worklist import Worklist, make_worklist

CheckColumns = Callable[[Mapping[str, pa.DataType]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run's plan as it lies in the store."""

    files: list[str]
    summary: PlanSummary
    metadata: Mapping[str, pa.DataType]


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What this attempt does: the plan without what the tables hold. `parts` are the files that were there."""

    worklist: Worklist
    parts: frozenset[str]
    done: int


def identity(config: ScoreConfig, card: ModelCard, thresholds: Thresholds) -> dict[str, Any]:
    """What makes a run this run: everything that decides which rows its tables hold. Kept in its record."""
    return {
        "inputs": [redact(uri) for uri in config.inputs],
        "format": config.format,
        "model": card.name,
        "model_id": card.model_id,
        "precision": card.precision,
        "incremental": config.incremental,
        "category": config.category,
        "path_fields": config.path_fields,
        "keep_columns": list(config.keep_columns),
        "image_column": config.image_column,
        "thresholds": redact(config.thresholds) if config.thresholds else None,
        "thresholds_digest": thresholds.digest if config.thresholds else None,
        "image_threshold": thresholds.pooled.image,
        "pixel_threshold": thresholds.pooled.pixel,
        "limit": config.limit,
        "decode": config.decode.record(),
    }


def check_identity(known: Mapping[str, Any], now: Mapping[str, Any], run_id: str) -> None:
    """Raises:  InputError: a run of this id was started with other values."""
    other = {name: (known.get(name), value) for name, value in now.items() if known.get(name) != value}
    if other:
        told = "; ".join(f"{name} was {before!r}, is now {after!r}" for name, (before, after) in other.items())
        raise InputError(f"run {run_id!r} was started otherwise: {told}. Give the same values, or another --run-id.")


def find_or_make_plan(
    config: ScoreConfig, layout: RunLayout, card: ModelCard, identity: Mapping[str, Any], *, check: CheckColumns
) -> Plan:
    """The run's plan: made by the first attempt, found by later ones, so that all of them score the same images.

    Args:    check: told the run's own columns, before anything is planned.
    Raises:  what `check` raises.   InputError: there is nothing to score, the run was started with other values, or
             parts of an earlier run of this id are left.
    """
    path = _plan_path(layout)
    record = layout.read_json(path)
    if record is None:
        require_no_parts(layout)
        record = make_plan(config, layout, card, check=check) | {"identity": dict(identity)}
        layout.write_json(path, record, once=True)
        return _plan_of(layout, record)
    check_identity(record["identity"], identity, config.run_id)
    plan = _plan_of(layout, record)
    check(plan.metadata)
    return plan


def _plan_of(layout: RunLayout, record: Mapping[str, Any]) -> Plan:
    files = [layout.root.inside(name) for name in record["files"]]
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(record["schema"])))
    metadata = {name: schema.field(name).type for name in record["metadata"]}
    return Plan(files=files, summary=PlanSummary(**record["summary"]), metadata=metadata)


def require_no_parts(layout: RunLayout) -> None:
    """Parts are written after the plan. Those of a run that was discarded by half would be taken for done, whatever
    model made them.

    Raises:  InputError: there are some.
    """
    left = sum(len(paths) for paths in layout.all_parts().values())
    if left:
        raise InputError(
            f"run {layout.run_id!r} has neither record nor plan, but {left:,} part files of an earlier run of this id. "
            f"`jobs/runs.py discard {layout.run_id}` removes them; or choose another --run-id."
        )


def has_plan(layout: RunLayout) -> bool:
    return layout.read_json(_plan_path(layout)) is not None  # `exists` of some filesystems says no to every error


def _plan_path(layout: RunLayout) -> str:
    return layout.work_path("plan.json")


def make_plan(config: ScoreConfig, layout: RunLayout, card: ModelCard, *, check: CheckColumns) -> dict[str, Any]:
    """Write the plan's files; what plan.json says of them. Raises what `check` raises, too."""
    sources = [recognise(uri, forced=config.format, image_column=config.image_column) for uri in config.inputs]
    rows = plan_rows(config, sources)
    check(rows.metadata)
    remove_tree(layout.root.fs, layout.work_path("plan"))  # of an attempt that died while planning
    files, summary = write_plan(config, sources, layout.root, layout.work_path("plan"), rows=rows)
    if config.incremental:
        files, summary.skipped = drop_scored(
            layout, config.output, files, rows.schema, model_id=card.model_id, rules=config.decode
        )
        summary.planned -= summary.skipped
    schema = rows.schema.serialize().to_pybytes().hex()
    return plan_record(files, summary, layout.root) | {"metadata": list(rows.metadata), "schema": schema}


def plan_rows(config: ScoreConfig, sources: list[Source]) -> PlanRows:
    metadata = metadata_types(config, sources)
    return PlanRows(category=config.category, template=config.path_template, metadata=metadata)


def remaining(layout: RunLayout, plan: Plan, attempt: int, *, tasks: int) -> Remaining:
    """What the tables do not hold yet, as some `tasks` tasks. They are the only ledger, read anew by every attempt."""
    _remove_temporaries(layout)
    parts = _without_overlaps(layout)
    known = frozenset(path for paths in parts.values() for path in paths)
    if not known:
        worklist = make_worklist(layout.root, plan.files, plan.summary.planned, tasks=tasks)
        return Remaining(worklist=worklist, parts=known, done=0)
    schema = PLAN
    for name, kind in plan.metadata.items():
        schema = schema.append(pa.field(name, kind))
    folder = layout.work_path(f"todo-{attempt:05d}")
    files = rewrite_plan(
        layout.root,
        plan.files,
        folder,
        schema,
        query=ledger.REMAINING,
        scores=parts["scores"],
        quarantine=parts["quarantine"],
    )
    left = count_rows(layout.root, files)
    log.info("resuming: %d of %d images are in the tables already", plan.summary.planned - left, plan.summary.planned)
    worklist = make_worklist(layout.root, files, left, tasks=tasks)
    return Remaining(worklist=worklist, parts=known, done=plan.summary.planned - left)


def to_commit(layout: RunLayout, known: frozenset[str], attempt: int) -> Parts:
    """The parts that make the run, from one look at the store: those that this attempt found, and its own.

    Others are removed: a lost process of an earlier attempt wrote them after we had read the tables, and we did those
    images, too. What it writes after this look is in no record, so no reader sees it.

    Raises:  ClaimError: a later attempt has written parts: this one is the lost process.
    """
    found = layout.all_parts()
    ours = f"part-{attempt:05d}-"
    strays = [
        path for paths in found.values() for path in paths
        if path not in known and not path.rpartition("/")[2].startswith(ours)
    ]  # fmt: skip
    if any(path.rpartition("/")[2] > ours for path in strays):
        raise ClaimError(f"run {layout.run_id!r} was taken over by another process; this one stops")
    for path in strays:
        _remove(layout, path, "a process of an earlier attempt wrote it late")
    return {table: [path for path in paths if path not in strays] for table, paths in found.items()}


def _without_overlaps(layout: RunLayout) -> Parts:
    """The tables' parts. Where two hold one image, as after a lost process's late write, the later part is removed:
    its other images are done again.
    """
    parts = layout.all_parts()
    paths = [path for paths in parts.values() for path in paths]
    if not paths:
        return parts
    later = with_patience(lambda: _overlapping(layout, paths), layout.root.uri())
    for path in paths:
        if path in later:
            _remove(layout, path, "an earlier part holds images of it, too")
    return {table: [path for path in paths if path not in later] for table, paths in parts.items()}


def _remove(layout: RunLayout, path: str, why: str) -> None:
    uri = layout.root.uri(path)
    log.warning("removing %s: %s", uri, why)
    with_patience(lambda: remove_file(layout.root.fs, path), uri)


def _overlapping(layout: RunLayout, paths: list[str]) -> set[str]:
    with ledger.tables(layout.root, written=ledger.with_files(layout.root, paths, "image_id")) as sql:
        return {row[0] for row in sql.execute(ledger.OVERLAPPING).fetchall()}


def _remove_temporaries(layout: RunLayout) -> None:
    """Half-written files of killed writers on local disk; no reader sees them, but they take room."""
    if not layout.root.is_local:
        return
    for table in TABLES:
        for entry in layout.entries(layout.table_dir(table)):
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                Path(entry.path).unlink(missing_ok=True)
