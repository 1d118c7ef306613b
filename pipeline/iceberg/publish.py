"""A committed run into a pair of Iceberg tables: checked before it is scored, published after its commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table as IcebergTable

from pipeline.errors import InputError, RunError
from pipeline.iceberg.address import TableAddress
from pipeline.iceberg.catalog import asked, find_table, make_table, open_catalog, require_usable, with_columns
from pipeline.iceberg.columns import published_schema
from pipeline.iceberg.data_files import Copies, copy_parts
from pipeline.iceberg.replace import CommitUnknownError, Content, Replaced, files_of, replace, require_ours, snapshot_of
from pipeline.layout import RunLayout, Table
from pipeline.publication import Published
from pipeline.runs import Run, open_run
from pipeline.schema import QUARANTINE, SCORES, with_metadata

_ORDER: tuple[Table, ...] = ("quarantine", "scores")  # who sees a run's scores sees its quarantine


def check(
    address: TableAddress, layout: RunLayout, metadata: Mapping[str, pa.DataType], *, make: bool
) -> dict[str, bool]:
    """Look whether a run can be published, while nothing is scored yet; which of the tables are there.

    Args:    make: make those that are missing, as a run does and a dry run does not.
    Raises:  InputError: it cannot: the catalog, a table, its columns, or the run's id.
    """

    def checked(catalog: Catalog, name: str, schema: pa.Schema) -> bool:
        where = address.uri(name)
        table = find_table(catalog, name)
        if table:
            require_usable(table, schema, where)
            require_ours(table, layout.run_id, layout.root.uri(), where)
        elif make:
            make_table(catalog, name, schema, where)
        return table is not None

    schemas = {"scores": published_schema(with_metadata(SCORES, metadata)), "quarantine": published_schema(QUARANTINE)}
    catalog = open_catalog(address)
    found = {}
    for table, schema in schemas.items():
        name = _name(address, table)
        look = partial(checked, catalog, name, schema)
        found[address.uri(name)] = asked(look, error=InputError, where=address.uri(name), patient=False)
    return found


def publish(output: str, run_id: str | None, address: TableAddress) -> list[Published]:
    """Replace the run's rows in both tables, each in one snapshot; nothing happens where they are there already.

    Raises:  InputError: there is no such committed run, or the tables do not go with it.   RunError: not published.
    """
    run = open_run(output, run_id)
    layout = RunLayout.at(output, run.run_id)
    catalog = open_catalog(address)
    return [_publish(catalog, address, layout, run, table) for table in _ORDER]


def retract(run_id: str, output: str, address: TableAddress) -> list[Published]:
    """Remove a run's rows from both tables; a table that is not there has none.

    Raises:  InputError: they came from another output.   RunError: they are not removed.
    """
    layout = RunLayout.at(output, run_id)
    catalog = open_catalog(address)
    return [_retract(catalog, address, layout, table) for table in reversed(_ORDER)]


def _publish(catalog: Catalog, address: TableAddress, layout: RunLayout, run: Run, table: Table) -> Published:
    name = _name(address, table)
    where = address.uri(name)
    ask = partial(asked, error=RunError, where=where)
    parts = [file for file in run.record["files"] if file["table"] == table]
    content = _content(layout, parts)
    schema = published_schema(run.scores.schema if table == "scores" else run.quarantine.schema)

    def ready() -> tuple[IcebergTable, Replaced | None]:
        there = find_table(catalog, name) or make_table(catalog, name, schema, where)
        require_ours(there, layout.run_id, content.output, where)
        if known := snapshot_of(there, content):
            return there, Replaced(snapshot=known, is_new=False)
        return with_columns(catalog, name, schema, where), None

    there, done = ask(ready)
    if done is None:
        copies = ask(lambda: copy_parts(there, layout, parts))
        done = _committed(catalog, name, content, copies, where)
    return _published(where, content.run_id, content.rows, done)


def _retract(catalog: Catalog, address: TableAddress, layout: RunLayout, table: Table) -> Published:
    name = _name(address, table)
    where = address.uri(name)
    content = _content(layout, [])

    def ready() -> tuple[IcebergTable | None, int]:
        there = find_table(catalog, name)
        if there is None:
            return None, 0
        require_ours(there, layout.run_id, content.output, where)
        return there, sum(int(file.record_count) for file in files_of(there, layout.run_id))

    there, rows = asked(ready, error=RunError, where=where)
    if there is None or not rows:
        return Published(run_id=layout.run_id, table=where, rows=0, snapshot_id=None, is_new=False)
    return _published(where, layout.run_id, rows, _committed(catalog, name, content, Copies(table=there), where))


def _committed(catalog: Catalog, name: str, content: Content, copies: Copies, where: str) -> Replaced:
    """The commit of what was copied; copies that no snapshot names are removed."""
    load = partial(asked, partial(catalog.load_table, name), error=RunError, where=where)
    try:
        done = asked(lambda: replace(load, content, copies.files), error=RunError, where=where, patient=False)
    except CommitUnknownError:
        raise
    except Exception:
        copies.remove()
        raise
    if not done.is_new:  # another process was first
        copies.remove()
    return done


def _content(layout: RunLayout, parts: list[dict[str, Any]]) -> Content:
    named = sorted((file["path"], file["rows"], file.get("footer_sha256")) for file in parts)
    digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()
    rows = sum(file["rows"] for file in parts)
    return Content(run_id=layout.run_id, output=layout.root.uri(), digest=digest, rows=rows)


def _published(where: str, run_id: str, rows: int, done: Replaced) -> Published:
    snapshot_id = done.snapshot.snapshot_id if done.snapshot else None
    return Published(run_id=run_id, table=where, rows=rows, snapshot_id=snapshot_id, is_new=done.is_new)


def _name(address: TableAddress, table: str) -> str:
    return address.scores if table == "scores" else address.quarantine
