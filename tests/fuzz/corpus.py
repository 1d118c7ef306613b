"""The seed files: real pictures, shards, manifests, checkpoints, threshold tables and run records, each whole."""

from __future__ import annotations

import datetime as dt
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import large_pictures, small_pictures

MODEL_ID = "0123456789abcdef0123456789abcdef"  # of the threshold tables
_SMALL_CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 28, "layers": 1, "width": 16, "patch_size": 14, "head_width": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 5, "width": 16, "heads": 1, "layers": 2},
}


@dataclass(frozen=True)
class Seed:
    """A whole file. `target` says what reads it, `form` what it is."""

    target: str
    form: str
    name: str
    data: bytes


@cache
def seeds(kind: str) -> list[Seed]:
    """The whole files of a kind; `large` are pictures, too."""
    return _MAKERS[kind]()


def _images(pictures: dict[str, dict[str, bytes]]) -> list[Seed]:
    return [Seed("image", form, name, data) for form, kinds in pictures.items() for name, data in kinds.items()]


def _tar(members: Iterable[tuple[str | tarfile.TarInfo, bytes]], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _tars(pictures: dict[str, dict[str, bytes]]) -> dict[str, bytes]:
    png, jpeg, notes = pictures["png"]["grey"], pictures["jpeg"]["rgb"], b'{"category": "nut", "label": 1}'
    samples = [("a/0.png", png), ("a/0.json", notes), ("a/1.jpg", jpeg), ("a/1.mask.png", png)]
    link = tarfile.TarInfo("a/2.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    long_names = [("../" * 40 + "é" * 60 + ".png", png), ("/" + "x" * 200 + ".jpg", jpeg)]
    return {
        "ustar": _tar(samples, tarfile.USTAR_FORMAT),
        "gnu": _tar([*samples, (link, b""), *long_names], tarfile.GNU_FORMAT),
        "pax": _tar([*samples, *long_names], tarfile.PAX_FORMAT),
    }


def _written(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def _shards(pictures: dict[str, dict[str, bytes]]) -> dict[str, bytes]:
    cells = [pictures["png"]["grey"], pictures["jpeg"]["rgb"], None, b"no picture", pictures["png"]["bit"]]
    days = [dt.date(2026, 1, day) for day in range(1, 6)]
    beside = {"category": ["nut", "bolt", None, "nut", "bolt"], "label": [0, 1, None, 0, 1], "day": days}
    structs = [{"bytes": cell, "path": str(at)} for at, cell in enumerate(cells)]
    plain = pa.table({"image": cells, **beside})
    return {
        "snappy": _written(plain),
        "zstd, two groups": _written(plain, compression="zstd", row_group_size=3),
        "plain": _written(plain, compression="none", use_dictionary=False, data_page_version="2.0"),
        "struct": _written(pa.table({"image": structs, **beside}), compression="gzip"),
        "large binary": _written(pa.table({"image": pa.array(cells, pa.large_binary())}), write_page_index=True),
    }


def _manifests() -> dict[str, bytes]:
    rows: list[dict[str, Any]] = [
        {"uri": "a.png", "category": "nut", "label": 1, "num_bytes": 100},
        {"uri": "ä b/ü,1.jpg", "category": 'b"olt', "label": 0, "num_bytes": None},
        {"uri": "../gone.png", "category": None, "label": None, "num_bytes": 2**40},
        {"uri": "file:///nowhere/x.png", "category": "nut", "label": 1, "num_bytes": 7},
    ]
    lines = ["uri,category,note,num_bytes", "a.png,nut,1,100", '"ä b/ü,1.jpg","b""olt",0,', "../gone.png,,,9"]
    return {
        "csv": ("\n".join(lines) + "\n").encode(),
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
        "parquet": _written(pa.Table.from_pylist(rows)),
    }


def _checkpoint() -> bytes:
    from cops.assembly import assemble  # noqa: PLC0415 -- torch takes seconds
    from cops.checkpoint import save_checkpoint  # noqa: PLC0415

    made = assemble(_SMALL_CLIP, image_size=28, sot_id=0, stop_id=1, eot_id=4, heads=1, samples=1, deep_layers=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.safetensors"
        save_checkpoint(path, config=made.config, tensors=made.tensors, provenance=made.provenance)
        return path.read_bytes()


def _thresholds() -> bytes:
    rows = [("nut", 0.5, 0.25), ("bolt", 0.75, None), (None, 0.5, 0.5)]
    names = ("category", "image_threshold", "pixel_threshold")
    return _written(pa.Table.from_pylist([{"model_id": MODEL_ID} | dict(zip(names, row, strict=True)) for row in rows]))


def _record() -> bytes:
    files = [{"table": "quarantine", "path": "quarantine/run_id=r/part-0.parquet", "rows": 1}]
    record = {
        "format": "cops-run/1", "run_id": "r", "status": "done", "committed_at": "2026-01-01T00:00:00+00:00",
        "model_id": MODEL_ID, "config": {"decode": {}}, "counts": {"planned": 1}, "files": files,
    }  # fmt: skip
    return json.dumps(record, indent=2).encode()


_MAKERS: dict[str, Callable[[], list[Seed]]] = {
    "image": lambda: _images(small_pictures()),
    "large": lambda: _images(large_pictures()),
    "tar": lambda: [Seed("tar", "tar", name, data) for name, data in _tars(small_pictures()).items()],
    "shard": lambda: [Seed("shard", "parquet", name, data) for name, data in _shards(small_pictures()).items()],
    "manifest": lambda: [Seed("manifest", f"{form} manifest", form, data) for form, data in _manifests().items()],
    "checkpoint": lambda: [Seed("checkpoint", "checkpoint", "small", _checkpoint())],
    "thresholds": lambda: [Seed("thresholds", "thresholds", "table", _thresholds())],
    "record": lambda: [Seed("record", "run record", "record", _record())],
}
KINDS = tuple(_MAKERS)
