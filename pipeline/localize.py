"""From patch scores to a label, a mask on the original picture, and its regions; in CPU tasks, off the GPU."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cops.maps import anomaly_map, axis_operator
from pipeline.masks import Map, Mask, encode, patch_grid, regions_of
from pipeline.schema import localized_schema
from pipeline.thresholds import Threshold, Thresholds


@dataclass(frozen=True, kw_only=True)
class Localize:
    """Called by Ray with tables of scored rows. Works on the float16 scores that the table keeps, so that anybody
    can make the same mask from the same row.

    Args:    image_size: the model's side, px.   sigma_px: smoothing of the map.
    """

    thresholds: Thresholds
    image_size: int
    sigma_px: float
    metadata: Mapping[str, pa.DataType]

    def __call__(self, table: pa.Table) -> pa.Table:
        if self.thresholds == Thresholds():
            return _without_labels(table, localized_schema(self.metadata))
        rows = table.to_pylist()
        for row in rows:
            if row["stage"] is None:
                began = time.perf_counter()
                row.update(self.verdict(row))
                row["localize_s"] = time.perf_counter() - began
        return pa.Table.from_pylist(rows, schema=localized_schema(self.metadata))

    def verdict(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A scored row's label, mask and regions under its group's thresholds; nothing where it has none."""
        threshold = self.thresholds.of(row)
        return label(row["pred_score"], threshold) | self._located(row, threshold)

    def _located(self, row: Mapping[str, Any], threshold: Threshold) -> dict[str, Any]:
        if threshold.pixel is None:
            return {}
        size_hw = (row["height"], row["width"])
        scores, (top, left) = hot_crop(
            patch_grid(row), threshold.pixel, image_size=self.image_size, sigma_px=self.sigma_px, size_hw=size_hw
        )
        part = scores >= np.float32(threshold.pixel)
        regions = [asdict(region) | {"x": region.x + left, "y": region.y + top} for region in regions_of(part, scores)]
        mask: Mask = np.zeros(size_hw, bool)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        found = {"pred_mask": encode(mask), "mask_area": int(part.sum()), "regions": regions}
        return {"pixel_threshold": threshold.pixel} | found


def _without_labels(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Of a run without thresholds: nothing is looked at row by row."""
    nulls = {
        name: pa.nulls(len(table), schema.field(name).type) for name in schema.names if name not in table.schema.names
    }
    return pa.table([nulls[name] if name in nulls else table[name] for name in schema.names], schema=schema)


def label(pred_score: float, threshold: Threshold) -> dict[str, Any]:
    """normal 0, anomalous 1, at or above the threshold; nothing without one. Compared in the table's float32."""
    if threshold.image is None:
        return {}
    is_anomalous = np.float32(pred_score) >= np.float32(threshold.image)
    return {"image_threshold": threshold.image, "pred_label": int(is_anomalous)}


def hot_crop(
    patch_scores: Map, level: float, *, image_size: int, sigma_px: float, size_hw: tuple[int, int]
) -> tuple[Map, tuple[int, int]]:
    """The part of the full-size map that can reach `level`, and its upper left corner (row, column).

    Bilinear values lie between their neighbours', so outside the box of hot pixels of the S×S map (and one pixel
    around it) nothing reaches the level; a 100-megapixel map is mostly never made.
    """
    small = anomaly_map(patch_scores, image_size=image_size, sigma_px=sigma_px)
    hot = small >= np.float32(level)
    spans = []
    for axis, size in enumerate(size_hw):
        along = np.flatnonzero(hot.any(axis=1 - axis))
        spans.append(_span(along, image_size, size) if len(along) else slice(0, 0))
    rows, columns = spans
    grid = patch_scores.shape[0]
    vertical = axis_operator(grid, image_size, size_hw[0], sigma_px, rows)
    horizontal = axis_operator(grid, image_size, size_hw[1], sigma_px, columns)
    crop: Map = vertical @ patch_scores @ horizontal.T
    return crop, (rows.start, columns.start)


def _span(hot: np.ndarray[Any, np.dtype[np.intp]], image_size: int, size: int) -> slice:
    """Output pixels whose two neighbours in the S×S map include one between the first and last hot one."""
    scale = size / image_size
    first = math.floor((hot[0] - 1 + 0.5) * scale - 0.5)
    last = math.ceil((hot[-1] + 1 + 0.5) * scale - 0.5)
    return slice(max(0, first), min(size, last + 1))
