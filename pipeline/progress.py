"""How far a run is: a bar on a terminal, a log line now and then in a job."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tqdm import tqdm

from cops.errors import CopsError

_BAR_EVERY_S, _LOG_EVERY_S = 2.0, 15.0
_LEAVE_S = 5.0  # for a look under way; a store that never answers is not waited for at the end
_NO_ANSWER = (OSError, CopsError)

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Shows, while its `with` block runs, how many images are in the tables.

    Args:    total: images of the run.   done: in the tables before this attempt.   count: new images in them now, and
             how many parts hold bad ones.
    """

    total: int
    done: int
    count: Callable[[], tuple[int, int]]
    began: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(_LEAVE_S)

    def line(self, new: int) -> str:
        """`1,200 of 5,000 images, 41.2 images/s, 1 min 32 s left`."""
        rate = new / max(1e-9, time.monotonic() - self.began)
        left = duration((self.total - self.done - new) / rate) if rate else "unknown time"
        return f"{self.done + new:,} of {self.total:,} images, {rate:.1f} images/s, {left} left"

    def _watch(self) -> None:
        if sys.stderr.isatty():
            with tqdm(total=self.total, initial=self.done, unit="image", smoothing=0.1, dynamic_ncols=True) as bar:
                while not self._stop.wait(_BAR_EVERY_S):
                    self._show(bar)
                self._show(bar)
            return
        while not self._stop.wait(_LOG_EVERY_S):
            with contextlib.suppress(*_NO_ANSWER):  # the next look may succeed; the run itself tells what is wrong
                log.info("%s", self.line(self.count()[0]))

    def _show(self, bar: Any) -> None:
        with contextlib.suppress(*_NO_ANSWER):
            new, with_bad = self.count()
            bar.update(self.done + new - bar.n)
            bar.set_postfix_str(f"{with_bad} parts with bad images" if with_bad else "")


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `5 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
