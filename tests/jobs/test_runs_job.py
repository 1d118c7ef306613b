"""The commands around runs: exit codes, what they print, and that a discard asks first."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
from run_making import leave_claim, make_run, put, score_row

from jobs import runs
from jobs.exits import DONE, FAILED, INTERRUPTED, WRONG_USE
from jobs.runs import Discard, List, Show, Verify, main
from pipeline.layout import RunLayout
from pipeline.upkeep import overview


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout.at(str(tmp_path / "out"), "r1")


@pytest.fixture
def output(layout: RunLayout) -> str:
    make_run(layout)
    return layout.root.path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", [List, Show, Verify])
def test_all_is_well(output: str, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Text and JSON on stdout, exit code 0."""
    assert main(command(output=output)) == DONE
    assert "r1" in capsys.readouterr().out
    assert main(command(output=output, json=True)) == DONE
    assert "r1" in str(json.loads(capsys.readouterr().out))


def test_a_damaged_run_is_exit_code_1(output: str, layout: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    """For a script that watches over an archive; one run or all of them, as text or as JSON."""
    put(layout, "scores", [score_row("late")])
    for command in (Verify(output=output), Verify(run_id="r1", output=output), Verify(output=output, all_runs=True)):
        assert main(command) == FAILED
        assert "r1 is NOT as recorded: 1 finding" in capsys.readouterr().out
    assert main(Verify(output=output, json=True)) == FAILED
    (told,) = json.loads(capsys.readouterr().out)
    assert told["is_sound"] is False
    assert told["findings"][0]["path"].startswith("scores/run_id=r1/part-")


def test_a_damaged_record_is_exit_code_1(output: str, layout: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    """As any other damage, whichever way it is asked for."""
    Path(layout.commit_path).write_bytes(Path(layout.commit_path).read_bytes()[:-100])
    for command in (Verify(output=output), Verify(run_id="r1", output=output), Verify(output=output, all_runs=True)):
        assert main(command) == FAILED
        told = capsys.readouterr().out
        assert "r1 is NOT as recorded: 1 finding" in told
        assert "damaged; expected JSON" in told


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (List(output="{nowhere}"), "no runs; expected runs/"),
        (Show(output="{nowhere}"), "no committed run"),
        (Show(run_id="r2", output="{output}"), "no run 'r2'"),
        (Verify(run_id="r2", output="{output}"), "has no record"),
        (Verify(run_id="../r1", output="{output}"), "run id: expected letters"),
        (Verify(run_id="r1", output="{output}", all_runs=True), "a run or --all"),
        (Discard(run_id="r2", output="{output}"), "no run 'r2'"),
        (Discard(run_id="..", output="{output}", yes=True), "run id: expected letters"),
        (List(output="s3://key:secret@bucket/x"), "carries credentials"),
    ],
)
def test_wrong_use(command: Any, words: str, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what was expected and what came; exit code 2."""
    given = {"nowhere": tmp_path / "nowhere", "output": output}
    fields = vars(command) | {"output": command.output.format(**given)}
    assert main(type(command)(**fields)) == WRONG_USE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "secret" not in line


def test_without_a_terminal_nothing_is_removed_unasked(
    output: str, layout: RunLayout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script must say --yes; what would go is told all the same."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(Discard(run_id="r1", output=output)) == WRONG_USE
    told = capsys.readouterr()
    assert "To be removed for good: run r1 (committed 2026-01-02 03:04)" in told.out
    assert "Give --yes" in told.err
    assert Path(layout.commit_path).exists()


@pytest.mark.parametrize(
    ("answer", "goes"), [("y\n", True), ("yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_the_answer_is_kept_to(
    output: str, layout: RunLayout, answer: str, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a yes removes anything; Ctrl-D is none."""
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(Discard(run_id="r1", output=output)) == DONE
    assert Path(layout.commit_path).exists() == (not goes)


def test_yes_and_strays(output: str, layout: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    """--strays keeps the run, twice is once; --yes removes without a question."""
    stray = put(layout, "scores", [score_row("late")])
    for _ in range(2):
        assert main(Discard(run_id="r1", output=output, strays=True, yes=True)) == DONE
    assert "nothing to do" in capsys.readouterr().out
    assert not stray.exists()
    assert main(Verify(output=output)) == DONE
    assert main(Discard(run_id="r1", output=output, yes=True)) == DONE
    assert main(List(output=output)) == WRONG_USE


def test_a_run_in_work_is_exit_code_1(
    output: str, layout: RunLayout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine's process that is heard of while we watch."""
    leave_claim(layout, silent_s=1)
    claims = iter(range(10**6))
    monkeypatch.setattr("pipeline.claim._holder", lambda *_: {"host": "there", "pid": 7, "beat": next(claims)})
    monkeypatch.setattr("pipeline.claim.time.sleep", lambda _: None)
    assert main(Discard(run_id="r1", output=output, yes=True)) == FAILED
    assert "error: run 'r1' is being worked on by there (process 7)" in capsys.readouterr().err
    assert Path(layout.commit_path).exists()


def test_what_the_world_does_is_one_line(
    output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that fails, and Ctrl-C: no traceback."""

    def fails(error: BaseException) -> Any:
        def raises(*_: Any) -> None:
            raise error

        return raises

    monkeypatch.setattr(overview, "overview", fails(PermissionError(13, "Permission denied")))
    assert main(List(output=output)) == FAILED
    assert capsys.readouterr().err.startswith("error: list stopped: PermissionError")
    monkeypatch.setattr(overview, "overview", fails(KeyboardInterrupt()))
    assert main(List(output=output)) == INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["list", "--output", "o"], List(output="o")),
        (["show"], Show()),
        (["show", "r1", "--json"], Show(run_id="r1", json=True)),
        (["verify", "--all"], Verify(all_runs=True)),
        (["discard", "r1", "--strays", "--yes"], Discard(run_id="r1", strays=True, yes=True)),
    ],
)
def test_the_command_line(arguments: list[str], command: Any) -> None:
    """As docs/operations.md gives it."""
    assert tyro.cli(runs.Command, args=arguments) == command
