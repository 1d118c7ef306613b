"""The command: what it prints, and its exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.make_samples import main

ROOT = Path(__file__).resolve().parents[2]


def test_command_from_anywhere(tmp_path: Path) -> None:
    """`python jobs/make_samples.py` works from any folder, writes its output only, and says what it wrote."""
    command = [sys.executable, str(ROOT / "jobs" / "make_samples.py")]
    command += [
        "--output",
        "made",
        "--count",
        "10",
        "--size",
        "32",
        "--categories",
        "nut,wood",
        "--anomaly-rate",
        "0.5",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "10 pictures (5 anomalous), 0 hostile" in done.stdout
    assert "nut 5, wood 5" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count must be at least 1, not 0"),
        (["--categories", "bolt,unicorn"], "unknown categories unicorn"),
        (["--categories", "bolt,bolt"], "named twice"),
        (["--anomaly-rate", "1.5"], "anomaly-rate must be from 0 to 1"),
        (["--size", "8"], "size must be from 32 to 8192"),
        (["--shard-size", "0"], "shard-size must be at least 1"),
        (["--format", "floppy"], "floppy"),
    ],
)
def test_wrong_use(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """A wrong setting ends with exit code 2, a clear message and nothing written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert message in " ".join((printed.out + printed.err).replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_taken_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds something else is wrong use, too."""
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["--output", str(tmp_path), "--count", "1"]) == 2
    assert "not empty" in capsys.readouterr().err


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A place that cannot be written to is a failure."""
    (tmp_path / "file").write_text("")
    assert main(["--output", str(tmp_path / "file" / "below"), "--count", "1"]) == 1
    assert "cannot write" in capsys.readouterr().err
