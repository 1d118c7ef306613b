"""The command around a run: its options and exit codes."""

from typing import Any

import pytest

from cops.errors import CheckpointError, ConfigError, CopsError, TransferError
from jobs.exits import FAILED, INTERRUPTED, WRONG_USE
from jobs.score import Options, main
from pipeline import summary
from pipeline.errors import InputError, RunError, StoreError


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(summary, "score_and_report", fails)
    return main(Options(input=("in",), run_id="r7"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("m"), WRONG_USE),
        (ConfigError("m"), WRONG_USE),
        (CheckpointError("m"), WRONG_USE),
        (TransferError("m"), FAILED),
        (RunError("m"), FAILED),
        (StoreError("m"), FAILED),
    ],
)
def test_exit_codes(
    error: CopsError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 where the same command would fail again, 1 where it may go on; one line on stderr."""
    assert run(monkeypatch, error) == code
    assert capsys.readouterr().err == "error: m\n"


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line instead of a traceback."""
    assert run(monkeypatch, KeyboardInterrupt()) == INTERRUPTED
    assert capsys.readouterr().err == "stopped. What is scored is kept; --run-id r7 goes on with it\n"


def test_an_empty_run_id_is_no_default() -> None:
    """A variable that is not set should not start another run."""
    with pytest.raises(InputError, match="--run-id"):
        Options(input=("in",), run_id="").config()
