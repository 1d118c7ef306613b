"""Anomaly maps to masks, and masks to and from what the table holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.float32]

_EIGHT_NEIGHBOURS = np.ones((3, 3), int)


@dataclass(frozen=True)
class Region:
    """One connected part of a mask: its box in pixels of the original, and the map's peak in it."""

    x: int
    y: int
    width: int
    height: int
    area: int
    peak_score: float


def encode(mask: Mask) -> dict[str, Any]:
    """A boolean (height, width) mask as COCO run-length encoding, compressed, `counts` as text."""
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode(row: Mapping[str, Any]) -> Mask:
    """A table row's mask as a boolean array of (height, width), on the picture as shown.

    Args:    row: a mapping with `pred_mask` (`size`, `counts`), such as a row of `to_pylist()`; or that struct itself.
    Raises:  ValueError: the run had no pixel threshold, so there is no mask.
    """
    encoded = row.get("pred_mask", row if "counts" in row else None)
    if encoded is None:
        raise ValueError("this row has no mask: its run had no pixel threshold (pixel_threshold is null)")
    counts = encoded["counts"]
    size: Sequence[int] = [int(side) for side in encoded["size"]]
    decoded: Mask = coco.decode({"size": size, "counts": counts.encode("ascii")}).astype(bool)
    return decoded


def patch_grid(row: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """A table row's patch scores as a (g, g) array: the whole anomaly map, to the last bit of its float16."""
    rows, columns = (int(side) for side in row["map_size"])
    return np.frombuffer(row["patch_scores"], "<f2").reshape(rows, columns).astype(np.float32)


def regions_of(mask: Mask, scores: Map) -> list[Region]:
    """The 8-connected regions of a mask, the one with the highest score first (then the larger, then upper left)."""
    if not mask.any():
        return []
    labels, _ = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    regions: list[Region] = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == label
        rows, columns = box
        regions.append(
            Region(
                x=columns.start, y=rows.start, width=columns.stop - columns.start, height=rows.stop - rows.start,
                area=int(inside.sum()), peak_score=float(scores[box][inside].max()),
            )
        )  # fmt: skip
    return sorted(regions, key=lambda region: (-region.peak_score, -region.area, region.y, region.x))
