"""What counting for Prometheus costs: of a call of the model, of a part, and of a whole job with a model of no cost.

`python benchmarks/telemetry.py`. Writes a page to benchmarks/results/. A job with counts and one without
run at the same time, so that whatever else the machine does slows both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import ray
from model import pictures
from pages import ROOT, footer, table, write
from scale import encode_jpeg, make_archive
from watching import watch

from pipeline.execution import connect
from pipeline.telemetry import ModelMeter, tell_written
from pipeline.write import STAGES

_PART_ROWS = 8192
_BATCH = 32
_APART_S = 10.0  # two Rays that start at one moment get into each other's way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/telemetry.md")
    options = parser.parse_args()
    connect()
    call_s, part_s = median_s(a_call(), 2000), median_s(a_part(), 50)
    ray.shutdown()
    counted, uncounted = jobs(options.images, options.rounds)
    ratios = [one / other for one, other in zip(counted, uncounted, strict=True)]
    page = [
        "# What counting for Prometheus costs",
        "",
        f"`python {' '.join(['benchmarks/telemetry.py', *sys.argv[1:]])}`",
        "",
        f"A call of the model: {1e6 * call_s:.1f} µs, {1e9 * call_s / _BATCH:,.0f} ns an image in batches of {_BATCH}.",
        f"A part of {_PART_ROWS:,} rows, one in a hundred bad: {1e3 * part_s:.1f} ms, "
        f"{1e9 * part_s / _PART_ROWS:,.0f} ns an image.",
        "",
        f"A job of {options.images:,} images, with a model that looks at nothing, in batches of 4:",
        "",
        *table(
            ["", "processor time an image, ms (each round)", "middle"],
            [
                ["counted", " ".join(f"{value:.2f}" for value in counted), f"{median(counted):.2f}"],
                ["not counted", " ".join(f"{value:.2f}" for value in uncounted), f"{median(uncounted):.2f}"],
                ["ratio", " ".join(f"{value:.3f}" for value in ratios), f"{median(ratios):.3f}"],
            ],
        ),
        "",
        "Processor time of driver and workers together, their start included. The two jobs of a round run at once.",
        "",
        *footer(f"JPEGs of 64 px in shards of 1,000; {options.rounds} rounds."),
    ]
    write(page, options.results)


def a_call() -> Callable[[], None]:
    """The model's meter around nothing."""
    meter = ModelMeter("bench")

    def call() -> None:
        with meter.batch(_BATCH):
            pass

    return call


def a_part() -> Callable[[], None]:
    bad = [at % 100 == 0 for at in range(_PART_ROWS)]
    columns: dict[str, Any] = {
        "stage": pa.array(["decode" if one else None for one in bad]),
        "reason": pa.array(["corrupt" if one else None for one in bad]),
        "num_bytes": pa.array([20_000] * _PART_ROWS),
        **{name: pa.array([0.001] * _PART_ROWS, pa.float32()) for name in STAGES},
    }
    rows = pa.table(columns)
    return lambda: tell_written("bench", rows, STAGES)


def median_s(what: Callable[[], None], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        taken.append(time.perf_counter() - began)
    return median(taken)


def jobs(images: int, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of processor time an image, of each round: counted, and not."""
    found: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder, ThreadPoolExecutor(2) as both:
        archive = Path(folder, "archive")
        archive.mkdir()
        make_archive(archive, [encode_jpeg(pixels) for pixels in pictures(8, 64)], images, max(1, images // 1000))
        null_job = [sys.executable, str(ROOT / "benchmarks/null_job.py")]
        for number in range(rounds):
            counted = [*null_job, f"{folder}/counted-{number}", str(archive)]
            uncounted = [*null_job, f"{folder}/uncounted-{number}", str(archive), "--uncounted"]
            pair = []
            for command in (counted, uncounted):
                pair.append(both.submit(watch, command))
                time.sleep(_APART_S)
            for times, watched in zip(found, [one.result() for one in pair], strict=True):
                times.append(1000 * (watched.cpu_s["driver"] + watched.cpu_s["worker"]) / images)
    return found


if __name__ == "__main__":
    main()
