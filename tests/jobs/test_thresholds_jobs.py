"""The commands around calibrating and labelling: options and exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from cops.errors import CopsError
from jobs import calibrate, label
from jobs.exits import DONE, FAILED, INTERRUPTED, WRONG_USE
from pipeline import labelling
from pipeline.calibration import CalibrateConfig, output
from pipeline.calibration.output import Written
from pipeline.errors import InputError, RunError

ROOT = Path(__file__).resolve().parents[2]


def outcomes(outcome: BaseException | Any) -> Any:
    def act(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return act


@pytest.mark.parametrize(("error", "code"), [(InputError("m"), WRONG_USE), (RunError("m"), FAILED)])
def test_exit_codes(
    error: CopsError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 where the same command would fail again, 1 where it may go on; one line on stderr."""
    monkeypatch.setattr(output, "calibrate_and_write", outcomes(error))
    monkeypatch.setattr(labelling, "label_run", outcomes(error))
    for main in (lambda: calibrate.main(calibrate.Options()), lambda: label.main(label.Options(image_threshold=0.5))):
        assert main() == code
        assert capsys.readouterr().err == "error: m\n"


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """130, and what became of the work."""
    monkeypatch.setattr(output, "calibrate_and_write", outcomes(KeyboardInterrupt()))
    monkeypatch.setattr(labelling, "label_run", outcomes(KeyboardInterrupt()))
    assert calibrate.main(calibrate.Options()) == INTERRUPTED
    assert "nothing is written" in capsys.readouterr().err
    assert label.main(label.Options(pixel_threshold=0.5)) == INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err


def test_what_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary alone, on stdout."""
    monkeypatch.setattr(output, "calibrate_and_write", outcomes(Written("the summary", "t.parquet")))
    assert calibrate.main(calibrate.Options()) == DONE
    assert capsys.readouterr().out == "the summary\n"


def test_flags() -> None:
    """As in the documents; everything that is not given is the configuration's own default."""
    flags = ["--run-id", "a", "--run-id", "b", "--by", "category, line", "--where", "x = 1", "--pixel-rule", "pixels"]
    found = tyro.cli(calibrate.Options, args=flags).config()
    assert found == CalibrateConfig(run_ids=("a", "b"), by=("category", "line"), where="x = 1", pixel_rule="pixels")
    assert calibrate.Options().config() == CalibrateConfig()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either --thresholds"),
        ({"thresholds": "t", "image_threshold": 0.5}, "give either --thresholds"),
        ({"image_threshold": 7.0}, "scores lie in 0..1"),
        ({"image_threshold": 0.5, "label_set": "run"}, "expected another name"),
        ({"image_threshold": 0.5, "label_set": "../x"}, "expected letters"),
        ({"thresholds": "s3://me:secret@bucket/t"}, "carries credentials"),
    ],
)
def test_labels_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    """Found before anything is read."""
    with pytest.raises(InputError, match=message):
        labelling.LabelConfig(**options)


@pytest.mark.parametrize("name", ["calibrate", "label"])
def test_started_from_anywhere(name: str, tmp_path: Path) -> None:
    """`python …/jobs/x.py --help` from any folder, in under the time that Ray takes."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert "Exit codes" in done.stdout
