"""Ends a process that is stuck: Ray then starts it again and does its work again.

A stuck process cannot be trusted to notice it, so a small one beside it waits for a sign of life: a byte each second.
It stays away when the process is stopped, when a call into C never returns nor lets other threads run, and, by our own
doing, when one piece of work takes longer than it can.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a process is believed to be well: without a sign of life, and with one piece of work, s."""

    silent_s: float
    work_s: float


class Watchdog:
    """Watches the process that makes it, from then on and to its end.

    Args:    when_silent, when_late: lines that it writes to stderr when it ends the process.
    """

    def __init__(self, patience: Patience, *, when_silent: str, when_late: str) -> None:
        self.patience = patience
        self._under_way: dict[int, float] = {}
        self._numbers = itertools.count()
        told = [str(os.getpid()), str(patience.silent_s), when_silent, when_late]
        command = [sys.executable, "-S", "-E", __file__, *told]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 -- this very file
        threading.Thread(target=self._give_signs, name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def piece_of_work(self) -> Iterator[None]:
        number = next(self._numbers)
        self._under_way[number] = time.monotonic()
        try:
            yield
        finally:
            del self._under_way[number]

    def _give_signs(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # without its watchdog a process goes on unwatched
            while True:
                oldest = min(list(self._under_way.values()), default=time.monotonic())
                late = time.monotonic() - oldest > self.patience.work_s
                os.write(self.process.stdin.fileno(), b"!" if late else b".")
                time.sleep(1)


def watch(pid: int, silent_s: float, when_silent: str, when_late: str) -> None:
    """In the process beside: read signs of life to the end of the file, which is the end of the process."""
    line = when_silent
    while select.select([sys.stdin], [], [], silent_s)[0]:
        signs = os.read(sys.stdin.fileno(), 4096)
        if not signs:
            return
        if b"!" in signs:
            line = when_late
            break
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
