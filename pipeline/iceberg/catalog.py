"""Catalogs and their tables: found, asked with patience, made where they are missing."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import TypeVar

import pyarrow as pa
import pyiceberg.exceptions
from pyiceberg.catalog import Catalog, list_catalogs, load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from cops.errors import CopsError
from pipeline.errors import InputError, RunError
from pipeline.iceberg.address import TableAddress
from pipeline.iceberg.columns import RUN_ID, missing_columns
from pipeline.store_errors import describe, is_refusal, is_transient, waits

# Of a table that we make. A run's id has to stand whole in the metadata: of the 16 characters that are kept by default
# every run of one night has the same. Of these columns least and greatest mean nothing.
_PROPERTIES = {
    "write.metadata.metrics.column.run_id": "full",
    "write.metadata.metrics.column.patch_scores": "none",
    "write.metadata.metrics.column.pred_mask.counts": "none",
}
ANSWER_S = 120.0
"""How long a catalog may take for one answer. Some of pyiceberg's clients wait for ever."""
_TRIES = 5
_SHORT_PATIENCE = 2  # pauses
_PASSING = (
    pyiceberg.exceptions.ServiceUnavailableError,
    pyiceberg.exceptions.ServerError,
    pyiceberg.exceptions.TooManyRequestsError,
)

T = TypeVar("T")
log = logging.getLogger(__name__)


def open_catalog(address: TableAddress, *, patient: bool) -> Catalog:
    """Raises:  InputError: it is not configured; or, where patience is not asked for, cannot be had as it is.
    RunError: it cannot be had.
    """

    def opened() -> Catalog:
        known = sorted(list_catalogs())
        if address.catalog.lower() not in known:
            there = f"configured are {', '.join(known)}" if known else "none is configured"
            raise InputError(
                f"{address.uri()}: no catalog {address.catalog!r}; {there}. Expected it in ~/.pyiceberg.yaml (or in "
                f"the folder that PYICEBERG_HOME names), or as PYICEBERG_CATALOG__{address.catalog.upper()}__URI"
            )
        return load_catalog(address.catalog)

    return asked(opened, error=RunError if patient else InputError, where=address.uri(), patient=patient)


def find_table(catalog: Catalog, name: str) -> Table | None:
    try:
        return catalog.load_table(name)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def require_usable(table: Table, ours: pa.Schema, where: str) -> None:
    """Raises:  InputError: runs cannot be replaced in this table, or its columns do not go with ours."""
    fields = table.spec().fields
    if not (len(fields) == 1 and _is_by_run(fields[0], table)):
        parts = ", ".join(str(field) for field in fields) or "nothing"
        raise InputError(
            f"{where}: expected a table partitioned by run_id alone, it is by {parts}. Name one that is not there: "
            "it is made as it has to be"
        )
    missing_columns(table.schema(), ours, where)


def _is_by_run(field: PartitionField, table: Table) -> bool:
    return (
        isinstance(field.transform, IdentityTransform) and table.schema().find_column_name(field.source_id) == "run_id"
    )


def make_table(catalog: Catalog, name: str, ours: pa.Schema, where: str) -> Table:
    """The table, made with its namespace, or found where another process was first."""
    namespace = tuple(name.split("."))[:-1]
    if not catalog.namespace_exists(namespace):  # making one may be forbidden to who may make tables in it
        catalog.create_namespace_if_not_exists(namespace)
    properties = {key: value for key, value in _PROPERTIES.items() if key.split(".")[4] in ours.names}
    try:
        with catalog.create_table_transaction(name, ours, properties=properties) as made, made.update_spec() as spec:
            spec.add_identity(RUN_ID.name)
    except (TableAlreadyExistsError, CommitFailedException):
        return catalog.load_table(name)
    log.info("%s: the table is made, partitioned by run_id", where)
    return catalog.load_table(name)


def with_columns(catalog: Catalog, name: str, ours: pa.Schema, where: str) -> Table:
    """The table, with our columns in it, new or widened ones among them.

    Raises:  InputError: they do not go with those that are there.
    """
    for tries_left in reversed(range(_TRIES)):
        table = catalog.load_table(name)
        require_usable(table, ours, where)
        missing = missing_columns(table.schema(), ours, where)
        if not missing:
            return table
        try:
            with table.update_schema() as update:
                update.union_by_name(missing)
        except CommitFailedException:  # another process changed the table meanwhile
            if not tries_left:
                raise
            continue
        log.info("%s: new in the table: %s", where, ", ".join(f"{one.name!r} ({one.type})" for one in missing))
    return catalog.load_table(name)


def asked(action: Callable[[], T], *, error: type[CopsError], where: str, patient: bool = True) -> T:
    """What a catalog answers, or its store; asked again where it fails for a moment.

    Args:    patient: wait for it as for a store; else for some seconds, as at a start that somebody watches.
    Raises:  error: in place of what was raised, each catalog's client having errors of its own.
    """
    pauses = waits() if patient else itertools.islice(waits(), _SHORT_PATIENCE)
    with as_errors(error, where):
        while True:
            try:
                return within(action)
            except Exception as exc:
                wait_s = next(pauses, None) if _is_passing(exc) else None
                if wait_s is None:
                    raise
                log.warning("%s: %s; again in %.0f s", where, describe(exc), wait_s)
            time.sleep(wait_s)


def within(action: Callable[[], T]) -> T:
    """Raises:  TimeoutError: it takes longer than ANSWER_S; then it is left alone, whatever comes of it."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(action())
        except BaseException as exc:  # noqa: BLE001 -- for whoever waits
            done.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    if not futures.wait([done], ANSWER_S).done:
        raise TimeoutError(f"no answer in {ANSWER_S:.0f} s")
    return done.result()


def _is_passing(exc: Exception) -> bool:
    if type(exc).__module__ == pyiceberg.exceptions.__name__:
        return isinstance(exc, _PASSING)
    return is_transient(exc) and not is_refusal(exc)


@contextlib.contextmanager
def as_errors(error: type[CopsError], where: str) -> Iterator[None]:
    """Raises:  error: in place of another's, in a line, without the secrets that its text may hold."""
    try:
        yield
    except CopsError:
        raise
    except Exception as exc:  # noqa: BLE001 -- each catalog's client has errors of its own
        raise error(f"{where}: {describe(exc)}") from None
