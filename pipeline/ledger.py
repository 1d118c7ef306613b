"""What is planned against what the tables hold, in SQL: DuckDB joins beyond memory, by spilling to disk."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.parts import CHECKED_PARQUET
from pipeline.storage import Root

_MEMORY_LIMIT = "2GB"
_ROWS = 65_536
_INTERRUPTED = "Query interrupted"  # what DuckDB makes of it, or an error of its own with Python's in its text


@contextlib.contextmanager
def tables(
    root: Root, **files: Sequence[str] | pa.Table | ds.Dataset | ds.Scanner
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in which each name is a view of Parquet files, read from any store, never all at once.

    Raises:  KeyboardInterrupt: Ctrl-C or SIGTERM came during a query.
    """
    with tempfile.TemporaryDirectory(prefix="cops-ledger-") as spill, duckdb.connect() as connection:
        try:
            connection.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")
            connection.execute(f"SET temp_directory = '{spill}'")
            for name, source in files.items():
                known = source if isinstance(source, pa.Table | ds.Dataset | ds.Scanner) else _dataset(root, source)
                connection.register(name, known)
            yield connection
        except (RuntimeError, duckdb.Error) as exc:
            if str(exc) == _INTERRUPTED or KeyboardInterrupt.__name__ in str(exc):
                raise KeyboardInterrupt from exc
            raise


def _dataset(root: Root, paths: Sequence[str]) -> ds.Dataset | pa.Table:
    if not paths:  # a dataset of no files has no columns; a ledger of nothing has ids
        return pa.table({"image_id": pa.array([], pa.string())})
    return ds.dataset(list(paths), format=CHECKED_PARQUET, filesystem=root.arrow_fs)


def with_files(root: Root, paths: Sequence[str], *columns: str) -> ds.Scanner:
    """The named columns of Parquet files and, as `__filename`, the file that each row stands in."""
    return ds.dataset(list(paths), format=CHECKED_PARQUET, filesystem=root.arrow_fs).scanner([*columns, "__filename"])


def batches(result: duckdb.DuckDBPyRelation, schema: pa.Schema, *, rows: int = _ROWS) -> Iterator[pa.Table]:
    """A query's rows as Arrow tables of bounded size, in the columns and types of `schema`."""
    for batch in result.to_arrow_reader(rows):
        yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


DUPLICATES = "SELECT count(*) - count(DISTINCT image_id) FROM plan"
FIRST_OF_EACH = """
    SELECT * EXCLUDE (nth) FROM
        (SELECT *, row_number() OVER (PARTITION BY image_id ORDER BY position) AS nth FROM plan)
    WHERE nth = 1 ORDER BY position
"""
REMAINING = """
    SELECT plan.* FROM plan ANTI JOIN
        (SELECT image_id FROM scores UNION ALL SELECT image_id FROM quarantine) AS done USING (image_id)
    ORDER BY position
"""
WITHOUT_SKIPPED = "SELECT plan.* FROM plan ANTI JOIN skipped USING (image_id) ORDER BY position"

# Files that hold an image which an earlier file holds, too: lower attempts have lower names.
OVERLAPPING = """
    WITH placed AS (SELECT image_id, __filename AS file, (parse_filename(__filename), __filename) AS place FROM written)
    SELECT DISTINCT file FROM placed JOIN
        (SELECT image_id, min(place) AS first FROM placed GROUP BY image_id HAVING count(*) > 1) AS several
    USING (image_id) WHERE place > several.first ORDER BY file
"""

# An image that the tables hold more than once, its first and last file, and how many such images there are.
REPEATED = """
    SELECT *, count(*) OVER () FROM
        (SELECT image_id, min(__filename), max(__filename) FROM written GROUP BY image_id HAVING count(*) > 1)
    ORDER BY image_id LIMIT 1
"""

_WRITTEN = "(SELECT image_id FROM scores UNION ALL SELECT image_id FROM quarantine)"
_CHECKS: Mapping[str, str] = {
    "missing": f"SELECT image_id FROM plan ANTI JOIN {_WRITTEN} AS written USING (image_id)",
    "twice": f"SELECT image_id FROM {_WRITTEN} GROUP BY image_id HAVING count(*) > 1",
    "unplanned": f"SELECT DISTINCT image_id FROM {_WRITTEN} AS written ANTI JOIN plan USING (image_id)",
}


@dataclass(frozen=True)
class Balance:
    """How many image ids break the promise of exactly once, and some of them by name."""

    missing: int
    twice: int
    unplanned: int
    examples: tuple[str, ...]

    @property
    def is_even(self) -> bool:
        return not (self.missing or self.twice or self.unplanned)


def balance(connection: duckdb.DuckDBPyConnection) -> Balance:
    """Compare the plan with both tables (views `plan`, `scores`, `quarantine`)."""
    counts: dict[str, int] = {}
    examples: list[str] = []
    for name, query in _CHECKS.items():
        (counts[name],) = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
        examples += [row[0] for row in connection.execute(f"{query} LIMIT 3").fetchall()]
    return Balance(**counts, examples=tuple(examples))
