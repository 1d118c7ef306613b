"""What DuckDB says of a question, in one line; whose fault it is decides between exit code 1 and 2."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import duckdb
import pyarrow as pa

from pipeline.errors import InputError, RunError
from pipeline.schema import SCORES
from pipeline.store_errors import describe

_KIND = re.compile(r"[A-Z][A-Za-z-]*( [A-Za-z-]+)* Error: ")  # DuckDB begins its messages so
_OF_THE_WORLD = ("IO Error: ", "Out of Memory Error: ", "INTERNAL Error: ", "FATAL Error: ")
_STREAM = "reading the stream registered as"  # … and so goes on where Arrow could not read a file


@contextlib.contextmanager
def as_errors(name: str, sql: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Around SQL over the views of `open_views`, and around the reading of its rows.

    Args:    name: what the SQL is called in errors: a query, a flag with its value.   sql: where it is asked.
    Raises:  InputError: the SQL is wrong.   RunError: a part cannot be read; memory or disk do not suffice.
    """
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as exc:  # an OSError: where rows were given already
        said, _, place = str(exc).partition("\n\n")
        kind, told = _KIND.match(said), " ".join(_KIND.sub("", said, count=1).split())
        if _STREAM in told:
            cause = f"{told.partition('failed: ')[2]}; jobs/runs.py verify --all tells which"
            raise RunError(f"a part of the tables cannot be read: {cause}") from exc
        if kind[0] in _OF_THE_WORLD if kind else not isinstance(exc, duckdb.Error):
            raise RunError(f"{name}: {describe(exc)}") from exc
        near = place.partition("\n")[0].strip()
        where = f"; {near}" if near else ""
        raise InputError(f"{name}: {told.rstrip('.')}{where}{_columns_hint(told, sql)}") from exc


def _columns_hint(told: str, sql: duckdb.DuckDBPyConnection) -> str:
    """Which columns the runs have of their own, where one that SQL names is missing."""
    if not told.startswith("Referenced column"):
        return ""
    there = [row[0] for row in sql.sql("SELECT column_name FROM (DESCRIBE scores)").fetchall()]
    own = ", ".join(name for name in there if name not in SCORES.names and name != "run_id") or "none"
    made_by = "--path-fields and --keep-columns of jobs/score.py make some"
    return f". Beside the columns of every run these scores have {own}; {made_by}"
