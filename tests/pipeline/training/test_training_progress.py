"""Log lines of a worker on the driver's stderr, and curves."""

import io
import logging
import time

import pytest
from PIL import Image

from cops.training.losses import NAMES
from pipeline.training import progress
from pipeline.training.curves import draw_curves
from pipeline.training.progress import Pace, also_to, following


def test_a_workers_lines_are_shown_by_the_driver(tmp_path, capsys):
    """What is appended meanwhile, to the last line, and nothing of before."""
    path = tmp_path / "messages.log"
    path.write_text("of yesterday\n")
    log = logging.getLogger("pipeline.training.somewhere")
    with following(path), also_to(path, logging.INFO):
        log.info("first")
        log.info("last")
    shown = capsys.readouterr().err
    assert [line.partition(" ")[2] for line in shown.splitlines()] == ["first", "last"]
    log.warning("after")
    assert "after" not in path.read_text()


def test_pace_says_now_and_then(monkeypatch, caplog):
    """Not at each step; with what is left."""
    pace = Pace("reading", 100, began=time.monotonic() - 10)
    with caplog.at_level(logging.INFO):
        pace.step(10)
        monkeypatch.setattr(progress, "_LOG_EVERY_S", 0.0)
        pace.step(10)
    (message,) = caplog.messages
    assert message.startswith("reading: 20 of 100 images, 2.0 images/s, 40 s left")


def epochs(count, metrics):
    losses = {name: 1.0 + at for at, name in enumerate(NAMES)}
    return [{"epoch": n, "loss": 9.0 / n, "losses": losses, "metrics": metrics} for n in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 40])
def test_curves(count):
    """A row more where there are validation metrics; one epoch is no line and is drawn all the same."""
    weights = dict.fromkeys(NAMES, 1.0) | {"focal": 4.0}
    sizes = []
    for metrics in ({}, dict.fromkeys("abcd", 0.5)):
        png = draw_curves(epochs(count, metrics), weights=weights, best=1, title="t")
        with Image.open(io.BytesIO(png)) as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < sizes[1][1]
