"""Masks there and back, regions worked out by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from pipeline import masks
from pipeline.masks import Region, decode, encode, patch_grid, regions_of, run_lengths

# pycocotools hands NumPy an object of an older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(MASKS)
def test_a_mask_comes_back_bit_for_bit(mask: np.ndarray) -> None:
    """Encoding loses nothing, and the struct holds the plain types of the table."""
    encoded = encode(mask)
    assert encoded["size"] == list(mask.shape)
    assert isinstance(encoded["counts"], str)
    for row in (encoded, {"pred_mask": encoded, "mask_area": 1}):
        found = decode(row)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask)


@given(MASKS)
def test_runs_say_what_a_mask_holds(mask: np.ndarray) -> None:
    """Without making the picture: the runs fill it, the odd ones are its area, and they are its columns' own runs."""
    runs = run_lengths(encode(mask)["counts"])
    assert (runs.sum(), runs[1::2].sum()) == (mask.size, mask.sum())
    values = np.arange(len(runs)) % 2 == 1
    np.testing.assert_array_equal(np.repeat(values, runs), mask.ravel(order="F"))


def test_long_runs_are_read() -> None:
    """Numbers of several characters, and differences below zero."""
    mask = np.zeros((1000, 3000), bool)
    mask[5:990, 100:2900] = True
    mask[0, 0] = True
    assert run_lengths(encode(mask)["counts"])[1::2].sum() == mask.sum()


@pytest.mark.parametrize("counts", ["", "\x00\x01", "o", "ooooooooooo0", "ä", "0O", "~~"])
def test_what_is_no_encoding_is_refused(counts: str) -> None:
    """A damaged text is an error."""
    with pytest.raises(ValueError, match=r"run|ascii"):
        run_lengths(counts)


@pytest.mark.parametrize("counts", ["1000000000000", "01", "0P5oooo"])
def test_a_mask_that_does_not_fill_its_size_is_refused(counts: str) -> None:
    """pycocotools alone would hand out pixels that it never wrote."""
    with pytest.raises(ValueError, match="run"):
        decode({"pred_mask": {"size": [4, 4], "counts": counts}})


@given(MASKS)
def test_coco_tools_read_it(mask: np.ndarray) -> None:
    """It is COCO's own format: its tools find the same pixels and the same area."""
    as_coco = {"size": list(mask.shape), "counts": encode(mask)["counts"].encode()}
    np.testing.assert_array_equal(coco.decode(as_coco), mask)
    assert coco.area(as_coco) == mask.sum()


def test_the_encoding_runs_down_the_columns() -> None:
    """One mask worked out by hand: uncompressed runs 1, 2, 1 down the columns, zeros first."""
    expected = coco.frPyObjects({"size": [2, 2], "counts": [1, 2, 1]}, 2, 2)["counts"].decode()
    assert encode(np.array([[False, True], [True, False]])) == {"size": [2, 2], "counts": expected}


def test_a_row_without_a_mask_says_why() -> None:
    """Without a pixel threshold there is no mask to decode."""
    with pytest.raises(ValueError, match="pixel threshold"):
        decode({"pred_mask": None, "pixel_threshold": None})


def test_patch_scores_are_little_endian_float16() -> None:
    """The bytes by hand: 1.0 is 0x3c00, 0.5 is 0x3800, row by row."""
    row = {"patch_scores": bytes.fromhex("003c 0038 0000 003c"), "map_size": [2, 2]}
    assert patch_grid(row).tolist() == [[1.0, 0.5], [0.0, 1.0]]


def test_regions_by_hand() -> None:
    """Diagonal neighbours are one region; the highest peak comes first, boxes are x, y, width, height."""
    mask = np.array(
        [
            [1, 0, 0, 0, 0],
            [0, 1, 0, 0, 1],
            [0, 0, 0, 0, 1],
            [1, 1, 0, 0, 0],
        ],
        bool,
    )
    scores = np.zeros(mask.shape, np.float32)
    scores[0, 0], scores[1, 4], scores[3, 1] = 0.5, 0.75, 0.25
    scores[2, 2] = 1.0  # outside the mask
    assert regions_of(mask, scores) == [
        Region(x=4, y=1, width=1, height=2, area=2, peak_score=0.75),
        Region(x=0, y=0, width=2, height=2, area=2, peak_score=0.5),
        Region(x=0, y=3, width=2, height=1, area=2, peak_score=0.25),
    ]


def test_equal_peaks_are_ordered_by_area_then_place() -> None:
    """Same peak: the larger first, then the upper, then the left one; the order never depends on chance."""
    mask = np.array([[1, 0, 1, 0, 1], [0, 0, 0, 0, 1]], bool)
    found = regions_of(mask, np.ones(mask.shape, np.float32))
    assert [(region.x, region.y, region.area) for region in found] == [(4, 0, 2), (0, 0, 1), (2, 0, 1)]


def test_a_peak_inside_another_box_is_not_taken() -> None:
    """A ring and a dot in its middle: each has its own peak and area, though one box holds the other."""
    mask = np.ones((5, 5), bool)
    mask[1:4, 1:4] = False
    mask[2, 2] = True
    scores = np.full((5, 5), 0.5, np.float32)
    scores[2, 2] = 0.9
    dot, ring = regions_of(mask, scores)
    assert (dot.area, dot.x, dot.y, dot.peak_score) == (1, 2, 2, pytest.approx(0.9))
    assert (ring.area, ring.width, ring.height, ring.peak_score) == (16, 5, 5, 0.5)


@given(MASKS, st.randoms(use_true_random=False))
def test_regions_share_out_the_mask(mask: np.ndarray, random: Any) -> None:
    """Areas add up to the mask's, each peak is a score in the mask, and peaks fall."""
    scores = np.array([random.random() for _ in range(mask.size)], np.float32).reshape(mask.shape)
    found = regions_of(mask, scores)
    assert sum(region.area for region in found) == mask.sum()
    peaks = [region.peak_score for region in found]
    assert peaks == sorted(peaks, reverse=True)
    assert not mask.any() or peaks[0] == scores[mask].max()


def test_an_empty_mask_has_no_regions() -> None:
    """Nothing above the threshold: no region, and the mask still has its size."""
    assert regions_of(np.zeros((3, 4), bool), np.ones((3, 4), np.float32)) == []
    assert masks.decode(encode(np.zeros((3, 4), bool))).shape == (3, 4)
