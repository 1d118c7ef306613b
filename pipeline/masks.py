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

_MORE, _SIGN = 0x20, 0x10  # of a character in COCO's compressed form
_MAX_PLACE = 7  # 40 bits are far more than any picture's pixels
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
    Raises:  ValueError: the run had no pixel threshold, so there is no mask; or the row is damaged.
    """
    encoded = row.get("pred_mask", row if "counts" in row else None)
    if encoded is None:
        raise ValueError("this row has no mask: its run had no pixel threshold (pixel_threshold is null)")
    counts = encoded["counts"]
    size: Sequence[int] = [int(side) for side in encoded["size"]]
    runs = run_lengths(counts)
    if len(size) != 2 or runs.sum() != size[0] * size[1]:  # pycocotools would fill the rest with what was in memory
        raise ValueError(f"a mask of size {size} has runs of {runs.sum()} pixels")
    decoded: Mask = coco.decode({"size": size, "counts": counts.encode("ascii")}).astype(bool)
    return decoded


def run_lengths(counts: str) -> npt.NDArray[np.int64]:
    """The runs of a compressed COCO mask, column by column: 0s, 1s, 0s, …; the odd ones make its area.

    Each number is written in groups of five bits, the lowest first, a character each; from the fourth number on it is
    the difference from the one before the last.
    Raises:  ValueError: the text is no such encoding.
    """
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero((codes & _MORE) == 0)
    if not len(ends) or ends[-1] != len(codes) - 1 or codes.min() < 0 or codes.max() > (_MORE | 0x1F):
        raise ValueError("the mask is no run-length encoding")
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends + 1 - starts)
    if place.max() > _MAX_PLACE:
        raise ValueError("the mask has a run longer than any picture")
    runs = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    runs -= ((codes[ends] & _SIGN) != 0) * (1 << (5 * (place[ends] + 1)))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise ValueError("the mask has runs of less than no pixels")
    return runs


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
