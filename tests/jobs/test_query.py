"""jobs/query.py: exit codes, what it prints, what it saves."""

import io
import json
import sys
import tracemalloc
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import tyro
from run_making import make_run

from jobs.exits import DONE, FAILED, WRONG_USE
from jobs.query import QUERIES, SETUP, Options, main
from pipeline.layout import RunLayout
from pipeline.queries import parameters_of


@pytest.fixture
def output(tmp_path: Path) -> str:
    layout = RunLayout.at(str(tmp_path / "out"), "r1")
    make_run(layout)
    return layout.root.path


def test_a_query_by_name_and_by_file(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same rows."""
    for query in ("throughput", str(QUERIES / "throughput.sql")):
        assert main(Options(query=query, output=output, format="json")) == DONE
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["run_id"], row["images_per_s"]) == ("r1", 2.5)


def test_the_command_line(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is typed."""
    command = ["quarantine_by_reason", "--output", output, "--set", "night=r1"]
    command += ["--set", "trailing_runs=3", "--run-id", "r1"]
    assert main(tyro.cli(Options, args=command)) == DONE
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "decode  truncated       1   0.25             -  it ends too early  /in/d.png",
        "(1 row)",
    ]


def test_sql_of_ones_own(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the macros for masks and maps; 4 of 20 pixels."""
    columns = "image_id, mask_area_of(pred_mask.counts) AS px, len(patch_grid(patch_scores, map_size)) AS g"
    sql = f"SELECT {columns} FROM scores ORDER BY 1 LIMIT 1"
    assert main(Options(sql=sql, output=output, format="csv")) == DONE
    assert capsys.readouterr().out == '"image_id","px","g"\n"a",4,2\n'


def test_what_there_is_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a query: every one, with its title and its parameters."""
    assert main(Options()) == DONE
    told = capsys.readouterr().out
    for path in QUERIES.glob("*.sql"):
        assert (f"{path.stem}\n    " in told) == (path.stem not in SETUP)
    assert "    --set night, count\n" in told


@pytest.mark.parametrize("path", [path for path in sorted(QUERIES.glob("*.sql")) if path.stem not in SETUP])
def test_a_heading_tells_its_parameters(path: Path) -> None:
    """Each by name, and no others; the title names the query as its file does."""
    heading = [line for line in path.read_text("utf-8").splitlines() if line.startswith("-- ")]
    told = [line.split()[1] for line in heading if line.startswith("--   ")]
    assert sorted(told) == sorted(parameters_of(path.read_text("utf-8")))
    assert heading[0].endswith(".")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "nosuch"}, "error: nosuch: expected a file of SQL, or one of anomaly_rate_over_time, "),
        ({"query": "drift", "sql": "SELECT 1"}, "expected a query or --sql, got both: 'drift'"),
        ({"query": "drift", "values": ("night",)}, "--set: expected NAME=VALUE, got 'night'"),
        ({"query": "drift", "values": ("nigth=x",)}, "drift has no parameter 'nigth'; it has night, trailing_runs"),
        ({"query": "drift", "values": ("night=x",)}, "error: drift: no committed run x"),
        ({"query": "worst_of_the_night_per_line"}, "Referenced column line not found"),
        ({"sql": "SELECT \x1b[31m"}, r"\x1b[31m"),
        ({"sql": "SELECT 1", "rows": -1}, "--rows: expected a number of rows, got -1"),
        ({"sql": "SELECT 1", "save": "x.xls"}, "--save: expected a file that ends in .parquet, .csv, .json, .md"),
        ({"sql": "SELECT 1", "run_id": ("r9",)}, "run 'r9' has no record"),
        ({"sql": "SELECT 1", "label_set": "strict"}, "no label set 'strict'"),
    ],
)
def test_wrong_use(output: str, options: dict, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one line on stderr that a terminal does not obey, nothing on stdout."""
    assert main(Options(output=output, **options)) == WRONG_USE
    told = capsys.readouterr()
    assert message in told.err
    assert (told.out, told.err.count("\n"), "\x1b" in told.err) == ("", 1, False)


def test_a_part_that_is_gone(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the user's fault: exit code 1."""
    Path(RunLayout.at(output, "r1").parts("scores")[0]).unlink()
    assert main(Options(sql="FROM scores", output=output)) == FAILED
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".json", ".md"])
def test_save(output: str, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows, however many are shown; the rows themselves are not printed."""
    path = tmp_path / "new" / f"rows{ending}"
    sql = "SELECT image_id, pred_score FROM scores ORDER BY image_id"
    assert main(Options(sql=sql, output=output, save=str(path), rows=1)) == DONE
    assert capsys.readouterr().out.startswith(f"{path}: ")
    if ending == ".md":
        assert path.read_text().splitlines()[-3:] == ["| c | 0.5 |", "", "(3 rows)"]
        return
    read = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".json": pd.read_json}[ending]
    assert read(path).to_dict("list") == {"image_id": ["a", "b", "c"], "pred_score": [0.5] * 3}


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_save_holds_a_few_rows_at_a_time(output: str, tmp_path: Path, ending: str) -> None:
    """However many there are: 10 MB of them with less than 4 MB in Python at once."""
    path = tmp_path / f"many{ending}"
    tracemalloc.start()
    try:
        assert main(Options(sql="SELECT md5(range::VARCHAR) FROM range(300000)", output=output, save=str(path))) == DONE
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 4e6


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_what_is_saved_is_whole(output: str, tmp_path: Path, ending: str) -> None:
    """An error in the midst of the rows leaves the older file as it was, and nothing beside it."""
    path = tmp_path / f"old{ending}"
    path.write_text("old")
    sql = "SELECT if(range = 90000, error('late'), range) AS n FROM range(100000)"
    assert main(Options(sql=sql, output=output, save=str(path))) == WRONG_USE
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [path.name]


def test_save_into_a_store(output: str) -> None:
    """Any place that fsspec knows."""
    assert main(Options(sql="FROM runs", output=output, save="memory://asked/runs.parquet")) == DONE
    assert fsspec.filesystem("memory").cat("/asked/runs.parquet")[:4] == b"PAR1"


def test_a_reader_that_has_seen_enough(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`| head` is no failure."""

    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return other.fileno()

    with Path("/dev/null").open("w") as other:
        monkeypatch.setattr(sys, "stdout", Closed())
        assert main(Options(sql="FROM scores", output=output)) == DONE
