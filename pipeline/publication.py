"""Committed runs published into Iceberg tables, where pyiceberg is installed; it is needed by nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError, RunError
from pipeline.iceberg.address import TableAddress
from pipeline.layout import RunLayout


@dataclass(frozen=True, kw_only=True)
class Published:
    """What one table has of a run now, or lost of it. `snapshot_id` is None where it never had rows of the run.

    Args:    is_new: whether the snapshot was made just now.
    """

    run_id: str
    table: str
    rows: int
    snapshot_id: int | None
    is_new: bool


def check_table(
    uri: str, layout: RunLayout, metadata: Mapping[str, pa.DataType] | None = None, *, make: bool = False
) -> dict[str, bool]:
    """Look, before anything is scored, whether the run can be published; each table's URI, and whether it is there.

    Args:    metadata: the run's own columns, once they are known.   make: make tables that are missing.
    Raises:  InputError: it cannot be published there.
    """
    found: dict[str, bool] = _iceberg().check(TableAddress.parse(uri), layout, metadata or {}, make=make)
    return found


def publish(output: str, run_id: str | None, uri: str) -> list[Published]:
    """Have both tables hold the committed run's rows; each changes in one step, or not at all where it has them.

    Raises:  InputError: there is no such run, or it cannot be published there.   RunError: it was not published.
    """
    published: list[Published] = _iceberg().publish(output, run_id, TableAddress.parse(uri))
    return published


def publish_after_commit(output: str, run_id: str, uri: str) -> list[Published]:
    """As `publish`, of a run that was committed a moment ago.

    Raises:  RunError: it is not published; says the way on.
    """
    try:
        return publish(output, run_id, uri)
    except (InputError, RunError) as exc:
        raise RunError(
            f"run {run_id!r} is committed, but not published: {exc}. Give the same command with --run-id {run_id} "
            f"again, or `jobs/runs.py publish {run_id}`"
        ) from exc


def retract(output: str, run_id: str, uri: str) -> list[Published]:
    """Remove a run's rows from both tables; `rows` are those that went. Raises as `publish` does."""
    removed: list[Published] = _iceberg().retract(run_id, output, TableAddress.parse(uri))
    return removed


def published_text(published: Published) -> str:
    """One line."""
    if published.snapshot_id is None:
        return f"{published.table}  (0 rows)"
    there = "" if published.is_new else ", there already"
    return f"{published.table}  ({rows_text(published.rows)}, snapshot {published.snapshot_id}{there})"


def rows_text(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _iceberg() -> Any:
    """The module that does it; importing it reads pyiceberg's configuration.

    Raises:  InputError: pyiceberg is not installed, or its configuration cannot be read.
    """
    try:
        return importlib.import_module("pipeline.iceberg.publish")
    except ImportError as exc:
        raise InputError(f"iceberg:// needs a package: pip install 'cops-inspection[iceberg]' ({exc.name})") from exc
    except Exception as exc:  # noqa: BLE001 -- a YAML parser's, with the lines that it stumbled on: secrets, perhaps
        kind = type(exc).__name__
        raise InputError(f"iceberg://: pyiceberg's configuration, .pyiceberg.yaml, cannot be read: {kind}") from None
