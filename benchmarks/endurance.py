"""A large archive with a model that looks at nothing: memory over the run, and what is left after a kill near its end.

`python benchmarks/endurance.py`; `--images 10000` for a shorter form. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import pictures
from pages import ROOT, footer, table, write
from scale import encode_jpeg, make_archive
from watching import Watched, watch

from pipeline.parts import rows_in_parts

_SIDE_PX = 64
_PARTS = 8  # of a run, in each of which memory's peak is told
_NEARLY = 0.97
_FLAT = 1.3  # times the memory of the run's second part, which may be in use in its last


@dataclass(frozen=True)
class Endured:
    """One archive, scored by a run that was killed near its end and started again."""

    form: str
    first: Watched
    left: int
    """Images that the first attempt had not written."""
    second: Watched
    images: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/endurance.md")
    options = parser.parse_args()
    forms = {f"{options.images // 100:,} shards": options.images // 100, "single files": 0}
    endured = [endure(form, options.images, shards) for form, shards in forms.items()]
    page = [
        "# A large archive, killed near its end",
        "",
        f"`python benchmarks/endurance.py --images {options.images}`",
        "",
        "## Memory, first attempt",
        "",
        f"Peak in each {_PARTS}th of the run, MiB: private memory of the largest process of a kind; all: every",
        "process, shared pages once.",
        "",
        *table(
            ["form", "kind", *(str(part + 1) for part in range(_PARTS))],
            [
                [one.form, kind, *(f"{peak:,.0f}" for peak in one.first.peaks(kind, _PARTS))]
                for one in endured
                for kind in ("driver", "worker", "all")
            ],
        ),
        "",
        "## The same command again",
        "",
        *table(
            ["form", "images", "left", "first attempt, s", "second, s", "driver, MiB"],
            [
                [one.form, f"{one.images:,}", f"{one.left:,}", f"{one.first.wall_s:.0f}", f"{one.second.wall_s:.0f}",
                 f"{one.second.peak('driver'):,.0f}"]
                for one in endured
            ],
        ),
        "",
        "Seconds are those of the command, Ray's start (some 10 s) included.",
        "",
        *footer(f"JPEGs of {_SIDE_PX} px, resized to the packaged model's side."),
    ]  # fmt: skip
    write(page, options.results)
    for one in endured:
        for kind in ("driver", "worker"):
            one.first.require_flat(kind, _PARTS, at_most=_FLAT)


def endure(form: str, images: int, shards: int) -> Endured:
    encoded = [encode_jpeg(pixels) for pixels in pictures(8, _SIDE_PX)]
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        archive, output = Path(folder, "archive"), Path(folder, "out")
        archive.mkdir()
        make_archive(archive, encoded, images, shards)
        command = [sys.executable, str(ROOT / "benchmarks/null_job.py"), str(output), str(archive)]
        first = watch(command, kill_when=lambda: _written(output) >= _NEARLY * images)
        left = images - _written(output)
        second = watch(command)
        record = json.loads((output / "runs/null.json").read_text())
    if record["counts"]["scored"] != images or record["attempts"] != 2:
        raise RuntimeError(f"expected {images} images in 2 attempts, got {record['counts']} in {record['attempts']}")
    return Endured(form, first, left, second, images)


def _written(output: Path) -> int:
    return rows_in_parts(str(path) for path in output.glob("scores/run_id=null/part-*.parquet"))


if __name__ == "__main__":
    main()
