"""Committed runs as SQL: a DuckDB connection whose views hold what was committed, and nothing else.

`runs`, `scores`, `quarantine` and `labels`; queries/views.sql makes the same four for DuckDB's own shell.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline import ledger
from pipeline.errors import InputError, RunError
from pipeline.label_sets import LABEL_COLUMNS, LABELS, OWN, committed
from pipeline.label_sets import files_of as label_files
from pipeline.layout import RunLayout, check_run_id
from pipeline.parts import CHECKED_PARQUET
from pipeline.runs import files_of, latest_record, record_of, records
from pipeline.schema import QUARANTINE_FILE, SCORES
from pipeline.storage import Root, open_root
from pipeline.store_errors import FormatError, opened, with_patience

RUNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
        ("model", pa.string()),
        ("model_id", pa.string()),
        ("precision", pa.string()),
        *((name, pa.int64()) for name in ("planned", "scored", "quarantined", "skipped", "bytes")),
        ("images_per_s", pa.float64()),
        ("wall_s", pa.float64()),
        ("attempts", pa.int64()),
        ("git_commit", pa.string()),
        ("version", pa.string()),
        ("record", pa.string()),  # all of it, as JSON
    ]
)
_ASKED_AT_ONCE = 16


@contextlib.contextmanager
def open_views(
    output: str, run_ids: Sequence[str] | None = None, *, label_set: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with committed runs as views: `runs`, `scores`, `quarantine`, `labels`.

    It reads these and reaches no other file, whatever SQL it is given.
    Args:    run_ids: these runs; all committed ones where None.
             label_set: whose labels and masks `scores` has: null in runs that lack it; the runs' own where None.
    Raises:  InputError: there is no such run, a record is damaged, no run has the label set, or a column has types in
             several runs that no one type holds.   RunError: a part is damaged.
    """
    root = open_root(output)
    found = _records(output, run_ids)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        label_sets = threads.map(lambda record: committed(RunLayout(root, record["run_id"]), record), found)
        made = {record["run_id"]: sets for record, sets in zip(found, label_sets, strict=True)}
    with ledger.tables(
        root,
        runs=pa.Table.from_pylist([_run_row(record) for record in found], RUNS),
        own_scores=_scores(root, found),
        quarantine=_parts_as_dataset(root, _files(root, found, "quarantine"), QUARANTINE_FILE, "quarantine"),
        made_labels=_made_labels(root, made),
    ) as sql:
        sql.execute("SET enable_external_access = false")
        own = ", ".join(("image_id", *LABEL_COLUMNS))
        sql.execute(
            f"CREATE TEMP VIEW labels AS SELECT run_id, '{OWN}' AS label_set, {own} FROM own_scores UNION ALL "
            f"SELECT run_id, label_set, {own} FROM made_labels"
        )
        sql.execute(f"CREATE TEMP VIEW scores AS {_scores_view(root, made, label_set)}")
        yield sql


def _records(output: str, run_ids: Sequence[str] | None) -> list[dict[str, Any]]:
    """Their records, the oldest first."""
    if run_ids is None:
        found = list(records(output)) or [latest_record(output)]  # which says that there is none
    else:
        found = [record_of(RunLayout.at(output, check_run_id(run_id, "run id"))) for run_id in dict.fromkeys(run_ids)]
    return sorted(found, key=lambda record: (str(record["committed_at"]), record["run_id"]))


def _run_row(record: Mapping[str, Any]) -> dict[str, Any]:
    counts, model, seconds = record.get("counts", {}), record.get("model", {}), record.get("seconds", {})
    return {
        **{name: counts.get(name) for name in ("planned", "scored", "quarantined", "skipped", "bytes")},
        "run_id": record["run_id"],
        "committed_at": datetime.datetime.fromisoformat(record["committed_at"]),
        "model": model.get("name"),
        "model_id": record.get("model_id"),
        "precision": model.get("precision", record.get("config", {}).get("precision")),
        "images_per_s": record.get("images_per_s"),
        "wall_s": seconds.get("wall"),
        "attempts": record.get("attempts"),
        "git_commit": record.get("git_commit"),
        "version": record.get("versions", {}).get("cops-inspection"),
        "record": json.dumps(record),
    }


def _files(root: Root, found: Sequence[dict[str, Any]], table: Any) -> list[str]:
    return [path for record in found for path in files_of(record, RunLayout(root, record["run_id"]), table)]


def _scores(root: Root, found: Sequence[dict[str, Any]]) -> ds.Dataset:
    """The scores of all these runs; columns that some runs lack are null in them."""
    firsts = {}
    for record in found:
        if paths := files_of(record, RunLayout(root, record["run_id"]), "scores"):
            firsts[record["run_id"]] = paths[0]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        schemas = dict(zip(firsts, threads.map(lambda path: _schema(root, path), firsts.values()), strict=True))
    return _parts_as_dataset(root, _files(root, found, "scores"), _united(schemas), "scores")


def _schema(root: Root, path: str) -> pa.Schema:
    """Raises:  RunError: the part is damaged, or is not there."""

    def read() -> pa.Schema:
        with opened(root.fs, path) as file:
            return pq.read_schema(file).remove_metadata()

    try:
        return with_patience(read, root.uri(path))
    except (FormatError, FileNotFoundError) as exc:
        told = f"{root.uri(path)}: {exc}; jobs/runs.py verify --all tells of all"
        raise RunError(f"a part of the tables cannot be read: {told}") from exc


def _united(schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    """Raises:  InputError: a column is of types that no one type holds."""
    united, came_from = SCORES, "the table's definition"
    for run_id, schema in schemas.items():
        try:
            united = pa.unify_schemas([united, schema], promote_options="permissive")
        except pa.ArrowException as exc:
            raise InputError(f"run {run_id!r} and {came_from} cannot be read together: {exc}; read them apart") from exc
        came_from = f"run {run_id!r} or an earlier one"
    return united


def _made_labels(root: Root, made: Mapping[str, Mapping[str, dict[str, Any]]]) -> ds.Dataset | pa.Table:
    runs = ((RunLayout(root, run_id), sets) for run_id, sets in made.items())
    paths = [path for run, sets in runs for record in sets.values() for path in label_files(record, run)]
    return _parts_as_dataset(root, paths, LABELS, "labels")


def _parts_as_dataset(root: Root, paths: Sequence[str], schema: pa.Schema, table: str) -> ds.Dataset | pa.Table:
    folders = pa.schema([("run_id", pa.string()), *([("label_set", pa.string())] if table == "labels" else [])])
    whole = pa.schema([*schema, *folders])
    if not paths:
        return whole.empty_table()
    return ds.dataset(
        list(paths),
        whole,
        format=CHECKED_PARQUET,
        filesystem=root.arrow_fs,
        partitioning=ds.partitioning(folders, flavor="hive"),
        partition_base_dir=root.join(table),
    )


def _scores_view(root: Root, made: Mapping[str, Mapping[str, Any]], label_set: str | None) -> str:
    """Raises:  InputError: no run has the label set."""
    if label_set in (None, OWN):
        return "SELECT * FROM own_scores"
    if not any(label_set in sets for sets in made.values()):
        known = sorted({name for sets in made.values() for name in sets})
        raise InputError(
            f"{root.uri()}: no label set {label_set!r} in {', '.join(made)}; there are {', '.join([OWN, *known])}"
        )
    replaced = ", ".join(f"made.{name} AS {name}" for name in LABEL_COLUMNS)
    return (
        f"SELECT own_scores.* REPLACE ({replaced}) FROM own_scores LEFT JOIN "
        f"(SELECT * FROM made_labels WHERE label_set = '{label_set}') AS made USING (run_id, image_id)"
    )
