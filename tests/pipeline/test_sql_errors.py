"""DuckDB's errors: whose fault, in one line."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from run_making import make_run

from pipeline.errors import InputError, RunError
from pipeline.layout import RunLayout
from pipeline.sql_errors import as_errors
from pipeline.views import open_views


@pytest.fixture
def part(layout: RunLayout) -> Path:
    make_run(layout)
    return Path(layout.parts("scores")[0])


@pytest.fixture
def sql(layout: RunLayout, part: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_views(layout.root.path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("SELEC 1", r'^--where: syntax error at or near "SELEC"; LINE 1: SELEC 1$'),
        ("SELECT no FROM runs", r'^--where: Referenced column "no" not found .* have none; --path-fields and'),
        ("SELECT 'x'::INTEGER FROM scores", "^--where: Could not convert string 'x' to INT32"),
        ("FROM read_text('/etc/passwd')", "disabled by configuration"),
    ],
)
def test_wrong_sql_is_the_users(sql: duckdb.DuckDBPyConnection, asked: str, message: str) -> None:
    """Exit code 2: one line that begins with what the SQL is called."""
    with pytest.raises(InputError, match=message), as_errors("--where", sql):
        sql.execute(asked)


@pytest.mark.parametrize("asked", ["CREATE TEMP TABLE chosen AS FROM scores", "SELECT max(image_uri) FROM scores"])
def test_a_part_that_cannot_be_read(sql: duckdb.DuckDBPyConnection, part: Path, asked: str) -> None:
    """Exit code 1, and what to do; however it is asked."""
    part.write_bytes(part.read_bytes()[:4] + bytes(300) + part.read_bytes()[304:])
    with pytest.raises(RunError, match=r"a part of the tables cannot be read: .*verify --all"), as_errors("q", sql):
        sql.execute(asked).fetchall()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to pin"), RunError),
        (duckdb.IOException("IO Error: No space left on device"), RunError),
        (duckdb.InternalException("INTERNAL Error: unreachable"), RunError),
        (OSError(28, "No space left on device"), RunError),
        (OSError("Invalid Input Error: told late"), InputError),
        (duckdb.InvalidInputException("no kind at all"), InputError),
        (InputError("our own"), InputError),
    ],
)
def test_whose_fault(sql: duckdb.DuckDBPyConnection, error: Exception, expected: type) -> None:
    """The world's is a RunError; the SQL's an InputError; what is ours passes through."""
    with pytest.raises(expected, match=r"told late|no kind|our own|^q: .*Error"), as_errors("q", sql):
        raise error
