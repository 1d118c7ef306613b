"""A question in SQL: rows, or one error that says what was wrong; and no other file."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from run_making import commit_run, make_run, put, score_row

from pipeline.errors import InputError, RunError
from pipeline.layout import RunLayout
from pipeline.queries import Query, answer, parameters_of, title_of
from pipeline.schema import SCORES, with_metadata
from pipeline.storage import Root


def rows(output: str, sql: str, **options: object) -> list[dict]:
    views = {name: options.pop(name) for name in ("run_ids", "label_set") if name in options}
    with answer(output, Query(name="--sql", sql=sql, **options), **views) as found:
        return pa.Table.from_batches(found.batches, found.schema).to_pylist()


@pytest.fixture
def output(layout: RunLayout) -> str:
    make_run(layout)
    return layout.root.path


def test_rows(output: str) -> None:
    """What the SQL asks for, of all runs or of those that are named."""
    make_run(RunLayout.at(output, "r2"))
    sql = "SELECT run_id, count(*) AS images FROM scores GROUP BY ALL ORDER BY ALL"
    assert rows(output, sql) == [{"run_id": "r1", "images": 3}, {"run_id": "r2", "images": 3}]
    assert rows(output, sql, run_ids=("r2",)) == [{"run_id": "r2", "images": 3}]


def test_no_rows_have_their_columns(output: str) -> None:
    """An empty answer is one."""
    with answer(output, Query(name="--sql", sql="SELECT image_id, pred_score FROM scores WHERE false")) as found:
        assert found.schema.names == ["image_id", "pred_score"]
        assert sum(batch.num_rows for batch in found.batches) == 0


def test_times_are_in_utc(output: str) -> None:
    """On whatever machine it is asked."""
    (row,) = rows(output, "SELECT committed_at::VARCHAR AS at, committed_at FROM runs")
    assert row["at"] == "2026-01-02 03:04:00+00"
    assert str(row["committed_at"].tzinfo) == "UTC"


def test_values_are_text(output: str) -> None:
    """A query casts them itself; nothing in a value becomes SQL."""
    sql = "SELECT getvariable('name') AS value, getvariable('order')::INTEGER AS number"
    value = "'; DROP VIEW scores; --"
    assert rows(output, sql, values={"name": value, "order": "7"}) == [{"value": value, "number": 7}]


def test_a_misspelt_parameter(output: str) -> None:
    """It is not passed over; the message names those that there are."""
    with pytest.raises(InputError, match="--sql has no parameter 'nigth'; it has night, count"):
        rows(output, "SELECT getvariable('night'), getvariable('count')", values={"nigth": "x"})


def test_macros(output: str) -> None:
    """SQL of ours that is run first."""
    assert rows(output, "SELECT twice(2) AS four", macros="CREATE MACRO twice(x) AS x + x") == [{"four": 4}]


def test_several_statements(output: str) -> None:
    """The last one's rows."""
    assert rows(output, "CREATE TEMP TABLE a AS SELECT 1 AS x; SELECT x FROM a") == [{"x": 1}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", r'--sql: syntax error at or near "SELEC"; LINE 1: SELEC 1$'),
        (
            "SELECT 1;\nSELECT no FROM runs",
            r'^--sql: Referenced column "no" not found .* scores have none; --path-',
        ),
        ("FROM nosuch", "--sql: Table with name nosuch does not exist"),
        ("SELECT error('told')", "^--sql: told$"),
        ("SELECT 1 AS a, 2 AS b, 3 AS a", "^--sql: several columns are named a; name them apart by AS$"),
        ("FROM runs JOIN scores USING (run_id)", "several columns are named model_id; name"),
        ("SELECT 'x'::INTEGER FROM scores", "--sql: Could not convert string 'x' to INT32"),
        ("SET VARIABLE a = 1", "expected SQL that ends in a query, such as SELECT; it ends in SET"),
        ("CREATE TABLE a(x INTEGER)", "it ends in CREATE"),
        ("-- nothing", "it ends in nothing"),
        ("", "it ends in nothing"),
        ("FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("COPY (SELECT 1) TO '/tmp/cops-test.csv'", "it ends in COPY"),
        ("ATTACH '/tmp/cops-test.db'; SELECT 1", "disabled by configuration"),
        ("SET enable_external_access = true; SELECT 1", "Cannot enable external access"),
        ("FROM sql", "Table with name sql does not exist"),  # no variable of Python's
    ],
)
def test_wrong_sql(output: str, sql: str, message: str) -> None:
    """One line that begins with whose SQL it is."""
    with pytest.raises(InputError, match=message) as raised:
        rows(output, sql)
    assert "\n" not in str(raised.value)


def test_an_error_in_the_midst_of_the_rows(output: str) -> None:
    """Not only before the first one."""
    sql = "SELECT if(range = 90000, error('late'), range) FROM range(100000)"
    with pytest.raises(InputError, match="late"), answer(output, Query(name="q", sql=sql)) as found:
        list(found.batches)


def test_the_columns_that_there_are(layout: RunLayout) -> None:
    """Where SQL names a column that the runs lack."""
    put(layout, "scores", [score_row("a", station="x")], with_metadata(SCORES, {"station": pa.string()}))
    commit_run(layout)
    with pytest.raises(InputError, match="these scores have station; --path-fields"):
        rows(layout.root.path, "SELECT line FROM scores")


def test_a_part_that_cannot_be_read(layout: RunLayout) -> None:
    """No fault of the SQL: exit code 1, and what to do."""
    make_run(layout)
    part = Path(layout.parts("scores")[0])
    part.write_bytes(part.read_bytes()[:4] + bytes(300) + part.read_bytes()[304:])
    with pytest.raises(RunError, match=r"a part of the tables cannot be read: .*verify --all"):
        rows(layout.root.path, "SELECT * FROM scores")


def test_more_than_memory_and_disk(output: str) -> None:
    """Nor is this a fault of the SQL: exit code 1, and DuckDB's own reason."""
    sql = "SET memory_limit = '20MB'; SET max_temp_directory_size = '1MB'; SELECT list(range) FROM range(100000000)"
    with pytest.raises(RunError, match="Out of Memory Error"):
        rows(output, sql)


def test_no_run(tmp_path: Path) -> None:
    """As of `open_run`."""
    with pytest.raises(InputError, match="no committed run"):
        rows(str(tmp_path), "SELECT 1")


def test_in_a_store(memory_root: Root) -> None:
    """Not on a disk alone."""
    make_run(RunLayout(memory_root, "r1"))
    uri = memory_root.fs.unstrip_protocol(memory_root.path)
    assert rows(uri, "SELECT count(*) AS images FROM scores") == [{"images": 3}]


def to_process() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def to_thread() -> None:
    """A signal that wakes no wait of the main thread, as one that comes just before the wait does not."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.fixture(params=[to_process, to_thread])
def soon(request: pytest.FixtureRequest) -> Iterator[threading.Timer]:
    timer = threading.Timer(0.5, request.param)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores it
    yield timer
    timer.cancel()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c(output: str, soon: threading.Timer) -> None:
    """It ends a long question."""
    soon.start()
    with pytest.raises(KeyboardInterrupt):
        rows(output, "SELECT sum(sqrt(range)) FROM range(1000000000000)")


def test_ctrl_c_while_the_thread_starts(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No query goes on in a thread that nobody knows of, so that closing the views finds them busy."""

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "query_0":
            raise KeyboardInterrupt

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rows(output, "SELECT sum(sqrt(range)) FROM range(1000000000000)")


def test_title_and_parameters() -> None:
    """As a query's heading and text tell them."""
    sql = "-- Title: more.\n-- And more\nSELECT getvariable('b'), getvariable('a'), getvariable('b')"
    assert title_of(sql) == "Title: more."
    assert parameters_of(sql) == ["b", "a"]
    assert title_of("SELECT 1") == ""
