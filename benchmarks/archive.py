"""Score 20,000 small sample images through the whole job: images/s, and the peak memory of driver and workers.

`make bench` or `python benchmarks/archive.py --count 20000`. Two archives, of a tenth and of the full count, show
whether memory grows with the archive. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pages import footer, table

ROOT = Path(__file__).resolve().parents[1]
_EVERY_S = 2.0
_MIB = 2**20
_KINDS = ("driver", "worker", "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=64, help="side of the sample images, px")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "archive.md")
    options = parser.parse_args()
    rows = [measure(count, options.size) for count in (max(1, options.count // 10), options.count)]
    page = render(rows, options.size)
    print(page)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(page)


@dataclass(frozen=True)
class Run:
    count: int
    wall_s: float
    images_per_s: float
    table_bytes: int
    memory: dict[str, list[float]]
    """MiB, in order of time, by kind: driver, worker, all."""

    def peak(self, kind: str) -> float:
        return max(self.memory[kind])

    def quarters(self, kind: str) -> list[float]:
        """The peak in each quarter of the run."""
        samples = self.memory[kind]
        cuts = [len(samples) * quarter // 4 for quarter in range(5)]
        return [max(samples[low:high]) for low, high in pairwise(cuts)]


def measure(count: int, size: int) -> Run:
    """Make an archive, score it, and watch the memory of every process of the job."""
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        samples = [sys.executable, str(ROOT / "jobs/make_samples.py"), "--output", f"{folder}/samples"]
        subprocess.run([*samples, "--count", str(count), "--size", str(size)], check=True, stdout=subprocess.DEVNULL)
        command = [sys.executable, str(ROOT / "jobs/score.py"), "--input", f"{folder}/samples/images", "--top", "0"]
        began = time.monotonic()
        job = subprocess.Popen([*command, "--output", f"{folder}/out", "--run-id", "bench"], stdout=subprocess.DEVNULL)
        memory = watch(job)
        wall_s = time.monotonic() - began
        if job.returncode:
            sys.exit(f"the job ended with exit code {job.returncode}")
        record = json.loads(Path(folder, "out/runs/bench.json").read_text())
        tables = sum(file["num_bytes"] for file in record["files"])
    return Run(count, wall_s, record["images_per_s"], tables, memory)


def watch(job: subprocess.Popen[bytes]) -> dict[str, list[float]]:
    """Memory, MiB, every two seconds: of the driver, of the largest worker, and of all together (shared pages once)."""
    seen: dict[str, list[float]] = defaultdict(list)
    over = threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_S):
            for name, value in memory_of(job.pid).items():
                seen[name].append(value / _MIB)

    thread = threading.Thread(target=look)
    thread.start()
    job.wait()
    over.set()
    thread.join()
    return seen


def memory_of(driver: int) -> dict[str, int]:
    found: Counter[str] = Counter()
    for pid in descendants(driver):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            name = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup}
        found["all"] += sizes["Pss"]
        private = sizes["Private_Clean"] + sizes["Private_Dirty"]  # without the object store, which all map
        kind = "driver" if pid == driver else "worker" if name.startswith("ray::") else "ray"
        found[kind] = max(found[kind], private)
    return dict(found)


def descendants(pid: int) -> list[int]:
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


def render(rows: list[Run], size: int) -> str:
    small, large = rows
    growth = ", ".join(f"{kind} ×{large.peak(kind) / small.peak(kind):.2f}" for kind in _KINDS)
    lines = [
        "# The whole job on small images",
        "",
        f"`python benchmarks/archive.py --count {large.count}`",
        "",
        *table(
            ["images", "seconds", "images/s", "bytes/image in tables", *(f"{kind}, MiB" for kind in _KINDS)],
            [
                [
                    f"{row.count:,}",
                    f"{row.wall_s:.0f}",
                    f"{row.images_per_s:.1f}",
                    f"{row.table_bytes / row.count:,.0f}",
                    *(f"{row.peak(kind):,.0f}" for kind in _KINDS),
                ]
                for row in rows
            ],
        ),
        "",
        f"Peak memory, the larger archive to the smaller, {large.count / small.count:.0f} times as many: {growth}.",
        "Driver and worker: private memory, the largest of their kind. All: every process, shared pages once.",
        "",
        f"Peak in each quarter of the {large.count:,} images, MiB:",
        "",
        *table(
            ["", "first", "second", "third", "last"],
            [[kind, *(f"{peak:,.0f}" for peak in large.quarters(kind))] for kind in _KINDS],
        ),
        "",
        *footer(f"{size} px pictures, model `embedded` in float32 on the CPU."),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
