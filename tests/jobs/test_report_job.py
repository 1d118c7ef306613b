"""The command around a report: its options and exit codes, and a page at the end of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tyro
from report_making import make_nights, night, rows_of

from jobs.exits import DONE, FAILED, INTERRUPTED, WRONG_USE
from jobs.report import Options, main
from pipeline.report import output as outputs
from pipeline.report.config import ReportConfig
from pipeline.thresholds import read_thresholds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    make_nights(folder / "out", folder / "pictures")
    return folder / "out"


def test_as_a_user_starts_it(nights: Path) -> None:
    """From anywhere: a summary on stdout, the page where it says, no model's libraries and no Ray started for it."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as exit: assert exit.code == 0, exit.code\n"
        "assert 'torch' not in sys.modules\n"
        "import ray; assert not ray.is_initialized()"
    )
    command = [sys.executable, "-c", code, str(ROOT / "jobs/report.py"), "--output", str(nights)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Report on night-3, model tiny")
    assert (nights / "reports/night-3.html").exists()


def test_options_are_the_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag for field, runs in their order, columns taken apart."""
    given: list[ReportConfig] = []
    monkeypatch.setattr(outputs, "report_and_write", lambda config: given.append(config) or "")
    flags = ["--run-id", "a", "--run-id", "b", "--label-set", "l", "--thresholds", "t", "--trailing", "3"]
    flags += ["--compare-with", "l-*"]
    flags += ["--by", "category, line", "--top", "1", "--borderline", "2", "--save", "s", "--no-pictures"]
    assert main(tyro.cli(Options, args=["--output", "o", *flags])) == DONE
    assert given == [
        ReportConfig(
            output="o", run_ids=("a", "b"), label_set="l", thresholds="t", trailing=3, compare_with="l-*",
            by=("category", "line"), top=1, borderline=2, save="s", pictures=False,
        )
    ]  # fmt: skip


def test_pictures_are_a_plain_switch(capsys: pytest.CaptureFixture[str]) -> None:
    """--no-pictures and its contrary, and no double negation."""
    assert tyro.cli(Options, args=["--pictures"]).pictures
    with pytest.raises(SystemExit):
        tyro.cli(Options, args=["--help"])
    assert "no-no-" not in capsys.readouterr().out


def test_the_defaults_are_the_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written twice, the same."""
    given: list[ReportConfig] = []
    monkeypatch.setattr(outputs, "report_and_write", lambda config: given.append(config) or "")
    assert main(Options()) == DONE
    assert given == [ReportConfig(output="out/")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "{nowhere}"}, "no committed run"),
        ({"run_id": ("night-9",)}, "has no record"),
        ({"run_id": ("../x",)}, "--run-id: expected letters"),
        ({"label_set": "none"}, "no label set 'none'; it has run"),
        ({"thresholds": "{nowhere}/t.parquet"}, "there is no"),
        ({"thresholds": "{other}"}, "for model other"),
        ({"by": "flavour"}, "no column 'flavour'; they have category"),
        ({"top": -1}, "--top"),
        ({"output": "s3://key:secret@bucket/x"}, "carries credentials"),
    ],
)
def test_wrong_use(
    options: dict[str, Any], words: str, nights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line that says what was expected and what came."""
    table = {"model_id": "other", "category": None, "image_threshold": 0.5, "pixel_threshold": None}
    pq.write_table(pa.Table.from_pylist([table]), tmp_path / "other.parquet")
    places = {"nowhere": tmp_path / "nowhere", "other": tmp_path / "other.parquet"}
    filled = {name: value.format(**places) if isinstance(value, str) else value for name, value in options.items()}
    assert main(Options(**{"output": str(nights)} | filled)) == WRONG_USE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "secret" not in line


def test_what_the_world_does_is_one_line(
    nights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is full, and Ctrl-C: no traceback."""

    def raises(error: BaseException) -> Any:
        def raise_it(*_: Any, **__: Any) -> Any:
            raise error

        return raise_it

    monkeypatch.setattr(outputs, "make_report", raises(OSError(28, "No space left on device")))
    assert main(Options(output=str(nights))) == FAILED
    assert capsys.readouterr().err.startswith("error: the report stopped: OSError: [Errno 28] No space left on device")
    monkeypatch.setattr(outputs, "make_report", raises(KeyboardInterrupt()))
    assert main(Options(output=str(nights))) == INTERRUPTED
    assert capsys.readouterr().err == "stopped; the same command may be given again\n"


def test_the_labels_own_table_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --thresholds: the one that the run was labelled by, if it is still there and still the same."""
    model, path, output = "m" * 32, tmp_path / "t.parquet", tmp_path / "out"
    row = {"model_id": model, "category": "a", "image_threshold": 0.5, "pixel_threshold": None, "run_ids": ["r0"]}
    pq.write_table(pa.Table.from_pylist([row]), path)
    config = {"thresholds": str(path), "thresholds_digest": read_thresholds(str(path), model).digest}
    night(output, "r0", rows_of("a", [0.1, 0.2]))
    night(output, "r1", rows_of("a", [0.1, 0.6]), day=1, config=config)
    options, page = Options(output=str(output)), output / "reports/r1.html"
    assert main(options) == DONE
    assert "2 now, 2 calibrated on" in page.read_text()
    pq.write_table(pa.Table.from_pylist([row | {"image_threshold": 0.4}]), path)
    assert main(options) == DONE
    assert "are others by now: no calibration is shown" in page.read_text()
    path.unlink()
    assert main(options) == DONE
    assert "cannot be read, so no calibration is shown" in page.read_text()
    assert json.loads((output / "runs/r1.json").read_text())["config"] == config
    assert "no calibration is shown" in capsys.readouterr().out
