"""queries/views.sql, for those without this package: the views of `pipeline.open_views`, from the same records."""

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from nights import OWN_COLUMNS, bad, image, label_set, night, shell, sql_of, when
from run_making import put

from pipeline import open_views
from pipeline.layout import RunLayout
from pipeline.schema import SCORES, with_metadata

VIEWS = ("runs", "scores", "quarantine", "labels")


def two_runs(output: str) -> RunLayout:
    """The second has a column that the first lacks."""
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.75), image("q", 0.25)], [bad("x")], columns={})
    second = [image("r", 0.75, regions=[])]
    return night(output, "20260303", "2026-03-03T04:00", second, columns={**OWN_COLUMNS, "size": pa.float64()})


def count(sql: duckdb.DuckDBPyConnection, view: str) -> int:
    ((found,),) = sql.execute(f"SELECT count(*) FROM {view}").fetchall()
    return found


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("is_full", [True, False])
def test_the_same_columns_and_rows(output: str, view: str, is_full: bool) -> None:
    """Names, types, order and contents; also where there is no quarantine and no label set at all."""
    if is_full:
        label_set(two_runs(output), "strict", [{"image_id": "r", "image_threshold": 0.9, "pred_label": 0}])
    else:
        night(output, "n1", "2026-03-02T04:00", [image("p", 0.75)])
    query = f"SELECT * FROM {view} ORDER BY ALL"
    with shell(output) as ours, open_views(output) as theirs:
        theirs.execute("SET TimeZone = 'UTC'")
        found, expected = (sql.sql(query).to_arrow_table() for sql in (ours, theirs))
        assert ours.sql(f"DESCRIBE {view}").fetchall() == theirs.sql(f"DESCRIBE {view}").fetchall()
    told, meant = found.to_pylist(), expected.to_pylist()
    if view == "runs":
        assert [json.loads(row.pop("record")) for row in told] == [json.loads(row.pop("record")) for row in meant]
    assert told == meant
    assert told or view == "quarantine"


def test_what_is_not_committed_is_not_there(output: str) -> None:
    """Neither a run without a record, nor a file that no record names, nor a record that is being written."""
    run = two_runs(output)
    put(run, "scores", [image("late", 0.9)], with_metadata(SCORES, OWN_COLUMNS))
    going = RunLayout.at(output, "going")
    put(going, "scores", [image("x", 0.9)])
    Path(output, "runs", ".half.json.tmp").write_text("{")
    Path(output, "runs", ".half.json").write_text("{")
    with shell(output) as sql:
        assert [count(sql, view) for view in VIEWS] == [2, 3, 1, 3]


def test_they_are_as_of_the_time_of_reading(output: str) -> None:
    """A later run is seen when the file is read again."""
    two_runs(output)
    with shell(output) as sql:
        night(output, "n3", "2026-03-04T04:00", [image("later", 0.9)])
        assert count(sql, "scores") == 3
        sql.execute(sql_of("views"))
        assert count(sql, "scores") == 4


def test_a_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    """Only the run's own columns: not one of the place where the output lies."""
    output = str(tmp_path / "plant=7" / "run_id=x" / "out")
    two_runs(output)
    with shell(output + "/") as sql:
        names = [row[0] for row in sql.sql("DESCRIBE scores").fetchall()]
        assert names == [*SCORES.names, *OWN_COLUMNS, "size", "run_id"]
        assert sql.execute("SELECT DISTINCT run_id FROM scores ORDER BY 1").fetchall() == [("20260303",), ("n1",)]


def test_a_label_set(output: str) -> None:
    """`scores` with its labels, null in runs that lack it; a name that no run has is an error."""
    label_set(two_runs(output), "strict", [{"image_id": "r", "image_threshold": 0.875, "pred_label": 0}])
    with shell(output, label_set="strict") as sql:
        found = sql.execute(
            "SELECT image_id, pred_score, image_threshold, pred_label FROM scores ORDER BY 1"
        ).fetchall()
    assert found == [("p", 0.75, None, None), ("q", 0.25, None, None), ("r", 0.75, 0.875, 0)]
    with pytest.raises(duckdb.Error, match="no run has a label set nope"):
        shell(output, label_set="nope")


def test_labels_of_a_run_that_was_discarded(output: str) -> None:
    """They do not count for the run that is there now; nor do those of a run that is not."""
    label_set(two_runs(output), "strict", [{"image_id": "r"}], run_committed_at="2020-01-01T00:00:00")
    stray = Path(output, "label_sets", "gone")
    stray.mkdir(parents=True)
    (stray / "strict.json").write_text('{"run_committed_at": "2020-01-01T00:00:00"}')
    with shell(output) as sql:
        assert sql.execute("SELECT DISTINCT label_set FROM labels").fetchall() == [("run",)]


def test_nothing_is_committed(output: str) -> None:
    """The error names the place and what was expected."""
    with pytest.raises(duckdb.Error, match=r"out: no committed run; expected runs/<run_id>\.json"):
        shell(output)
    with duckdb.connect() as sql, pytest.raises(duckdb.Error, match="SET VARIABLE output = 'out'"):
        sql.execute(sql_of("views"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", r"n1\.json: damaged; expected JSON"),
        ("[]", "expected a record of format cops-run/1"),
        ({"format": "cops-run/2"}, "expected a record of format cops-run/1"),
        ({"run_id": "n2"}, "expected the record of run n1"),
        ({"committed_at": None}, "lacks when it was committed"),
        ({"files": None}, "or its files"),
        ({"files": [{"table": "scores", "path": "../../secret.parquet"}]}, "expected each file once"),
        ({"files": [{"table": "scores", "path": "/etc/passwd"}]}, "expected each file once"),
        ({"files": [{"table": "scores", "path": "quarantine/run_id=n1/part-1.parquet"}]}, "expected each file once"),
        ({"files": [{"table": "runs", "path": "scores/run_id=n1/part-1.parquet"}]}, "expected each file once"),
        ({"files": [{"table": "scores", "path": "scores/run_id=n2/part-1.parquet"}]}, "expected each file once"),
        ({"files": [{"table": "scores", "path": "scores/run_id=n1/*.parquet"}]}, "expected each file once"),
        ({"files": [{"table": "scores", "path": "scores/run_id=n1/../x.parquet"}]}, "expected each file once"),
        ({"files": [{"table": "scores", "path": "scores/run_id=n1/a.parquet"}] * 2}, "expected each file once"),
        ({"files": [{"table": "scores"}]}, "expected each file once"),
    ],
)
def test_a_hostile_record_is_refused(output: str, record: dict | str, message: str) -> None:
    """A record is anybody's data: it leads to no file but its run's own, and nothing of it is passed over."""
    path = Path(night(output, "n1", "2026-03-02T04:00", [image("p", 0.5)]).commit_path)
    path.write_text(record if isinstance(record, str) else json.dumps(json.loads(path.read_text()) | record))
    with pytest.raises(duckdb.Error, match=message):
        shell(output)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"format": "cops-labels/2"}, "expected a record of format cops-labels/1"),
        ({"label_set": "other"}, "expected the labels strict of run n1"),
        ({"files": [{"path": "labels/run_id=n1/label_set=other/a.parquet", "scores": "x"}]}, "one file for each part"),
        ({"files": []}, "one file for each part"),
        ({"files": None}, "one file for each part"),
    ],
)
def test_a_hostile_label_set_is_refused(output: str, record: dict, message: str) -> None:
    """As a run's record is."""
    run = night(output, "n1", "2026-03-02T04:00", [image("p", 0.5)])
    label_set(run, "strict", [{"image_id": "p"}], **record)
    with pytest.raises(duckdb.Error, match=message):
        shell(output)


@pytest.mark.parametrize("name", ["o[1]", "o[a-z]*?", "[", "]", "a]b[c", "o{a,b}", "**"])
def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path, name: str) -> None:
    """It is that folder, and none that the pattern would match."""
    outputs = [str(tmp_path / one / "out") for one in (name, "o1", "oaxx", "oa")]
    for number, output in enumerate(outputs):
        run = night(output, f"n{number}", "2026-03-02T04:00", [image("p", 0.75)])
        label_set(run, "strict", [{"image_id": "p", "pred_label": 0}])
    with shell(outputs[0]) as sql:
        assert [count(sql, view) for view in VIEWS] == [1, 1, 0, 2]
        assert sql.execute("SELECT DISTINCT run_id FROM labels").fetchall() == [("n0",)]


def test_a_quote_in_the_name_of_the_folder(tmp_path: Path) -> None:
    """Names do not become SQL."""
    output = str(tmp_path / "it's; DROP TABLE runs --")
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.5)])
    with shell(output) as sql:
        assert count(sql, "scores") == 1


def test_a_record_of_an_earlier_version(output: str) -> None:
    """What it does not tell is null."""
    path = Path(night(output, "n1", "2026-03-02T04:00", [image("p", 0.5)]).commit_path)
    kept = ("format", "run_id", "committed_at", "files")
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name in kept}))
    with shell(output) as sql:
        (row,) = sql.sql("SELECT * EXCLUDE record FROM runs").to_arrow_table().to_pylist()
    assert (row.pop("run_id"), row.pop("committed_at")) == ("n1", when("2026-03-02T04:00"))
    assert set(row.values()) == {None}


def test_a_run_is_read_alone(output: str) -> None:
    """A question about one run opens that run's files, not those of all."""
    two_runs(output)
    with shell(output) as sql:
        ((_, plan),) = sql.execute("EXPLAIN ANALYZE SELECT max(pred_score) FROM scores WHERE run_id = 'n1'").fetchall()
    assert "Scanning Files: 1/2" in plan
