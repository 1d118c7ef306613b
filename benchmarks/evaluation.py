"""Measure 10,000 maps of 518×518 against their masks: seconds a map, and the memory of all processes together.

`python benchmarks/evaluation.py --count 10000`. A table of scores is made up (37×37 a picture, 15 categories, three in
four anomalous) with masks on disk; then it is counted and measured as jobs/evaluate.py does it. A tenth of it first, to
show whether memory grows. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pages import footer, table
from PIL import Image
from scipy import ndimage
from watching import memory_of

from pipeline.config import ScoreConfig
from pipeline.decode import DecodeRules
from pipeline.evaluation.counting import CountMaps, count_categories
from pipeline.evaluation.measures import measure
from pipeline.execution import connect, plan_execution
from pipeline.schema import SCORES, with_metadata
from pipeline.storage import open_root

ROOT = Path(__file__).resolve().parents[1]
SIDE, GRID, CATEGORIES, MASKS = 518, 37, 15, 200
_EVERY_S = 0.5
_ROWS_PER_PART = 500
_LABELS = {"label": pa.int8(), "defect": pa.string(), "mask_uri": pa.string()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--mask-size", type=int, default=1024, help="side of the pictures and masks, px")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "evaluation.md")
    options = parser.parse_args()
    connect()
    rows = [run(count, options.mask_size) for count in (max(CATEGORIES, options.count // 10), options.count)]
    page = render(rows, options.mask_size)
    print(page)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(page)


@dataclass(frozen=True)
class Run:
    count: int
    seconds: float
    before: dict[str, float]
    """MiB while nothing is counted: Ray, and this process with its imports."""
    peak: dict[str, float]


def run(count: int, mask_size: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        root, parts = open_root(folder), list(write_parts(Path(folder), count, mask_size))
        memory = plan_execution(ScoreConfig(inputs=("-",))).decode_memory
        counting = CountMaps(image_size=SIDE, sigma_px=4.0, rules=DecodeRules())
        names = {f"category-{at:02d}" for at in range(CATEGORIES)}
        before = memory_of(os.getpid())
        peak: dict[str, float] = {}
        over = threading.Event()
        watcher = threading.Thread(target=watch, args=(over, peak))
        watcher.start()
        began = time.monotonic()
        found = count_categories(root, parts, counting, with_masks=names, memory=memory)
        measured = [measure(category, counted) for category, counted in found]
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
        assert sum(sum(one.marked) for one in measured) == count
        assert all(metric.value is not None for one in measured for metric in one.metrics.values())
    return Run(count, seconds, before, peak)


def watch(over: threading.Event, peak: dict[str, float]) -> None:
    while not over.wait(_EVERY_S):
        for name, value in memory_of(os.getpid()).items():
            peak[name] = max(peak.get(name, 0.0), value)


def write_parts(folder: Path, count: int, mask_size: int) -> Iterator[str]:
    """The files of a scores table; pictures take turns with a few hundred masks."""
    rng = np.random.default_rng(0)
    masks = [write_mask(folder / f"mask-{at:03d}.png", mask_size, rng) for at in range(min(MASKS, count))]
    for start in range(0, count, _ROWS_PER_PART):
        numbers = range(start, min(count, start + _ROWS_PER_PART))
        rows = [row(number, masks[number % len(masks)], mask_size, rng) for number in numbers]
        path = folder / f"part-{start:06d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, with_metadata(SCORES, _LABELS)), path, compression="zstd")
        yield str(path)


def write_mask(path: Path, size: int, rng: np.random.Generator) -> str:
    """A few smooth blobs, about 3 % of the picture."""
    field = ndimage.zoom(rng.standard_normal((12, 12)), size / 12, order=1)
    Image.fromarray(((field > np.quantile(field, 0.97)) * 255).astype(np.uint8)).save(path)
    return str(path)


def row(number: int, mask: str, size: int, rng: np.random.Generator) -> dict[str, object]:
    is_anomalous = number // CATEGORIES % 4 != 0
    scores = rng.random((GRID, GRID)).astype("<f2")
    return {
        "image_id": f"{number:08d}",
        "image_uri": f"/pictures/{number}.png",
        "category": f"category-{number % CATEGORIES:02d}",
        "width": size,
        "height": size,
        "pred_score": float(rng.random()),
        "map_size": [GRID, GRID],
        "patch_scores": scores.tobytes(),
        "label": int(is_anomalous),
        "defect": "blob" if is_anomalous else "good",
        "mask_uri": mask if is_anomalous else None,
    }


def render(rows: list[Run], mask_size: int) -> str:
    kinds = ("driver", "worker", "all")
    lines = [
        "# Counting and measuring maps",
        "",
        f"`python benchmarks/evaluation.py --count {rows[-1].count} --mask-size {mask_size}`",
        "",
        *table(
            [
                "maps",
                "seconds",
                "ms/map",
                *(f"{kind} before, MiB" for kind in kinds),
                *(f"{kind} peak" for kind in kinds),
            ],
            [
                [
                    f"{one.count:,}",
                    f"{one.seconds:.0f}",
                    f"{1000 * one.seconds / one.count:.1f}",
                    *(f"{one.before.get(kind, 0):,.0f}" for kind in kinds),
                    *(f"{one.peak[kind]:,.0f}" for kind in kinds),
                ]
                for one in rows
            ],
        ),
        "",
        f"Maps of {SIDE}×{SIDE}, masks of {mask_size}×{mask_size} read from disk, {CATEGORIES} categories.",
        "Driver and worker: private memory, the largest of their kind. All: every process of the job, Ray's own among",
        "them, shared pages once; before: while nothing was counted yet.",
        "",
        *footer(),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
