"""Masks taken apart into their regions, and written as other tools write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from scipy import ndimage

from pipeline.masks import Mask, decode

Runs = npt.NDArray[np.int64]

_EIGHT_NEIGHBOURS = np.ones((3, 3), int)
_LS_CHANNELS = 4  # Label Studio's masks are RGBA pictures
_LS_LENGTH_BITS = (4, 8, 12, 16)
_LS_WORD_BITS = 8
_SHAPE_VALUE = 255


@dataclass(frozen=True)
class Part:
    """One region of a mask: its pixels in its box, which lies at (x, y), and the map's peak in it."""

    pixels: Mask
    x: int
    y: int
    score: float

    @property
    def area(self) -> int:
        return int(self.pixels.sum())

    @property
    def box_xywh(self) -> list[int]:
        height, width = self.pixels.shape
        return [self.x, self.y, width, height]


def parts_of(row: Mapping[str, Any], size_hw: tuple[int, int]) -> list[Part]:
    """The regions of a row's mask, in the row's order; together they are the mask.

    Raises:  ValueError: mask, regions and picture do not belong together, or the mask is damaged.
    """
    if tuple(row["pred_mask"]["size"]) != size_hw:
        raise ValueError(f"a mask of {row['pred_mask']['size']} on a picture of {list(size_hw)} (height, width)")
    mask = decode(row)
    parts = [_part(mask, region) for region in row["regions"]]
    if sum(part.area for part in parts) != int(mask.sum()):
        raise ValueError(f"a mask of {int(mask.sum())} pixels whose regions have {sum(part.area for part in parts)}")
    return parts


def _part(mask: Mask, region: Mapping[str, Any]) -> Part:
    """The one component in a region's box that fills all of it: what else reaches in cannot touch all four sides, or it
    would cross the region, and be one with it.
    """
    x, y, width, height = (int(region[name]) for name in ("x", "y", "width", "height"))
    box = mask[max(y, 0) : y + height, max(x, 0) : x + width]
    if box.shape != (height, width) or min(x, y) < 0:
        raise ValueError(f"a region outside of its picture: {region}")
    labels, _ = ndimage.label(box, structure=_EIGHT_NEIGHBOURS)
    whole = (slice(0, height), slice(0, width))
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place == whole:
            pixels: Mask = labels == label
            if int(pixels.sum()) == region["area"]:
                return Part(pixels, x, y, float(region["peak_score"]))
    raise ValueError(f"no such region in the mask: {region}")


def coco_rle(part: Part, size_hw: tuple[int, int]) -> dict[str, Any]:
    """A region alone on the whole picture, as COCO's compressed runs; without making that picture."""
    height, width = size_hw
    runs = _runs(part.pixels, part.y, part.x, height, height * width)
    encoded = coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def label_studio_rle(part: Part, size_hw: tuple[int, int]) -> list[int]:
    """The same as Label Studio's brush: bytes of an RGBA picture, row by row, packed by @thi.ng/rle-pack.

    A header: how many values (32 bits), bits of a value (5), four sizes of a length (4 bits each), all three less one
    but the first. Then, of each run: 1, which size (2 bits), its length less one, its value.
    """
    height, width = size_hw
    runs = _runs(part.pixels.T, part.x, part.y, width, height * width) * _LS_CHANNELS
    header = f"{int(runs.sum()):032b}{_LS_WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _LS_LENGTH_BITS)
    values = [_SHAPE_VALUE * (at % 2) for at in range(len(runs))]
    body = (_packed(length, value) for run, value in zip(runs, values, strict=True) for length in _pieces(int(run)))
    bits = header + "".join(body)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def _runs(pixels: Mask, top: int, left: int, height: int, total: int) -> Runs:
    """0s, 1s, 0s, … of a box of pixels in a picture, column by column."""
    padded = np.pad(pixels, ((1, 1), (0, 0))).astype(np.int8)
    change = np.diff(padded, axis=0).T  # (w, h + 1)
    first, last = (np.argwhere(change == sign) @ np.array([height, 1]) for sign in (1, -1))
    offset = left * height + top
    apart = last[:-1] != first[1:]  # a column's end and the next one's beginning may touch
    starts, ends = first[np.append([True], apart)] + offset, last[np.append(apart, [True])] + offset
    edges = np.concatenate([[0], np.column_stack([starts, ends]).ravel(), [total]])
    runs: Runs = np.diff(edges)
    return runs if runs[-1] else runs[:-1]


def _pieces(length: int) -> Iterator[int]:
    """A run in lengths that the largest size can hold."""
    most = 1 << _LS_LENGTH_BITS[-1]
    while length > 0:
        yield min(length, most)
        length -= most


def _packed(length: int, value: int) -> str:
    size = next(at for at, bits in enumerate(_LS_LENGTH_BITS) if length <= 1 << bits)
    return f"1{size:02b}{length - 1:0{_LS_LENGTH_BITS[size]}b}{value:0{_LS_WORD_BITS}b}"
