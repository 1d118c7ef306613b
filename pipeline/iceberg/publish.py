"""A committed run into a pair of Iceberg tables: checked before it is scored, published after its commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table as IcebergTable

from cops.errors import CopsError
from pipeline.errors import InputError, RunError
from pipeline.iceberg.address import TableAddress
from pipeline.iceberg.catalog import (
    as_errors,
    asked,
    find_table,
    make_table,
    open_catalog,
    require_usable,
    with_columns,
)
from pipeline.iceberg.columns import published_schema
from pipeline.iceberg.data_files import Copies, copy_parts
from pipeline.iceberg.replace import CommitUnknownError, Content, Replaced, files_of, replace, require_ours, snapshot_of
from pipeline.layout import RunLayout, Table
from pipeline.publication import Published
from pipeline.runs import open_run
from pipeline.schema import QUARANTINE, SCORES, with_metadata

_ORDER: tuple[Table, ...] = ("quarantine", "scores")  # who sees a run's scores sees its quarantine

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One run, and one of the two tables that it goes into."""

    catalog: Catalog
    name: str
    where: str
    layout: RunLayout

    @classmethod
    def both(cls, address: TableAddress, layout: RunLayout, *, patient: bool = True) -> dict[Table, Target]:
        catalog = open_catalog(address, patient=patient)
        names: dict[Table, str] = {"scores": address.scores, "quarantine": address.quarantine}
        return {
            table: cls(catalog=catalog, name=name, where=address.uri(name), layout=layout)
            for table, name in names.items()
        }

    def ask(self, action: Callable[[], T], *, error: type[CopsError] = RunError, patient: bool = True) -> T:
        return asked(action, error=error, where=self.where, patient=patient)

    def check(self, schema: pa.Schema, *, make: bool) -> bool:
        """Whether the table is there. Raises as the module's `check`."""
        table = find_table(self.catalog, self.name)
        if table:
            require_usable(table, schema, self.where)
            require_ours(table, self.layout.run_id, self.layout.root.uri(), self.where)
        elif make:
            make_table(self.catalog, self.name, schema, self.where)
        return table is not None

    def content(self, parts: list[dict[str, Any]]) -> Content:
        named = sorted((file["path"], file["rows"], file.get("footer_sha256")) for file in parts)
        digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()
        rows = sum(file["rows"] for file in parts)
        return Content(run_id=self.layout.run_id, output=self.layout.root.uri(), digest=digest, rows=rows)

    def told(self, rows: int, done: Replaced | None) -> Published:
        snapshot = done and done.snapshot
        return Published(
            run_id=self.layout.run_id,
            table=self.where,
            rows=rows,
            snapshot_id=snapshot.snapshot_id if snapshot else None,
            is_new=bool(done and done.is_new),
        )


def check(
    address: TableAddress, layout: RunLayout, metadata: Mapping[str, pa.DataType], *, make: bool
) -> dict[str, bool]:
    """Look whether a run can be published, while nothing is scored yet; which of the tables are there.

    Args:    make: make those that are missing, as a run does and a dry run does not.
    Raises:  InputError: it cannot: the catalog, a table, its columns, or the run's id.
    """
    schemas = {"scores": published_schema(with_metadata(SCORES, metadata)), "quarantine": published_schema(QUARANTINE)}
    targets = Target.both(address, layout, patient=False)
    return {
        target.where: target.ask(partial(target.check, schemas[table], make=make), error=InputError, patient=False)
        for table, target in targets.items()
    }


def publish(output: str, run_id: str | None, address: TableAddress) -> list[Published]:
    """Replace the run's rows in both tables, each in one snapshot; nothing happens where they are there already.

    Raises:  InputError: there is no such committed run, or the tables do not go with it.   RunError: not published.
    """
    run = open_run(output, run_id)
    schemas = {"scores": published_schema(run.scores.schema), "quarantine": published_schema(run.quarantine.schema)}
    targets = Target.both(address, RunLayout.at(output, run.run_id))
    for table in _ORDER:  # both, before either is touched
        targets[table].ask(partial(targets[table].check, schemas[table], make=True))
    return [_publish(targets[table], schemas[table], run.record, table) for table in _ORDER]


def retract(run_id: str, output: str, address: TableAddress) -> list[Published]:
    """Remove a run's rows from both tables; a table that is not there has none.

    Raises:  InputError: they came from another output.   RunError: they are not removed.
    """
    targets = Target.both(address, RunLayout.at(output, run_id))
    return [_retract(targets[table]) for table in reversed(_ORDER)]


def _publish(target: Target, schema: pa.Schema, record: Mapping[str, Any], table: Table) -> Published:
    parts = [file for file in record["files"] if file["table"] == table]
    content = target.content(parts)

    def ready() -> tuple[IcebergTable, Replaced | None]:
        there = target.catalog.load_table(target.name)
        if known := snapshot_of(there, content):
            return there, Replaced(snapshot=known, is_new=False)
        return with_columns(target.catalog, target.name, schema, target.where), None

    there, done = target.ask(ready)
    if done is None:
        with as_errors(RunError, target.where):
            copies = copy_parts(there, target.layout, parts)
        done = _committed(target, content, copies)
    return target.told(content.rows, done)


def _retract(target: Target) -> Published:
    content = target.content([])

    def ready() -> tuple[IcebergTable | None, int]:
        there = find_table(target.catalog, target.name)
        if there is None:
            return None, 0
        require_ours(there, content.run_id, content.output, target.where)
        return there, sum(int(file.record_count) for file in files_of(there, content.run_id))

    there, rows = target.ask(ready)
    if there is None or not rows:
        return target.told(0, None)
    return target.told(rows, _committed(target, content, Copies(table=there)))


def _committed(target: Target, content: Content, copies: Copies) -> Replaced:
    """The commit of what was copied; copies that no snapshot names are removed."""

    def load() -> IcebergTable:
        return target.ask(lambda: target.catalog.load_table(target.name))

    try:
        with as_errors(RunError, target.where):
            done = replace(load, content, copies.files)
    except CommitUnknownError:
        raise
    except Exception:
        copies.remove()
        raise
    if not done.is_new:  # another process was first
        copies.remove()
    return done
