"""Committed runs, for readers: a run without its record does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.errors import InputError
from pipeline.layout import TABLES, RunLayout, Table
from pipeline.schema import QUARANTINE, RUN_FORMAT, SCORES
from pipeline.storage import open_root, redact
from pipeline.store_errors import describe


@dataclass(frozen=True)
class Run:
    """One committed run. `scores` and `quarantine` are PyArrow datasets of exactly the files it committed."""

    run_id: str
    record: dict[str, Any]
    scores: ds.Dataset
    quarantine: ds.Dataset


def open_run(output: str, run_id: str | None = None) -> Run:
    """A committed run's tables; the one committed last where no id is given.

    Raises:  InputError: there is no such committed run, its record is damaged, or a file that it names is.
    """
    if run_id is None:
        committed = list(records(output))
        if not committed:
            raise InputError(f"{redact(output)}: no committed run; expected runs/<run_id>.json")
        record = max(committed, key=lambda record: str(record["committed_at"]))
    else:
        found = read_record(RunLayout.at(output, run_id))
        if found is None:
            raise InputError(f"{redact(output)}: run {run_id!r} has no record, so it was not committed (yet)")
        record = found
    layout = RunLayout.at(output, record["run_id"])
    try:
        tables = {table: _dataset(layout, record, table, schema) for table, schema in _SCHEMAS.items()}
    except (OSError, ValueError, pa.ArrowException) as exc:
        raise InputError(f"{redact(output)}: run {record['run_id']!r} cannot be read: {describe(exc)}") from exc
    return Run(record["run_id"], record, tables["scores"], tables["quarantine"])


_SCHEMAS: dict[Table, pa.Schema] = {"scores": SCORES, "quarantine": QUARANTINE}


def read_record(layout: RunLayout) -> dict[str, Any] | None:
    """The commit record of a run, None where it is not committed.

    Raises:  InputError: the record is damaged, or of another format, made by another version.
    """
    record = layout.read_json(layout.commit_path)
    if record is None:
        return None
    if record.get("format") != RUN_FORMAT:
        raise InputError(
            f"{layout.commit_path}: expected a record of format {RUN_FORMAT}, got {record.get('format')!r}"
        )
    files = record.get("files")
    texts = [record.get(name) for name in ("run_id", "committed_at")]
    if not isinstance(files, list) or not all(isinstance(text, str) for text in texts) or not all(map(_is_file, files)):
        raise InputError(f"{layout.commit_path}: damaged; expected run_id, committed_at and the list of its files")
    return record


def _is_file(told: Any) -> bool:
    return isinstance(told, dict) and told.get("table") in TABLES and isinstance(told.get("path"), str)


def records(output: str) -> Iterator[dict[str, Any]]:
    """The records of all committed runs."""
    root = open_root(output)
    layout = RunLayout(root, "")
    for path in layout.list_files(root.join("runs"), ".json"):
        record = read_record(RunLayout(root, path.rpartition("/")[2].removesuffix(".json")))
        if record is not None:
            yield record


def files_of(record: dict[str, Any], layout: RunLayout, table: Table) -> list[str]:
    """Full paths of a committed run's data files."""
    return [layout.root.join(file["path"]) for file in record["files"] if file["table"] == table]


def _dataset(layout: RunLayout, record: dict[str, Any], table: Table, schema: pa.Schema) -> ds.Dataset:
    paths = files_of(record, layout, table)
    if not paths:
        return ds.dataset(schema.empty_table())
    options = {"format": "parquet", "filesystem": layout.root.arrow_fs}
    if table == "scores":  # they have columns of their own
        return ds.dataset(paths, **options)
    folders = ds.partitioning(pa.schema([schema.field("run_id")]), flavor="hive")
    return ds.dataset(paths, schema, partitioning=folders, partition_base_dir=layout.root.join(table), **options)
