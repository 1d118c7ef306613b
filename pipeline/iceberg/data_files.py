"""A run's parts copied into data files of an Iceberg table: fewer and larger ones, batch by batch.

Copied, not registered: Iceberg removes files of its own tables when snapshots expire, and the parts are the run's.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table

from pipeline.errors import RunError
from pipeline.iceberg.columns import RUN_ID, published_schema
from pipeline.layout import RunLayout
from pipeline.store_errors import describe, with_patience

FILE_BYTES = 128 * 2**20  # of parts that make one data file, as they lie in the store
_GROUP_ROWS, _GROUP_BYTES = 8192, 32 * 2**20  # a row group is written when it has either
_BATCH_ROWS = 1024
_AT_ONCE = 4

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Copies:
    """Data files of one table that are in no snapshot yet; `begun` are their paths, and those of broken-off tries."""

    table: Table
    files: list[DataFile] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(int(file.record_count) for file in self.files)

    def remove(self, *, only_broken: bool = False) -> None:
        """What cannot be removed is left: no snapshot names it, and Iceberg's upkeep looks for such files."""
        kept = {file.file_path for file in self.files} if only_broken else set()
        for path in set(self.begun) - kept:
            try:
                self.table.io.delete(path)
            except FileNotFoundError:  # it was begun, and nothing came of it
                continue
            except Exception as exc:  # noqa: BLE001 -- each store's client has errors of its own
                log.warning("%s could not be removed: %s", path, describe(exc))


def copy_parts(table: Table, layout: RunLayout, parts: Sequence[Mapping[str, Any]]) -> Copies:
    """Args:    parts: of one of our tables, as the run's record has them; its columns are in the Iceberg table.
    Raises:  RunError: they do not hold the rows that the record says. What was written is removed then, as it is when
             the store fails.
    """
    copies = Copies(table=table)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            copying = [threads.submit(_copy, copies, layout, group) for group in groups_of(parts)]
            try:
                copies.files.extend(one.result() for one in copying)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        _require_rows(copies.rows, sum(part["rows"] for part in parts), layout.run_id)
    except BaseException:
        copies.remove()
        raise
    copies.remove(only_broken=True)
    return copies


def _require_rows(rows: int, expected: int, run_id: str) -> None:
    if rows != expected:
        again = f"`jobs/runs.py verify {run_id}` tells what is wrong"
        raise RunError(f"run {run_id!r}: its parts hold {rows:,} rows, its record {expected:,}; {again}")


def groups_of(parts: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Paths of parts that make a data file together."""
    group: list[str] = []
    size = 0
    for part in parts:
        if group and size + part["num_bytes"] > FILE_BYTES:
            yield group
            group, size = [], 0
        group.append(part["path"])
        size += part["num_bytes"]
    if group:
        yield group


def _copy(copies: Copies, layout: RunLayout, paths: list[str]) -> DataFile:
    """One data file, begun anew under another name where the store fails in its middle."""

    def copied() -> DataFile:
        place = _new_place(copies.table, layout.run_id)
        copies.begun.append(place)
        _write(copies.table, place, _batches(layout, paths), layout.run_id)
        return parquet_file_to_data_file(copies.table.io, copies.table.metadata, place)

    return with_patience(copied, layout.root.uri())


def _new_place(table: Table, run_id: str) -> str:
    (by_run,) = table.spec().fields
    key = PartitionKey([PartitionFieldValue(by_run, run_id)], table.spec(), table.schema())
    return table.location_provider().new_data_location(f"{uuid.uuid4()}.parquet", key)


def _batches(layout: RunLayout, paths: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of parts, in order; some thousands in memory at a time."""
    scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    read = ds.ParquetFileFormat(default_fragment_scan_options=scan)
    found = ds.dataset([layout.root.inside(path) for path in paths], format=read, filesystem=layout.root.arrow_fs)
    yield from found.to_batches(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1)


def _write(table: Table, place: str, batches: Iterable[pa.RecordBatch], run_id: str) -> None:
    """Write a data file whose columns bear the ids that the table knows them by."""
    schema = schema_to_pyarrow(table.schema())
    with (
        table.io.new_output(place).create() as out,
        pq.ParquetWriter(
            out, schema, compression="zstd", write_page_checksum=True, store_decimal_as_integer=True
        ) as writer,
    ):
        for group in _row_groups(batches):
            writer.write_table(as_in_table(group, schema, run_id))


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """As few as memory bears: a run's smallest parts have some rows each."""
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        kept.append(batch)
        if sum(map(len, kept)) >= _GROUP_ROWS or sum(one.nbytes for one in kept) >= _GROUP_BYTES:
            yield pa.Table.from_batches(kept)
            kept = []
    if kept:
        yield pa.Table.from_batches(kept)


def as_in_table(rows: pa.Table, schema: pa.Schema, run_id: str) -> pa.Table:
    """Rows of a run in the table's columns; null in those that the run does not have."""
    plain = published_schema(rows.schema)
    columns = []
    for one in schema:
        if one.name == RUN_ID.name:
            column = pa.repeat(pa.scalar(run_id, one.type), len(rows))
        elif one.name in rows.column_names:
            # First what a user's column holds is cut to what Iceberg has, as a time's nanoseconds are.
            column = rows[one.name].cast(plain.field(one.name).type, safe=False).cast(one.type)
        else:
            column = pa.nulls(len(rows), one.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
