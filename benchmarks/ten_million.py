"""Plan and commit of ten million images, which nobody has to have: the driver's time and memory for each step.

`python benchmarks/ten_million.py`; `--images 1000000` for a shorter form. The manifest's pictures are not there; the
parts hold ids alone, which is all that plan, resume and commit read of them. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq
from pages import ROOT, footer, table, write

from pipeline import commit
from pipeline.attempt import Plan, make_plan, remaining, to_commit
from pipeline.config import ScoreConfig
from pipeline.layout import RunLayout
from pipeline.parts import part_name
from pipeline.plan import PlanSummary
from pipeline.worklist import make_worklist, rows_per_part
from pipeline.write import TOTALS_KEY

_STEPS = ("start", "plan", "worklist", "resume", "check", "record")
_TASKS = 32 * 1600  # as on a cluster of 100 GPUs with 16 CPUs each
_AT_ONCE = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--step", choices=_STEPS, help="do this one alone, in the folder given")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/ten-million.md")
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measured(Steps(options.folder, options.images), options.step)))
        return
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        write_manifest(Path(folder), options.images)
        found = {}
        for step in _STEPS:
            if step == "resume":
                write_parts(Path(folder), options.images, share=0.999)
            if step == "check":
                write_parts(Path(folder), options.images, share=1.0)
            found[step] = run_alone(step, folder, options.images)
    page = [
        f"# {options.images:,} images: what the driver does beside scoring",
        "",
        f"`python benchmarks/ten_million.py --images {options.images}`",
        "",
        *table(
            ["step", "seconds", "peak MiB", ""],
            [[step, f"{one['seconds']:,.1f}", f"{one['mib']:,.0f}", one["told"]] for step, one in found.items()],
        ),
        "",
        "Each step in a process of its own; `start` is what every one of them holds before it begins.",
        "",
        *footer("Manifest and parts on a local disk."),
    ]
    write(page, options.results)


def run_alone(step: str, folder: str, images: int) -> dict[str, float | str]:
    command = [sys.executable, __file__, "--step", step, "--folder", folder, "--images", str(images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(steps: Steps, name: str) -> dict[str, float | str]:
    action: Callable[[], str] = getattr(steps, name)
    began = time.monotonic()
    told = action()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.monotonic() - began, "mib": peak, "told": told}


class Steps:
    """What the driver does, step by step; each tells what came of it."""

    def __init__(self, folder: Path, images: int) -> None:
        self.config = ScoreConfig(inputs=(str(folder / "manifest.parquet"),), output=str(folder / "out"), run_id="r")
        self.layout = RunLayout.at(self.config.output, "r")
        self.images = images

    def plan_files(self) -> list[str]:
        return self.layout.list_files(self.layout.work_path("plan"), ".parquet")

    def start(self) -> str:
        return ""

    def plan(self) -> str:
        card = SimpleNamespace(model_id="none")  # which planning asks for with --incremental alone
        record = make_plan(self.config, self.layout, card, check=lambda _: None)  # type: ignore[arg-type]
        return f"{len(record['files']):,} files for {record['summary']['planned']:,} images"

    def worklist(self) -> str:
        worklist = make_worklist(self.layout.root, self.plan_files(), self.images, tasks=_TASKS)
        return f"{len(worklist):,} tasks"

    def resume(self) -> str:
        plan = Plan(files=self.plan_files(), summary=PlanSummary(planned=self.images), metadata={})
        work = remaining(self.layout, plan, 2, tasks=_TASKS)
        return f"{self.images - work.done:,} images left"

    def check(self) -> str:
        parts = to_commit(self.layout, frozenset(), 1)
        commit.verify(self.layout, self.plan_files(), parts)
        return "each planned image once"

    def record(self) -> str:
        files = commit.data_files(self.layout, to_commit(self.layout, frozenset(), 1))
        size = len(json.dumps(commit.file_records(files)))
        return f"{len(files):,} parts, {commit.counts_of(files)['scored']:,} images, {size / 1e6:.1f} MB"


def write_manifest(folder: Path, images: int) -> None:
    schema = pa.schema([("uri", pa.string()), ("num_bytes", pa.int64())])
    with pq.ParquetWriter(folder / "manifest.parquet", schema) as out:
        for start in range(0, images, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, images))
            uris = [f"s3://factory/line-7/camera-3/2026-11-22/{number:010d}.jpg" for number in numbers]
            out.write_table(pa.table({"uri": uris, "num_bytes": [300_000] * len(uris)}, schema=schema))


def write_parts(folder: Path, images: int, *, share: float) -> None:
    """Parts with the ids of that share of the plan."""
    scores = folder / "out/scores/run_id=r"
    scores.mkdir(parents=True, exist_ok=True)
    for old in scores.iterdir():
        old.unlink()
    left = int(images * share)
    for ids in _in_parts(folder / "out/runs/r/plan", rows_per_part(images)):
        ids = ids[:left]  # noqa: PLW2901 -- the cut is the point
        left -= len(ids)
        if ids:
            totals = {TOTALS_KEY: json.dumps({"num_bytes": 300_000 * len(ids)})}
            rows = pa.table({"image_id": ids}).replace_schema_metadata(totals)
            pq.write_table(rows, scores / part_name(1, ids), compression="zstd")


def _in_parts(plan: Path, rows: int) -> Iterator[list[str]]:
    waiting: list[str] = []
    for path in sorted(plan.glob("*.parquet")):
        waiting += pq.read_table(path, columns=["image_id"])["image_id"].to_pylist()
        while len(waiting) >= rows:
            yield waiting[:rows]
            waiting = waiting[rows:]
    yield waiting


if __name__ == "__main__":
    main()
