"""How far training is, as log lines: on stderr, and in a file that the driver of a cluster's workers follows."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.progress import duration

_LOG_EVERY_S = 15.0
_LOOK_EVERY_S = 0.5
_FORMAT = "%(asctime)s %(message)s"

log = logging.getLogger(__name__)


@dataclass
class Pace:
    """Says now and then how many images of a part of the work are done."""

    what: str
    total: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    _said: float = field(default_factory=time.monotonic)

    def step(self, images: int) -> None:
        self.done = min(self.total, self.done + images)
        now = time.monotonic()
        if now - self._said < _LOG_EVERY_S:
            return
        self._said = now
        rate = self.done / max(1e-9, now - self.began)
        done, left = f"{self.done:,} of {self.total:,} images", duration((self.total - self.done) / max(1e-9, rate))
        log.info("%s: %s, %.1f images/s, %s left", self.what, done, rate, left)


@contextlib.contextmanager
def also_to(path: Path, level: int) -> Iterator[None]:
    """What the pipeline logs meanwhile, from a level on, is appended to a file, too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(_FORMAT, datefmt="%H:%M:%S"))
    logger = logging.getLogger("pipeline")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def following(path: Path) -> Iterator[None]:
    """Shows on stderr what another process appends to a file meanwhile."""
    start = path.stat().st_size if path.exists() else 0
    over = threading.Event()

    def follow() -> None:
        at, is_last = start, False
        while not is_last:
            is_last = over.wait(_LOOK_EVERY_S)
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(at)
                new = file.read()
                at += len(new)
                sys.stderr.write(new.decode(errors="replace"))
                sys.stderr.flush()

    thread = threading.Thread(target=follow, name="messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
