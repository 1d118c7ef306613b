"""Runs whose rows hang together: pictures on disk, masks with their regions, maps that can be rebuilt."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from run_making import commit_run, put, score_row

from pipeline.layout import RunLayout
from pipeline.masks import encode, regions_of
from pipeline.schema import SCORES, with_metadata

MODEL = {"name": "tiny", "method": "cops", "image_size": 16, "sigma_px": 1.0}
NO_LABELS = dict.fromkeys(
    ("image_threshold", "pred_label", "pixel_threshold", "pred_mask", "mask_area", "regions"), None
)


def blob(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of these boxes: top, left, height, width."""
    mask = np.zeros((height, width), bool)
    for top, left, down, across in boxes:
        mask[top : top + down, left : left + across] = True
    return mask


def marked(name: str, mask: np.ndarray, scores: np.ndarray | None = None, **fields: Any) -> dict[str, Any]:
    """A row with this mask; scores rise from upper left to lower right, unless they are given."""
    peaks = np.linspace(0.3, 0.9, mask.size, dtype=np.float32).reshape(mask.shape) if scores is None else scores
    regions = [vars(region) for region in regions_of(mask, peaks)]
    row = score_row(name, width=mask.shape[1], height=mask.shape[0])
    row |= {"pred_mask": encode(mask), "mask_area": int(mask.sum()), "regions": regions}
    row |= {"image_threshold": 0.5, "pred_label": int(mask.any()), "pred_score": 0.875 if mask.any() else 0.125}
    return row | fields


def pictured(folder: Path, name: str, mask: np.ndarray, **fields: Any) -> dict[str, Any]:
    """A row with a picture that lies on disk: grey, and bright where it is marked."""
    encoded = io.BytesIO()
    Image.fromarray(np.where(mask, 220, 90).astype(np.uint8)).convert("RGB").save(encoded, "PNG")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.getvalue())
    known = {"image_uri": str(path), "content_hash": hashlib.sha256(encoded.getvalue()).hexdigest()}
    return marked(name, mask, **(known | {"num_bytes": len(encoded.getvalue())} | fields))


def commit_rows(layout: RunLayout, *rows: dict[str, Any], columns: dict[str, Any] | None = None, **record: Any) -> str:
    """A committed run of these rows; the output."""
    put(layout, "scores", rows, with_metadata(SCORES, columns or {}))
    commit_run(layout, **({"model": MODEL} | record))
    return layout.root.path
