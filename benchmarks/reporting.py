"""The report on a night of a million images, with fourteen such nights before it: time, memory, size of the page.

`python benchmarks/reporting.py`; `--images 100000` for a shorter form. Scores are drawn from distributions like those
of the packaged model; the maps of the night are noise, those of the nights before, which nobody reads, are left empty.
Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from model import pictures
from pages import ROOT, footer, table, write
from scale import encode_jpeg

from pipeline import commit, masks
from pipeline.label_sets import FORMAT, LABELS, LabelLayout
from pipeline.layout import RunLayout
from pipeline.parts import parquet_bytes, part_name
from pipeline.schema import QUARANTINE_FILE, RUN_FORMAT, SCORES

_CATEGORIES, _LINES, _PICTURES, _SIDE_PX = 20, 4, 16, 1024
_GRID, _PART = 24, 8192
_THRESHOLD, _PIXEL_THRESHOLD = 0.5, 0.35
_ANOMALOUS = 0.01
_LABEL_SET = "other"
_BAD = 200  # of every night's images, in quarantine
_REGION = {"x": 300, "y": 200, "width": 120, "height": 80, "area": 7200, "peak_score": 0.9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="of each night")
    parser.add_argument("--nights", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where the tables are made and kept; default: a temporary one")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/report.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "out/runs").exists():
            make_nights(folder, options.images, options.nights)
        if not (folder / "out/label_sets").exists():
            label_nights(folder)
        forms = {
            "the whole report": [],
            "by a label set that every night has": ["--label-set", _LABEL_SET],
            "by category and line": ["--by", "category,line"],
            "without pictures": ["--no-pictures"],
            "without earlier nights": ["--trailing", "0"],
        }
        rows = [[form, *measured(folder, arguments)] for form, arguments in forms.items()]
    page = [
        f"# A report on {options.images:,} images",
        "",
        f"`python benchmarks/reporting.py --images {options.images} --nights {options.nights}`",
        "",
        f"{options.nights} committed nights of {options.images:,} images each, {_CATEGORIES} categories,",
        f"{_LINES} lines, {_ANOMALOUS:.0%} of them anomalous; the newest is reported on, the others are",
        "its trailing runs.",
        "",
        *table(["", "seconds", "of processors", "peak MiB", "page, MB"], rows),
        "",
        "A process of its own each, its start included; 24 anomalies and 12 borderline images of "
        f"{_SIDE_PX} px are read and drawn.",
        "",
        *footer(f"Tables on a local disk, in the page cache; other work beside, a load of {os.getloadavg()[1]:.0f}."),
    ]
    write(page, options.results)


# jobs/report.py, and its peak as the last line. What wait4 tells of a child holds this process's own memory, too.
_ALONE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import tyro
from jobs.report import Options, main
code = main(tyro.cli(Options))
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def measured(folder: Path, arguments: list[str]) -> list[str]:
    """Seconds, of processors too, peak memory and size of one report."""
    saved = folder / "report.html"
    command = [sys.executable, "-c", _ALONE, str(ROOT), "--output", str(folder / "out"), "--save", str(saved)]
    began, before = time.monotonic(), os.times()
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True, text=True)
    took, after = time.monotonic() - began, os.times()
    busy = after.children_user - before.children_user + after.children_system - before.children_system
    peak = int(done.stdout.splitlines()[-1]) / 1024
    return [f"{took:.1f}", f"{busy:.1f}", f"{peak:,.0f}", f"{saved.stat().st_size / 1e6:.1f}"]


def make_nights(folder: Path, images: int, nights: int) -> None:
    rng = np.random.default_rng(0)
    encoded = [encode_jpeg(pixels) for pixels in pictures(_PICTURES, _SIDE_PX)]
    (folder / "pictures").mkdir(parents=True)
    for number, data in enumerate(encoded):
        (folder / f"pictures/{number:02d}.jpg").write_bytes(data)
    hashes = [hashlib.sha256(data).hexdigest() for data in encoded]
    first = datetime.datetime(2026, 11, 1, 4, tzinfo=datetime.UTC)
    for night in range(nights):
        at = first + datetime.timedelta(days=night)
        layout = RunLayout.at(str(folder / "out"), f"night-{at:%Y-%m-%d}")
        for start in range(0, images, _PART):
            count, is_last = min(_PART, images - start), night == nights - 1
            _put(layout, "scores", _rows(rng, folder, hashes, start, count, has_maps=is_last, shift=0.03 * is_last))
        _put(layout, "quarantine", _bad_rows(folder, images))
        _commit(layout, at, images)


def _rows(
    rng: np.random.Generator, folder: Path, hashes: list[str], start: int, count: int, *, has_maps: bool, shift: float
) -> pa.Table:
    numbers = np.arange(start, start + count)
    category = rng.integers(0, _CATEGORIES, count)
    anomalous = rng.random(count) < _ANOMALOUS
    scores = np.where(anomalous, rng.beta(6, 3, count), rng.beta(1 + category / 4, 30 - category / 2, count))
    scores = np.clip(scores + shift * (category == 3), 0, 1).astype(np.float32)
    labels, which = scores >= _THRESHOLD, numbers % _PICTURES
    columns: dict[str, Any] = {
        "image_id": [f"{number:032x}" for number in numbers],
        "image_uri": [f"{folder}/pictures/{one:02d}.jpg" for one in which],
        "content_hash": [hashes[one] for one in which],
        "category": [f"category-{one:02d}" for one in category],
        "width": np.full(count, _SIDE_PX),
        "height": np.full(count, _SIDE_PX),
        "num_bytes": np.full(count, 300_000),
        "pred_score": scores,
        "class_score": scores,
        "patch_score_max": scores,
        "image_threshold": np.full(count, _THRESHOLD),
        "pred_label": labels.astype(np.int8),
        "patch_scores": list(_maps(rng, scores)) if has_maps else [b""] * count,
        "map_size": [[_GRID, _GRID]] * count,
        "pixel_threshold": np.full(count, _PIXEL_THRESHOLD),
        "pred_mask": [_MASKS[bool(label)] for label in labels],
        "mask_area": np.where(labels, _REGION["area"], 0),
        "regions": [[_REGION] if label else [] for label in labels],
        "model_id": ["m" * 32] * count,
    }
    schema = SCORES.append(pa.field("line", pa.string()))
    columns["line"] = [f"line-{one}" for one in rng.integers(0, _LINES, count)]
    arrays = [pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
              for field in schema]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=schema)


def _maps(rng: np.random.Generator, scores: np.ndarray) -> Iterator[bytes]:
    noise = rng.random((len(scores), _GRID, _GRID), np.float32) * scores[:, None, None]
    yield from (grid.tobytes() for grid in noise.astype("<f2"))


def _mask(*, is_marked: bool) -> dict[str, Any]:
    mask = np.zeros((_SIDE_PX, _SIDE_PX), bool)
    if is_marked:
        mask[200:280, 300:420] = np.random.default_rng(1).random((80, 120)) < 0.9
    return masks.encode(mask)


_MASKS = {marked: _mask(is_marked=marked) for marked in (False, True)}


def _bad_rows(folder: Path, images: int) -> pa.Table:
    rows = [
        {"image_id": f"bad{number}", "image_uri": f"{folder}/pictures/bad-{number}.jpg", "stage": "decode",
         "reason": ("truncated", "corrupt", "not_an_image")[number % 3], "message": "it ends too early"}
        for number in range(min(_BAD, images))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, QUARANTINE_FILE)


def _put(layout: RunLayout, name: Any, rows: pa.Table) -> None:
    path = Path(layout.part_path(name, part_name(1, rows["image_id"].to_pylist())))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_bytes(rows))


def _commit(layout: RunLayout, at: datetime.datetime, images: int) -> None:
    files = commit.data_files(layout, layout.all_parts())
    counts = commit.counts_of(files)
    record = {
        "format": RUN_FORMAT, "run_id": layout.run_id, "committed_at": at.isoformat(), "model_id": "m" * 32,
        "config": {"inputs": [f"s3://factory/{at:%Y-%m-%d}/"], "image_threshold": _THRESHOLD},
        "model": {"name": "drawn", "precision": "float32", "image_size": 336, "sigma_px": 4.0},
        "versions": commit.versions(), "git_commit": None, "warnings": [], "attempts": 1,
        "counts": {**counts, "planned": counts["scored"] + counts["quarantined"], "skipped": 0},
        "seconds": {"read": 900.0, "decode": 3000.0, "score": 9000.0, "localize": 800.0, "wall": 10_000.0},
        "images_per_s": images / 10_000, "files": commit.file_records(files),
    }  # fmt: skip
    layout.write_json(layout.commit_path, json.loads(json.dumps(record)))


def label_nights(folder: Path) -> None:
    """A label set for each night, with the labels that it has already."""
    for path in sorted((folder / "out/runs").glob("*.json")):
        layout, record = RunLayout.at(str(folder / "out"), path.stem), json.loads(path.read_text())
        labels, files = LabelLayout(layout, _LABEL_SET), []
        for number, part in enumerate(one for one in record["files"] if one["table"] == "scores"):
            made = Path(labels.part_path(f"part-{number:05d}.parquet"))
            made.parent.mkdir(parents=True, exist_ok=True)
            rows = pq.ParquetFile(layout.root.join(part["path"])).read(LABELS.names)
            made.write_bytes(parquet_bytes(rows))
            files.append({"path": layout.below_root(str(made)), "scores": part["path"], "rows": part["rows"]})
        told = {"format": FORMAT, "run_id": layout.run_id, "label_set": _LABEL_SET, "files": files}
        layout.write_json(labels.record_path, told | {"run_committed_at": record["committed_at"]})


if __name__ == "__main__":
    main()
