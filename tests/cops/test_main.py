"""python -m cops, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cops.__main__ import main

ROOT = Path(__file__).parent.parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "cops", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "part.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


def test_good_and_bad_pictures(picture, tmp_path):
    """Scores and overlays for the good, a message for each bad one, exit code 3."""
    (tmp_path / "text.png").write_text("no picture")
    Image.new("I;16", (9, 9)).save(tmp_path / "deep.png")
    (tmp_path / "b").mkdir()
    Image.open(picture).save(tmp_path / "b" / "part.png")
    names = [tmp_path / "text.png", picture, tmp_path / "deep.png", tmp_path / "b" / "part.png"]
    found = run(*names, "--save", tmp_path / "out", "--device", "cpu")
    assert found.returncode == 3, found.stderr
    assert "untrained" in found.stderr
    assert "text.png: cannot be read" in found.stderr
    assert "deep.png: the picture has mode I;16" in found.stderr
    rows = [line.split() for line in found.stdout.splitlines() if line.endswith("part.png")]
    assert len(rows) == 2
    score, class_score, patch = (float(number) for number in rows[0][:3])
    assert score == pytest.approx(0.9 * class_score + 0.1 * patch, abs=2e-4)
    overlays = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in overlays] == ["part-2.overlay.png", "part.overlay.png"]
    with Image.open(overlays[0]) as overlay:
        overlay.load()
        assert overlay.width > 90
        assert overlay.height == 200


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.png",), 1, "none.png: cannot be read"),
        (("none.png", "--model", "none.safetensors"), 1, "error: none.safetensors is no readable safetensors file"),
        (("none.png", "--precision", "int8"), 2, "error: unknown precision 'int8'"),
        ((), 2, ""),
        (("none.png", "--colour", "red"), 2, "--colour"),
    ],
)
def test_failures_are_explained(arguments, code, message, monkeypatch, capsys):
    """1 where all failed, 2 for wrong use; a message and no traceback."""
    monkeypatch.setattr(sys, "argv", ["cops", *arguments])
    try:
        found = main()
    except SystemExit as exc:
        found = exc.code
    assert found == code
    assert message in capsys.readouterr().err
