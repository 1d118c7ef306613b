"""Small runs as the pipeline would leave them, without a model: parts, a record, a plan, a claim."""

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import commit
from pipeline.layout import RunLayout, Table
from pipeline.masks import encode
from pipeline.parts import parquet_bytes, part_name
from pipeline.schema import QUARANTINE_FILE, RUN_FORMAT, SCORES
from pipeline.write import STAGES, TOTALS_KEY

MODEL_ID = "m" * 32
NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def score_row(name: str, **fields: Any) -> dict[str, Any]:
    """A picture of 5×4 px with a 2×2 map and a mask of one column."""
    mask = np.zeros((4, 5), bool)
    mask[:, 2] = True
    row = {"image_id": name, "image_uri": f"/in/{name}.png", "width": 5, "height": 4, "num_bytes": 100}
    row |= {"pred_score": 0.5, "class_score": 0.5, "patch_score_max": 0.5, "map_size": [2, 2]}
    row |= {"patch_scores": np.full(4, 0.5, "<f2").tobytes(), "model_id": MODEL_ID, "scored_at": NOW}
    row |= {"pixel_threshold": 0.3, "pred_mask": encode(mask), "mask_area": 4, "regions": []}
    return row | fields


def bad_row(name: str, **fields: Any) -> dict[str, Any]:
    row = {"image_id": name, "image_uri": f"/in/{name}.png", "stage": "decode", "reason": "truncated", "at": NOW}
    return row | {"message": "it ends too early", "num_bytes": 10} | fields


def put(layout: RunLayout, table: Table, rows: Sequence[Mapping[str, Any]], schema: pa.Schema | None = None) -> Path:
    """A part with these rows, under the name that the pipeline gives it."""
    schema = schema or {"scores": SCORES, "quarantine": QUARANTINE_FILE}[table]
    totals = {"num_bytes": sum(row["num_bytes"] for row in rows)} | dict.fromkeys(STAGES, 0.5)
    filled = pa.Table.from_pylist(list(rows), schema).replace_schema_metadata({TOTALS_KEY: json.dumps(totals)})
    path = layout.part_path(table, part_name(1, [row["image_id"] for row in rows]))
    layout.root.fs.pipe_file(path, parquet_bytes(filled)) if not layout.root.is_local else _write(path, filled)
    return Path(path)


def _write(path: str, rows: pa.Table) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(parquet_bytes(rows))


def record_of(layout: RunLayout, **fields: Any) -> dict[str, Any]:
    """The record of the parts that are there."""
    files = commit.data_files(layout, layout.all_parts())
    counts = commit.counts_of(files)
    counts |= {"planned": counts["scored"] + counts["quarantined"], "skipped": 0, "duplicates": 0, "unmatched": 0}
    config = {"inputs": ["/in"], "model": "tiny", "model_id": MODEL_ID, "precision": "float32", "incremental": False}
    return {
        "format": RUN_FORMAT,
        "run_id": layout.run_id,
        "config": config | {"keep_columns": [], "limit": 7},
        "model_id": MODEL_ID,
        "model": {"name": "tiny", "method": "cops"},
        "warnings": [],
        "versions": {"python": "3"},
        "git_commit": "c0ffee",
        "counts": counts,
        "seconds": commit.seconds_of(files) | {"wall": 61.0},
        "files": commit.file_records(files),
        "attempts": 1,
        "committed_at": NOW.isoformat(timespec="milliseconds"),
        "images_per_s": 2.5,
    } | fields


def commit_run(layout: RunLayout, **fields: Any) -> None:
    layout.write_json(layout.commit_path, record_of(layout, **fields))


def make_run(layout: RunLayout, **fields: Any) -> None:
    """Three scored images in two parts, one in quarantine; committed."""
    put(layout, "scores", [score_row("a"), score_row("b")])
    put(layout, "scores", [score_row("c", pixel_threshold=None, pred_mask=None, mask_area=None, regions=None)])
    put(layout, "quarantine", [bad_row("d")])
    commit_run(layout, **fields)


def leave_plan(layout: RunLayout, planned: int = 5, *, skipped: int = 0) -> None:
    told = {"model": "tiny", "model_id": MODEL_ID}
    summary = {"planned": planned, "skipped": skipped}
    layout.write_json(layout.work_path("plan.json"), {"identity": told, "summary": summary, "files": []})


def leave_claim(layout: RunLayout, *, silent_s: float, released: bool = False) -> None:
    """A claim of another machine's process."""
    claim = {"token": "t", "host": "else\x1bwhere", "pid": 7, "machine": "another", "process_start": "1"}
    beat = {"beat": time.time_ns() - int(silent_s * 1e9), "released": released}
    layout.write_json(layout.work_path("claim-00001.json"), claim | beat)


def files_below(folder: str | Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
