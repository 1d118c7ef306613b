"""What a job takes while it runs, by the kind of process: private memory and processor time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

KINDS = ("driver", "worker", "ray")
"""The job's own process; those that run our code for it; Ray's servers."""
_EVERY_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 2**20


@dataclass
class Watched:
    """Of one job."""

    wall_s: float = 0.0
    cpu_s: Counter[str] = field(default_factory=Counter)
    """By kind; of a process that ended, as it was at most a second before."""
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """MiB, in order of time: private memory of the largest process of each kind, and of `all` (shared pages once)."""

    def peak(self, kind: str) -> float:
        return max(self.memory[kind])

    def peaks(self, kind: str, parts: int) -> list[float]:
        """The peak in each of so many equal parts of the run."""
        samples = self.memory[kind]
        cuts = [len(samples) * part // parts for part in range(parts + 1)]
        return [max(samples[low:high]) for low, high in pairwise(cuts)]

    def require_flat(self, kind: str, parts: int, at_most: float) -> None:
        """Raises:  RuntimeError: the peak of the last part is more than so many times that of the second."""
        peaks = self.peaks(kind, parts)
        if peaks[-1] > at_most * peaks[1]:
            raise RuntimeError(
                f"memory grows: {kind} had {peaks[1]:,.0f} MiB in part 2 of {parts}, {peaks[-1]:,.0f} MiB in the last; "
                f"expected at most {at_most} times as much"
            )


def watch(command: Sequence[str], *, kill_when: Callable[[], bool] = lambda: False) -> Watched:
    """Run a command to its end, or until it is to be killed.

    Raises:  RuntimeError: it failed.
    """
    found, seconds, kinds, over = Watched(), dict[int, float](), dict[int, str](), threading.Event()
    began = time.monotonic()
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def look() -> None:
        while not over.wait(_EVERY_S):
            running = list(_processes(job.pid))
            for one in running:
                seconds[one.pid], kinds[one.pid] = one.cpu_s, one.kind
            for kind, size in _by_kind(running).items():
                found.memory[kind].append(size)
            if kill_when():
                job.kill()

    thread = threading.Thread(target=look)
    thread.start()
    job.wait()
    found.wall_s = time.monotonic() - began
    over.set()
    thread.join()
    if job.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(command)} ended with exit code {job.returncode}")
    for pid, cpu_s in seconds.items():
        found.cpu_s[kinds[pid]] += cpu_s
    return found


def memory_of(driver: int) -> dict[str, float]:
    """MiB now, as `Watched.memory` has them, of this process and all that it started."""
    return _by_kind(_processes(driver))


@dataclass(frozen=True)
class _Process:
    pid: int
    kind: str
    private: int
    shared: int
    """Bytes, of pages that several processes map this one's share."""
    cpu_s: float


def _by_kind(running: Iterable[_Process]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for one in running:
        found[one.kind] = max(found[one.kind], one.private)
        found["all"] += one.shared
    return {kind: size / _MIB for kind, size in found.items()}


def _processes(driver: int) -> Iterator[_Process]:
    for pid in descendants(driver):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield _read(pid, driver)


def _read(pid: int, driver: int) -> _Process:
    place = Path(f"/proc/{pid}")
    rollup = (place / "smaps_rollup").read_text().splitlines()[1:]
    name = (place / "cmdline").read_bytes().decode(errors="replace")
    ticks = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]  # without the object store, which all map
    kind = "driver" if pid == driver else "worker" if name.startswith("ray::") else "ray"
    return _Process(pid, kind, private, sizes["Pss"], sum(map(int, ticks)) / _TICKS)


def descendants(pid: int) -> list[int]:
    """A process and all that it started, directly or not."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            children[int(stat.read_text().rpartition(")")[2].split()[1])].append(int(stat.parent.name))
        except OSError:
            continue
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1]]
    return found
