"""A question in SQL to the committed runs of an output."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

import duckdb
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.sql_errors import as_errors
from pipeline.views import open_views

_ROWS = 8192  # of a batch
_AGAIN_S = 0.1
_PARAMETER = re.compile(r"getvariable\('(\w+)'\)")
_STATEMENTS_WITH_ROWS = {"SELECT", "EXPLAIN", "PRAGMA", "CALL", "MULTI"}  # MULTI: PIVOT

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Query:
    """SQL, and what it is called in errors.

    Args:    values: of its parameters, which it asks for by getvariable('name') and casts itself.
             macros: SQL that is run before it.
    """

    name: str
    sql: str
    values: Mapping[str, str] = field(default_factory=dict)
    macros: str = ""

    def __post_init__(self) -> None:
        """Raises:  InputError: a value for a parameter that it does not have, which may be a misspelt one."""
        has = parameters_of(self.sql)
        if unknown := [name for name in self.values if name not in has]:
            raise InputError(f"{self.name} has no parameter {unknown[0]!r}; it has {', '.join(has) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows as they come; they can be read once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def parameters_of(sql: str) -> list[str]:
    """The names of a query's parameters, in the order in which they come."""
    return list(dict.fromkeys(_PARAMETER.findall(sql)))


def title_of(sql: str) -> str:
    """The first line of a query's heading comment."""
    first = sql.lstrip().partition("\n")[0]
    return first.removeprefix("--").strip() if first.startswith("--") else ""


@contextlib.contextmanager
def answer(
    output: str, query: Query, *, run_ids: tuple[str, ...] | None = None, label_set: str | None = None
) -> Iterator[Answer]:
    """The rows that a query gives over the views of `pipeline.open_views`, as they come; times are in UTC.

    No other file is read or written, whatever the SQL says.
    Args:    run_ids, label_set: as of `open_views`.
    Raises:  InputError: there is no such run or label set, or the SQL is wrong, gives no rows, or columns of one name.
             RunError: a part of the tables cannot be read.
    """
    with open_views(output, run_ids, label_set=label_set) as sql, _thread_for(sql) as thread:
        asking = _Asking(query, sql, thread)
        rows = asking.do(lambda: _ask(sql, query))
        yield Answer(schema=rows.schema, batches=_batches(rows, asking))


def _ask(sql: duckdb.DuckDBPyConnection, query: Query) -> pa.RecordBatchReader:
    sql.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    sql.execute(query.macros)
    for name, value in query.values.items():
        sql.execute(f'SET VARIABLE "{name}" = ?', [value])  # it stands in the query: letters and digits
    statements = sql.extract_statements(query.sql)
    kind = statements[-1].type.name if statements else "nothing"
    if kind not in _STATEMENTS_WITH_ROWS:
        raise InputError(f"{query.name}: expected SQL that ends in a query, such as SELECT; it ends in {kind}")
    rows = sql.sql(query.sql).to_arrow_reader(_ROWS)
    if twice := [name for name, count in Counter(rows.schema.names).items() if count > 1]:
        raise InputError(f"{query.name}: several columns are named {', '.join(twice)}; name them apart by AS")
    return rows


def _batches(rows: pa.RecordBatchReader, asking: _Asking) -> Iterator[pa.RecordBatch]:
    while (batch := asking.do(lambda: next(rows, None))) is not None:
        yield batch


@dataclass(frozen=True)
class _Asking:
    """What DuckDB does, it does in a thread: where the main thread waits in it, Ctrl-C is not always heard."""

    query: Query
    sql: duckdb.DuckDBPyConnection
    thread: ThreadPoolExecutor

    def do(self, action: Callable[[], T]) -> T:
        """Raises:  KeyboardInterrupt: Ctrl-C or SIGTERM came."""
        running = self.thread.submit(action)
        while not running.done():  # in short waits: a signal just before a wait, or to another thread, ends none
            wait([running], _AGAIN_S)
        with as_errors(self.query.name, self.sql):
            return running.result()


@contextlib.contextmanager
def _thread_for(sql: duckdb.DuckDBPyConnection) -> Iterator[ThreadPoolExecutor]:
    """One thread; what still runs in it at the end is interrupted, at whichever moment Ctrl-C came."""
    thread = ThreadPoolExecutor(1, "query")
    try:
        thread.submit(
            bool
        ).result()  # it runs from here on: Ctrl-C in the midst of its start with a query would lose it
        yield thread
    finally:
        last = thread.submit(lambda: None)  # done when all before it is
        while wait([last], _AGAIN_S).not_done:
            sql.interrupt()
        thread.shutdown()
