"""Processes that read inputs one by one, and the parent that ends those which hang and replaces those that die."""

from __future__ import annotations

import faulthandler
import multiprocessing as mp
import os
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from corpus import KINDS, seeds
from mutate import Mutant, mutant

LIMIT_S = 10.0
"""Of processor time that an input may take."""
PATIENCE_S = 60.0
"""Then the parent ends a process that still has the same input in hand: by the clock, on a machine that others use."""
BOUND_BYTES = 144 * 2**20
"""Of resident memory that one input may take at its peak: 20 bytes for each of 4 million pixels, and 64 MiB."""
_ADDRESS_SPACE = 4 * 2**30  # beyond what a worker has when it begins: no runaway takes the machine with it
_STARTUP_S = 600.0
_LOOK_S = 0.5
_SPAWN = mp.get_context("spawn")


@dataclass(frozen=True)
class Result:
    """One input: what it was, what came of it, what it took."""

    number: int
    form: str
    name: str
    plan: str
    outcome: str
    seconds: float = 0.0
    peak_bytes: int = 0
    pictures: Counter[str] = field(default_factory=Counter)
    failure: str | None = None


def run(seed: int, count: int, *, processes: int, log: Path) -> Iterator[Result]:
    """Every input's result, in the order in which they are done.

    Args:    log: takes the tracebacks of crashed processes.
    """
    log.unlink(missing_ok=True)
    workers = [_Worker(seed, range(start, count, processes), log) for start in range(min(processes, count))]
    try:
        while any(worker.is_busy for worker in workers):
            wait([worker.results for worker in workers if worker.is_busy], timeout=_LOOK_S)
            for worker in workers:
                yield from worker.look()
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process at a time; a dead one is followed by another, which begins behind the input that it died of."""

    def __init__(self, seed: int, numbers: range, log: Path) -> None:
        self.seed, self.left, self.log = seed, numbers, log
        self._start()

    def _start(self) -> None:
        self.results, theirs = _SPAWN.Pipe(duplex=False)
        self.began = _SPAWN.Value("d", time.monotonic() + _STARTUP_S, lock=False)  # of the input in hand
        self.process = _SPAWN.Process(target=BODY, args=(self.seed, self.left, theirs, self.began, str(self.log)))
        self.process.start()
        theirs.close()

    @property
    def is_busy(self) -> bool:
        return len(self.left) > 0

    def look(self) -> Iterator[Result]:
        """What is there; an input that took too long, or its process along, is a result too."""
        is_closed = yield from self._received()
        if not self.is_busy:
            return
        if is_closed:
            self.process.join()
            code = self.process.exitcode or 0
            yield from self._lost(
                f"its process died: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
            )
        elif time.monotonic() - self.began.value > PATIENCE_S:
            self.process.kill()
            self.process.join()
            yield from self._received()  # done before the kill
            yield from self._lost(f"hangs: ended after {PATIENCE_S:.0f} s")

    def _received(self) -> Generator[Result, None, bool]:
        """The results that are there. Returns: whether the process has closed its end."""
        try:
            while self.is_busy and self.results.poll():
                yield self._next(self.results.recv())
        except EOFError:
            return True
        return False

    def _lost(self, failure: str) -> Iterator[Result]:
        if self.is_busy:
            lost = mutant(self.seed, self.left[0])
            yield self._next(Result(self.left[0], lost.seed.form, lost.seed.name, lost.plan, "lost", failure=failure))
        if self.is_busy:
            self._start()

    def _next(self, result: Result) -> Result:
        assert result.number == self.left[0]
        self.left = self.left[1:]
        return result

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _work(seed: int, numbers: range, results: Connection, began: Any, log: str) -> None:
    """In the process: each input read, measured and told."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(log, "a") as crashes, tempfile.TemporaryDirectory() as folder:  # noqa: PTH123
        faulthandler.enable(crashes)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the C libraries write a line for every damage
        read = _limited_reader()
        memory = _Memory()  # of the warmed-up process: what an input leaves behind counts against the next
        for number in numbers:
            one = mutant(seed, number)
            began.value = time.monotonic()
            memory.reset()
            used = time.process_time()
            outcome, pictures, failure = "failed", Counter[str](), None
            try:
                found = read(one, Path(folder))
                outcome, pictures = found.outcome, found.pictures
            except Exception as exc:  # noqa: BLE001 -- whatever comes out is what is looked for
                failure = f"{type(exc).__name__}: {exc}"[:500]
            seconds, peak = time.process_time() - used, memory.peak()
            if failure is None and seconds > LIMIT_S:
                failure = f"took {seconds:.0f} s; at most {LIMIT_S:.0f}"
            if failure is None and peak > BOUND_BYTES:
                failure = f"took {peak / 2**20:.0f} MiB; at most {BOUND_BYTES / 2**20:.0f}"
            results.send(
                Result(number, one.seed.form, one.seed.name, one.plan, outcome, seconds, peak, pictures, failure)
            )
            began.value = time.monotonic()


BODY = _work  # of a process; a test puts another one here


def _limited_reader() -> Any:
    """`targets.read`, warmed up; then no more address space than it may need."""
    from targets import read  # noqa: PLC0415 -- seconds; in the worker alone, after its environment is set

    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            first = seeds(kind)[0]
            if kind != "large":
                read(Mutant(first, "whole", first.data), Path(folder))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return read


class _Memory:
    """This process's resident memory above what it has now, its peak counted anew for each input."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._base = self._bytes(b"VmRSS:")

    def reset(self) -> None:
        os.pwrite(self._clear, b"5", 0)

    def peak(self) -> int:
        return max(0, self._bytes(b"VmHWM:") - self._base)

    def _bytes(self, name: bytes) -> int:
        status = os.pread(self._status, 8192, 0)
        return int(status.partition(name)[2].split(None, 1)[0]) * 1024
