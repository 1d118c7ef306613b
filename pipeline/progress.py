"""How far a run is: a bar on a terminal, a log line now and then in a job."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType

from tqdm import tqdm

_LOG_EVERY_S = 15.0

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Counts images; `total` is the whole run, `done` what earlier attempts left. Times are of this attempt."""

    total: int
    done: int = 0
    quarantined: int = 0
    began: float = field(default_factory=time.monotonic)
    _bar: tqdm | None = None  # type: ignore[type-arg]
    _logged: float = 0.0
    _before: int = 0

    def __enter__(self) -> Progress:
        self._before = self.done
        self._logged = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(total=self.total, initial=self.done, unit="image", smoothing=0.1, dynamic_ncols=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, scored: int, quarantined: int) -> None:
        self.done += scored + quarantined
        self.quarantined += quarantined
        if self._bar is not None:
            self._bar.update(scored + quarantined)
            self._bar.set_postfix(quarantined=self.quarantined)
        elif time.monotonic() - self._logged > _LOG_EVERY_S or self.done == self.total:
            self._logged = time.monotonic()
            log.info("%s", self.line())

    def line(self) -> str:
        """`1,200 of 5,000 images, 3 quarantined, 41.2 images/s, 1 min 32 s left`."""
        rate = self.images_per_s
        left = duration((self.total - self.done) / rate) if rate else "unknown time"
        counts = f"{self.done:,} of {self.total:,} images, {self.quarantined:,} quarantined"
        return f"{counts}, {rate:.1f} images/s, {left} left"

    @property
    def images_per_s(self) -> float:
        return (self.done - self._before) / max(1e-9, time.monotonic() - self.began)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `5 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
