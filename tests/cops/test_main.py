"""python -m cops, as a user runs it."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cops
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
    assert "text.png: cannot be read" in found.stderr
    assert "deep.png: the picture has mode I;16" in found.stderr
    rows = [line.split() for line in found.stdout.splitlines() if line.endswith("part.png")]
    assert len(rows) == 2
    score, class_score, patch = (float(number) for number in rows[0][:3])
    beta = cops.read_checkpoint("embedded").config.beta
    assert score == pytest.approx(beta * class_score + (1 - beta) * patch, abs=2e-4)
    overlays = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in overlays] == ["part-2.overlay.png", "part.overlay.png"]
    with Image.open(overlays[0]) as overlay:
        overlay.load()
        assert overlay.width > 90
        assert overlay.height == 200


def run_here(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["cops", *map(str, arguments), "--device", "cpu"])
    return main()


def test_an_odd_picture_stops_no_other(picture, tmp_path, monkeypatch, capsys):
    """A header that Pillow stumbles over is named with what it raised; an odd camera's note hinders nothing."""
    (tmp_path / "short.png").write_bytes(png_with_a_short_header())
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIIHHIHH", 8, 2, 0x010F, 5, 1, 38, 0x0112, 3, 1, 6, 0)
    with Image.open(picture) as image:
        image.save(tmp_path / "odd.jpg", exif=exif + bytes(4) + struct.pack(">II", 1, 2))
    found = run_here(monkeypatch, tmp_path / "short.png", tmp_path / "odd.jpg", picture)
    told = capsys.readouterr()
    assert found == 3
    assert "short.png: cannot be read: ValueError" in told.err
    assert [line.split()[-1] for line in told.out.splitlines()[1:]] == [str(tmp_path / "odd.jpg"), str(picture)]


def png_with_a_short_header():
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(6)) + chunk(b"IEND", b"")


def test_a_picture_may_be_named_twice(picture, tmp_path, monkeypatch, capsys):
    """It is scored twice and has two overlays; nothing failed."""
    assert run_here(monkeypatch, picture, picture, "--save", tmp_path / "out") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith(str(picture))]
    assert len(rows) == 2
    assert rows[0] == rows[1]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_help_tells_where_deep_pictures_go(monkeypatch, capsys):
    """More than 8 bits a channel: jobs/score.py."""
    with pytest.raises(SystemExit):
        run_here(monkeypatch, "--help")
    assert "jobs/score.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.png",), 1, "none.png: cannot be read"),
        (("none.png", "--model", "none.safetensors"), 2, "error: none.safetensors is no readable safetensors file"),
        (("none.png", "--precision", "int4"), 2, "error: unknown precision 'int4'"),
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
