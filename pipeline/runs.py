"""Committed runs, for readers: a run without its record does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.errors import InputError
from pipeline.label_sets import LABEL_COLUMNS, OWN, label_set_of
from pipeline.label_sets import files_of as label_files
from pipeline.layout import TABLES, RunLayout, Table, check_run_id
from pipeline.parts import CHECKED_PARQUET, read_part
from pipeline.schema import QUARANTINE, RUN_FORMAT, SCORES
from pipeline.storage import Root, open_root, redact
from pipeline.store_errors import describe

_READ_AT_ONCE = 16
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.parquet")


@dataclass(frozen=True)
class Run:
    """One committed run. `scores` and `quarantine` are PyArrow datasets of exactly the files it committed.

    Args:    scores: without labels and masks where those of a label set are wanted: `tables` has them.
             label_set: whose labels and masks `tables` gives.   labels: the record of these; None: the run's own.
    """

    run_id: str
    record: dict[str, Any]
    scores: ds.Dataset
    quarantine: ds.Dataset
    layout: RunLayout
    label_set: str = OWN
    labels: dict[str, Any] | None = None

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The scores part by part, some 25 MB at most, with the labels and masks of the label set.

        Raises:  InputError: a part cannot be read, or has no such column.
        """
        for at in range(self.num_parts):
            yield self.part(at, columns)

    @property
    def num_parts(self) -> int:
        return len(files_of(self.record, self.layout, "scores"))

    def part(self, at: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One of the parts that `tables` gives. Raises as that does."""
        there = list(dict.fromkeys([*SCORES.names, *self.scores.schema.names]))
        wanted = list(columns) if columns is not None else there
        if missing := [name for name in wanted if name not in there]:
            has = ", ".join(there)
            raise InputError(f"run {self.run_id!r}: expected columns of its scores, got {missing}; it has {has}")
        part = _read_part(self.layout.root, files_of(self.record, self.layout, "scores")[at], wanted)
        replaced = [name for name in wanted if name in LABEL_COLUMNS] if self.labels else []
        if self.labels and replaced:
            labels = _read_part(self.layout.root, label_files(self.labels, self.layout)[at], replaced)
            for name in replaced:
                part = part.set_column(part.schema.get_field_index(name), name, labels[name])
        return part


def _read_part(root: Root, path: str, columns: Sequence[str]) -> pa.Table:
    try:
        return read_part(root, path, columns)
    except (OSError, ValueError, pa.ArrowException) as exc:
        raise InputError(f"{root.uri(path)} cannot be read: {describe(exc)}") from exc


def open_run(output: str, run_id: str | None = None, *, label_set: str | None = None) -> Run:
    """A committed run's tables; the one committed last where no id is given.

    Args:    label_set: labels and masks that jobs/label.py made; the run's own where None.
    Raises:  InputError: there is no such committed run or label set, its record is damaged, or a file that it names is.
    """
    record = (
        latest_record(output) if run_id is None else record_of(RunLayout.at(output, check_run_id(run_id, "run id")))
    )
    layout = RunLayout.at(output, record["run_id"])
    chosen = label_set or OWN
    try:
        scores = _dataset(layout, record, "scores", SCORES)
        if chosen != OWN:
            scores = scores.replace_schema(pa.schema([one for one in scores.schema if one.name not in LABEL_COLUMNS]))
        quarantine = _dataset(layout, record, "quarantine", QUARANTINE)
    except (OSError, ValueError, pa.ArrowException) as exc:
        raise InputError(f"{redact(output)}: run {record['run_id']!r} cannot be read: {describe(exc)}") from exc
    labels = None if chosen == OWN else label_set_of(layout, chosen, record)
    return Run(record["run_id"], record, scores, quarantine, layout, chosen, labels)


def latest_record(output: str) -> dict[str, Any]:
    """The record of the run committed last.

    Raises:  InputError: there is none, or one that cannot be read.
    """
    committed = list(records(output))
    if not committed:
        raise InputError(f"{redact(output)}: no committed run; expected runs/<run_id>.json")
    return max(committed, key=lambda record: str(record["committed_at"]))


def record_of(layout: RunLayout) -> dict[str, Any]:
    """A run's commit record.

    Raises:  InputError: it has none, or one that cannot be read.
    """
    record = read_record(layout)
    if record is None:
        raise InputError(f"{layout.root.uri()}: run {layout.run_id!r} has no record, so it was not committed (yet)")
    return record


def read_record(layout: RunLayout) -> dict[str, Any] | None:
    """The commit record of a run, None where it is not committed.

    Raises:  InputError: it is no record, of another format, of another run, or names files that are not this run's.
    """
    record = layout.read_json(layout.commit_path)
    if record is not None:
        _check(record, layout, layout.root.uri(layout.commit_path))
    return record


def _check(record: Mapping[str, Any], layout: RunLayout, where: str) -> None:
    """Of a record that anybody may have written, what readers go by. Raises as `read_record` does."""
    if record.get("format") != RUN_FORMAT:
        raise InputError(f"{where}: expected a record of format {RUN_FORMAT}, got {record.get('format')!r:.200}")
    if record.get("run_id") != layout.run_id:
        raise InputError(f"{where}: expected the record of run {layout.run_id!r}, got {record.get('run_id')!r:.200}")
    if not isinstance(record.get("committed_at"), str) or not isinstance(record.get("files"), list):
        raise InputError(f"{where}: expected when it was committed and its files; the record lacks them")
    seen: set[str] = set()
    for file in record["files"]:
        if not _is_part(file, layout.run_id) or file["path"] in seen:
            expected = f"each file once, as scores/run_id={layout.run_id}/<name>.parquet or quarantine/…"
            raise InputError(f"{where}: expected {expected}; got {file!r:.200}")
        seen.add(file["path"])


def _is_part(file: Any, run_id: str) -> bool:
    """Whether it is in this run's folders. A record is data, and what it names is read: nothing may lead elsewhere."""
    if not isinstance(file, dict) or file.get("table") not in TABLES or not isinstance(file.get("path"), str):
        return False
    folder, _, name = file["path"].rpartition("/")
    return folder == f"{file['table']}/run_id={run_id}" and _PART.fullmatch(name) is not None


def records(output: str) -> Iterator[dict[str, Any]]:
    """The records of all committed runs."""
    root = open_root(output)
    paths = RunLayout(root, "").list_files(root.join("runs"), ".json")
    layouts = [RunLayout(root, path.rpartition("/")[2].removesuffix(".json")) for path in paths]
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        yield from filter(None, threads.map(read_record, layouts))


def map_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """`image_size` and `sigma_px`: what, beside a row's `patch_scores`, its map is rebuilt by.

    Raises:  InputError: the record is of a version that did not keep them.
    """
    model = record.get("model", {})
    found = {name: model.get(name) for name in ("image_size", "sigma_px")}
    if None in found.values():
        raise InputError(
            f"run {record['run_id']!r}: its record does not tell what its maps are rebuilt by (image_size and sigma_px "
            "of the model); it is of an earlier version: score again"
        )
    return found


def files_of(record: dict[str, Any], layout: RunLayout, table: Table) -> list[str]:
    """Full paths of a committed run's data files."""
    return [layout.root.inside(file["path"]) for file in record["files"] if file["table"] == table]


def _dataset(layout: RunLayout, record: dict[str, Any], table: Table, schema: pa.Schema) -> ds.Dataset:
    paths = files_of(record, layout, table)
    if not paths:
        return ds.dataset(schema.empty_table())
    options = {"format": CHECKED_PARQUET, "filesystem": layout.root.arrow_fs}
    if table == "scores":  # they have columns of their own
        return ds.dataset(paths, **options)
    folders = ds.partitioning(pa.schema([schema.field("run_id")]), flavor="hive")
    return ds.dataset(paths, schema, partitioning=folders, partition_base_dir=layout.root.join(table), **options)
