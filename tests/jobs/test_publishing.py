"""Committed runs into Iceberg tables from the command line: what is printed, exit codes, and that a discard asks."""

from pathlib import Path
from typing import Any

import pytest
import tyro
from lake import configure, lake
from run_making import make_run

from jobs import runs, score
from jobs.exits import DONE, FAILED, WRONG_USE
from jobs.runs import Discard, Publish, main
from jobs.score import Options
from pipeline import summary
from pipeline.errors import RunError
from pipeline.layout import RunLayout

__all__ = ["configure", "lake"]


@pytest.fixture
def output(tmp_path: Path) -> str:
    for run_id, at in (("r1", "2026-01-02T03:00:00+00:00"), ("r2", "2026-01-03T03:00:00+00:00")):
        make_run(RunLayout.at(str(tmp_path / "out"), run_id), committed_at=at)
    return str(tmp_path / "out")


def test_the_last_run_one_run_and_all_runs(output: str, lake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each table; one that has the rows already says so."""
    assert main(Publish(output=output, table=lake.uri)) == DONE
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in told] == [
        "r2: iceberg://lake/inspection.scores  (3 rows",
        "r2: iceberg://lake/inspection.scores_quarantine  (1 row",
    ]
    assert main(Publish(output=output, table=lake.uri, all_runs=True)) == DONE
    told = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in told] == ["r1", "r1", "r2", "r2"]
    assert ["there already" in line for line in told] == [False, False, True, True]
    assert main(Publish(output=output, table=lake.uri, run_id="r1")) == DONE
    assert [run_id for run_id, _ in lake.ids()] == ["r1"] * 3 + ["r2"] * 3


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Publish(table="iceberg://lake/inspection.scores", run_id="r3"), "'r3' has no record"),
        (Publish(table="iceberg://lake/inspection.scores", run_id="r1", all_runs=True), "a run or --all"),
        (Publish(table="iceberg://sea/inspection.scores"), "no catalog 'sea'; configured are lake"),
        (Publish(table="inspection.scores"), "expected iceberg://CATALOG"),
        (Publish(table="iceberg://u:secret@lake/ns.scores"), "carries credentials"),
        (Discard(run_id="r1", strays=True, yes=True, table="iceberg://lake/inspection.scores"), "give one of them"),
        (Discard(run_id="r1", yes=True, table="iceberg://sea/inspection.scores"), "no catalog 'sea'"),
    ],
)
def test_wrong_use(command: Any, words: str, output: str, lake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what was expected and what came; exit code 2; nothing is removed."""
    assert main(type(command)(**vars(command) | {"output": output})) == WRONG_USE
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "secret" not in line
    assert Path(RunLayout.at(output, "r1").commit_path).exists()


def test_a_discard_takes_the_rows_along_where_it_is_told_to(
    output: str, lake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """First the rows, so that what is cut short can be given again; without --table they stay."""
    main(Publish(output=output, table=lake.uri, all_runs=True))
    assert main(Discard(run_id="r1", output=output, yes=True, table=lake.uri)) == DONE
    told = capsys.readouterr().out
    assert "its rows in iceberg://lake/inspection.scores and in the quarantine beside it" in told
    assert "iceberg://lake/inspection.scores: 3 rows removed" in told
    assert "iceberg://lake/inspection.scores_quarantine: 1 row removed" in told
    assert {run_id for run_id, _ in lake.ids() + lake.ids("scores_quarantine")} == {"r2"}
    assert main(Discard(run_id="r2", output=output, yes=True)) == DONE
    assert len(lake.ids()) == 3
    assert not Path(RunLayout.at(output, "r2").commit_path).exists()


def test_a_run_that_is_committed_and_not_published(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its summary is printed all the same, then the error: exit code 1, also where too many images are bad."""
    told = summary.Report("the summary", too_many_bad=True, not_published=RunError("run 'r1' is committed, but"))
    monkeypatch.setattr(summary, "score_and_report", lambda *_, **__: told)
    options = Options(input=(str(tmp_path),), table="iceberg://lake/inspection.scores")
    assert score.main(options) == FAILED
    printed = capsys.readouterr()
    assert printed.out == "the summary\n"
    assert printed.err == "error: run 'r1' is committed, but\n"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["publish", "--table", "t"], Publish(table="t")),
        (["publish", "r1", "--table", "t", "--output", "o"], Publish(table="t", run_id="r1", output="o")),
        (["publish", "--all", "--table", "t"], Publish(table="t", all_runs=True)),
        (["discard", "r1", "--table", "t"], Discard(run_id="r1", table="t")),
    ],
)
def test_the_command_line(arguments: list[str], command: Any) -> None:
    """As docs/iceberg.md gives it."""
    assert tyro.cli(runs.Command, args=arguments) == command
