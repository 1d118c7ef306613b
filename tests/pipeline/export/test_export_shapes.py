"""Masks taken apart and written as other tools write them: nothing is lost, whatever the shape."""

from typing import Any

import numpy as np
import pytest
from export_making import blob, marked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from pipeline.export.reading import unpacked
from pipeline.export.shapes import Part, coco_rle, label_studio_rle, parts_of
from pipeline.masks import encode

# pycocotools hands NumPy an object of an older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


def drawn(part: Part, shape: tuple[int, int]) -> np.ndarray:
    whole = np.zeros(shape, bool)
    whole[part.y : part.y + part.pixels.shape[0], part.x : part.x + part.pixels.shape[1]] = part.pixels
    return whole


@given(MASKS)
def test_regions_are_the_mask(mask: np.ndarray) -> None:
    """Each pixel is in one region, and each region is the one that the row tells of."""
    row = marked("a", mask)
    parts = parts_of(row, mask.shape)
    told = [(part.box_xywh, part.area, part.score) for part in parts]
    assert told == [
        ([one["x"], one["y"], one["width"], one["height"]], one["area"], one["peak_score"]) for one in row["regions"]
    ]
    np.testing.assert_array_equal(
        sum((drawn(part, mask.shape).astype(int) for part in parts), np.zeros(mask.shape)), mask
    )


@given(MASKS)
def test_a_region_in_cocos_runs(mask: np.ndarray) -> None:
    """Byte for byte what pycocotools makes of the region on the whole picture."""
    for part in parts_of(marked("a", mask), mask.shape):
        assert coco_rle(part, mask.shape) == encode(drawn(part, mask.shape))


@given(MASKS, st.integers(1, 3))
def test_a_region_in_label_studios_runs(mask: np.ndarray, times: int) -> None:
    """What is packed comes back pixel for pixel, in runs of all lengths."""
    large = np.kron(mask, np.ones((1, 7**times), bool))
    for part in parts_of(marked("a", large), large.shape):
        np.testing.assert_array_equal(
            unpacked(label_studio_rle(part, large.shape), large.shape), drawn(part, large.shape)
        )


def test_label_studios_runs_worked_out_by_hand() -> None:
    """1×3 pixels, the one in the middle marked: 12 values of 8 bits; lengths of 4, 8, 12, 16 bits; runs of 4."""
    header = f"{12:032b}" + "00111" + "0011" + "0111" + "1011" + "1111"
    runs = "100001100000000" + "100001111111111" + "100001100000000"
    bits = header + runs
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert label_studio_rle(Part(np.ones((1, 1), bool), 1, 0, 0.5), (1, 3)) == expected


def test_runs_longer_than_a_record() -> None:
    """A large picture's background takes many records of 65,536 values."""
    part = Part(np.ones((2, 2), bool), 700, 500, 0.5)
    found = unpacked(label_studio_rle(part, (1000, 1200)), (1000, 1200))
    np.testing.assert_array_equal(found, drawn(part, (1000, 1200)))
    assert coco.area(coco_rle(part, (1000, 1200)) | {"counts": coco_rle(part, (1000, 1200))["counts"].encode()}) == 4


def test_regions_whose_boxes_overlap() -> None:
    """A ring around a dot, a bar that reaches into another's box: told apart."""
    ring = blob(9, 12, (0, 0, 9, 9))
    ring[2:7, 2:7] = False
    ring[4, 4] = True
    ring[1:3, 10:12] = True
    parts = parts_of(marked("a", ring), ring.shape)
    assert sorted(part.area for part in parts) == [1, 4, 56]


@pytest.mark.parametrize(
    "change",
    [
        {"regions": []},
        {"regions": [{"x": -1, "y": 0, "width": 2, "height": 2, "area": 4, "peak_score": 0.5}]},
        {"regions": [{"x": 9, "y": 9, "width": 2, "height": 2, "area": 4, "peak_score": 0.5}]},
        {"regions": [{"x": 1, "y": 1, "width": 2, "height": 2, "area": 3, "peak_score": 0.5}]},
        {"pred_mask": {"size": [5, 4], "counts": "D"}},
        {"pred_mask": {"size": [4, 5], "counts": "no runs"}},
    ],
)
def test_a_damaged_row_is_refused(change: dict[str, Any]) -> None:
    """Nothing is exported that is not the mask."""
    row = marked("a", blob(4, 5, (1, 1, 2, 2)))
    assert len(parts_of(row, (4, 5))) == 1
    with pytest.raises(ValueError, match=r"mask|region|run"):
        parts_of(row | change, (4, 5))


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ([], "breaks off"),
        ([0, 0, 0, 4], "breaks off"),
        ([0, 0, 0, 8, 57, 27, 255, 255, 255], "8|2"),
        ([0] * 12, "brush"),
    ],
)
def test_damaged_brushes_are_refused(rle: list[int], words: str) -> None:
    """A review's file may be anything."""
    with pytest.raises(ValueError, match=words):
        unpacked(rle, (1, 1))
