"""Nights as the pipeline would leave them, with pictures on disk: what reports are tested on."""

import datetime
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from run_making import bad_row, put, record_of, score_row

from pipeline.layout import RunLayout
from pipeline.masks import encode, regions_of
from pipeline.schema import SCORES

GRID, SIDE_PX, PIXEL_THRESHOLD = 8, 64, 0.3
FIRST = datetime.datetime(2026, 11, 1, 4, tzinfo=datetime.UTC)
MODEL = {"name": "tiny", "method": "cops", "precision": "float32", "image_size": 56, "sigma_px": 4.0}

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp; ]]> --> </style></title></svg>",
    "javascript:alert(1)",
    "\u202egnp.exe\u202c \u200f\u2067",
    "line one\nline two\r\ttabbed\x00\x1b[31m",
    "é́ 日本語 مرحبا 🙂",
    "x" * 300,
    "",
)


def night(
    output: str | Path,
    run_id: str,
    rows: Sequence[dict[str, Any]],
    *,
    day: int = 0,
    bad: Iterable[str] = (),
    columns: Sequence[str] = (),
    **fields: Any,
) -> RunLayout:
    """A committed run of these rows, in parts of 7; `columns` are texts beyond those that every run has."""
    layout = RunLayout.at(str(output), run_id)
    schema = pa.schema([*SCORES, *(pa.field(name, pa.string()) for name in columns)])
    for start in range(0, len(rows), 7):
        put(layout, "scores", rows[start : start + 7], schema)
    if names := list(bad):
        put(layout, "quarantine", [bad_row(f"bad-{at}", image_uri=name) for at, name in enumerate(names)])
    at = (FIRST + datetime.timedelta(days=day)).isoformat(timespec="milliseconds")
    record = record_of(layout, committed_at=at, model=MODEL) | fields
    layout.write_json(layout.commit_path, record)
    return layout


def rows_of(category: str | None, scores: Iterable[float], threshold: float | None = 0.5, **fields: Any) -> list[Any]:
    """A row for each score, named by category, place and score; labelled where there is a threshold."""
    return [
        score_row(
            hashlib.blake2b(f"{category}/{at}/{value}/{fields}".encode(), digest_size=16).hexdigest(),
            image_uri=f"/in/{at}.png", category=category, pred_score=value, class_score=value, patch_score_max=0.5,
            image_threshold=threshold, pred_label=None if threshold is None else int(value >= threshold), **fields,
        )
        for at, value in enumerate(scores)
    ]  # fmt: skip


def pictured(folder: Path, name: str, **fields: Any) -> dict[str, Any]:
    """The fields of a row whose picture is a file: a grey square with a bright spot, and a map that is hot there."""
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
    pixels[16:32, 24:40] = 220
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    hot = np.zeros((GRID, GRID), "<f2")
    hot[2:4, 3:5] = 0.8
    mask = np.zeros((SIDE_PX, SIDE_PX), bool)
    mask[16:32, 24:40] = True
    found = [vars(one) for one in regions_of(mask, np.full(mask.shape, 0.75, np.float32))]
    return {
        "image_uri": str(path), "content_hash": hashlib.sha256(out.getvalue()).hexdigest(), "shard": None,
        "num_bytes": len(out.getvalue()), "width": SIDE_PX, "height": SIDE_PX, "patch_scores": hot.tobytes(),
        "map_size": [GRID, GRID], "patch_score_max": 0.8, "pixel_threshold": PIXEL_THRESHOLD,
        "pred_mask": encode(mask), "mask_area": int(mask.sum()), "regions": found,
    } | fields  # fmt: skip


def make_nights(output: Path, pictures: Path, *, nights: int = 4) -> None:
    """Three categories on two lines; in the last night one drifts, one has more anomalies, and one is new."""
    rng = np.random.default_rng(0)
    for day in range(nights):
        last = day == nights - 1
        rows = rows_of("steady", rng.beta(2, 12, 40), line="a") + rows_of("bad", rng.beta(2, 12, 40), line="b")
        rows += rows_of("drifting", rng.beta(2, 12, 40) + 0.15 * last, line="a")
        shown = rows_of("bad", np.linspace(0.6, 0.95, 12 if last else 1), line="b")
        rows += [row | pictured(pictures, f"{day}-{at}") for at, row in enumerate(shown)]
        rows += rows_of("new", [0.1, 0.2], line="b") if last else []
        night(output, f"night-{day}", rows, day=day, bad=["/in/cut.jpg"] * (day + 1), columns=["line"])


def hostile_night(output: Path, pictures: Path, names: Sequence[str] = HOSTILE) -> None:
    """Every name that is anybody's, in every place: categories, columns, URIs, reasons, the record."""
    rows = []
    for at, name in enumerate(names):
        picture = pictured(pictures, f"hostile-{at}", defect=name)
        rows += [row | picture for row in rows_of(name, [0.9, 0.45], defect=name)]
        rows += rows_of(name, [0.95], defect=name, shard=f"{name}.tar", content_hash="0")
        rows[-1]["image_uri"] = f"{name}.tar#{name}"
    rows += rows_of(None, [0.2, float("nan"), float("inf")], defect=None)
    night(
        output, "hostile", rows, bad=names, columns=["defect"],
        model=MODEL | {"name": names[0], "provenance": {name: name for name in names}},
        config={"inputs": list(names), "model": names[0], **{name: name for name in names}},
        warnings=list(names), git_commit=names[0], versions=dict.fromkeys(names, names[0]),
    )  # fmt: skip
