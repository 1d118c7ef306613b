"""The commands around calibrating and labelling: options and exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
from run_making import MODEL_ID, commit_run, put, score_row

from jobs import calibrate, label
from jobs.exits import DONE, FAILED, INTERRUPTED, WRONG_USE
from pipeline import labelling
from pipeline.calibration import CalibrateConfig, output
from pipeline.claim import take_claim
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.thresholds import read_thresholds

ROOT = Path(__file__).resolve().parents[2]


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """A committed run of 120 images."""
    run = RunLayout.at(str(tmp_path / "out"), "r1")
    put(run, "scores", [score_row(f"i{at}", pred_score=at / 200, content_hash=str(at)) for at in range(120)])
    commit_run(run, config={"model_id": MODEL_ID, "decode": DecodeRules().record()})
    return run


def of(layout: RunLayout, **options: Any) -> calibrate.Options:
    return calibrate.Options(**({"output": layout.root.path, "pixel_rule": "none"} | options))


def test_calibrated(layout: RunLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0, a summary on stdout, and the table where it was wanted."""
    assert calibrate.main(of(layout, save=str(tmp_path / "t.parquet"))) == DONE
    assert f"Written: {tmp_path}/t.parquet" in capsys.readouterr().out
    assert read_thresholds(str(tmp_path / "t.parquet"), MODEL_ID).pooled.image is not None


def test_a_damaged_part(layout: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    """1, as nothing in the command is wrong; one line on stderr that says how to go on."""
    part = Path(layout.parts("scores")[0])
    part.write_bytes(part.read_bytes()[:4] + bytes(2_000) + part.read_bytes()[2_004:])
    assert calibrate.main(of(layout, where="pred_score < 1")) == FAILED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: a part of the tables cannot be read: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("save", "message"),
    [
        ("", "expected the name of a file, got the folder"),
        ("/", "expected the name of a file, got the folder"),
        ("/thresholds", "expected the name of a file that ends in .parquet"),
        ("/thresholds.csv", "expected the name of a file that ends in .parquet"),
        ("/folder.parquet", "expected the name of a file, got the folder"),
    ],
)
def test_no_place_for_a_table(
    layout: RunLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str], save: str, message: str
) -> None:
    """2, before a single score is read: the part that is gone is not missed."""
    (tmp_path / "folder.parquet").mkdir()
    Path(layout.parts("scores")[0]).unlink()
    assert calibrate.main(of(layout, save=f"{tmp_path}{save}")) == WRONG_USE
    printed = capsys.readouterr().err
    assert printed.startswith("error: --save: ")
    assert message in printed


def test_labels_refused(layout: RunLayout, capsys: pytest.CaptureFixture[str]) -> None:
    """2 for a run that is not there, 1 while another process works on it; one line on stderr."""
    options = {"output": layout.root.path, "image_threshold": 0.5}
    assert label.main(label.Options(**options, run_id="r2")) == WRONG_USE
    assert "was not committed" in capsys.readouterr().err
    with take_claim(layout):
        assert label.main(label.Options(**options)) == FAILED
    printed = capsys.readouterr().err
    assert printed.startswith("error: run 'r1' is being worked on by ")
    assert printed.count("\n") == 1


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """130, and what became of the work."""
    monkeypatch.setattr(output, "calibrate_and_write", interrupted)
    monkeypatch.setattr(labelling, "label_run", interrupted)
    assert calibrate.main(calibrate.Options()) == INTERRUPTED
    assert "nothing is written" in capsys.readouterr().err
    assert label.main(label.Options(pixel_threshold=0.5)) == INTERRUPTED
    assert "the same command goes on" in capsys.readouterr().err


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
