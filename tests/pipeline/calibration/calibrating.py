"""Runs of scores that were made up, and what is calibrated on them."""

from typing import Any

import numpy as np
import pyarrow as pa
from run_making import MODEL_ID, commit_run, put, score_row

from pipeline.calibration import CalibrateConfig
from pipeline.layout import RunLayout
from pipeline.schema import SCORES, with_metadata

COLUMNS = with_metadata(SCORES, {"line": pa.string(), "shift": pa.int64(), "truth": pa.string()})
DECODE = {"max_pixels": 100, "max_bytes": 100, "bit_depth_range": None, "alpha_background": "#ffffff"}
MODEL = {"name": "tiny", "method": "cops", "image_size": 4, "sigma_px": 1.0}
CONFIG = {"inputs": ["/in"], "model": "tiny", "model_id": MODEL_ID, "precision": "float32", "decode": DECODE}


def make(layout: RunLayout, rows: list[dict[str, Any]], **fields: Any) -> None:
    put(layout, "scores", rows, COLUMNS)
    commit_run(layout, **({"model": MODEL, "config": CONFIG} | fields))


def rows_of(category: str | None, scores: list[float], **fields: Any) -> list[dict[str, Any]]:
    """A picture for each score, all with bytes of their own."""
    return [
        score_row(
            f"{category}-{at}-{fields}", category=category, pred_score=score, content_hash=f"{category}{at}{fields}"
        )
        | fields
        for at, score in enumerate(scores)
    ]


def config(layout: RunLayout, **options: Any) -> CalibrateConfig:
    return CalibrateConfig(**({"output": layout.root.path, "pixel_rule": "none", "min_images": 20} | options))


def levels(found: Any) -> dict[Any, float | None]:
    return {one.group: one.image.found.value for one in found.levels}


def above(score: float) -> float:
    return float(np.nextafter(np.float32(score), np.float32(2)))


HUNDRED = [at / 200 for at in range(99)]
