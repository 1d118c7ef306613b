"""Pixel thresholds: an image's peak is where its mask begins, and shares of pixels are those of its maps."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cops.maps import anomaly_map
from pipeline.calibration.maps import BLOCKS, Peaks, PixelValues, at_pixel_rate
from pipeline.localize import Localize
from pipeline.metrics import VALUES, value_order
from pipeline.thresholds import Threshold, Thresholds

SIDE, SIGMA, GRID = 56, 2.0, 7
SIZE = {"image_size": SIDE, "sigma_px": SIGMA}


def row(grid: np.ndarray, size_hw: tuple[int, int]) -> dict:
    scores = grid.astype("<f2")
    return {"height": size_hw[0], "width": size_hw[1], "map_size": list(grid.shape), "patch_scores": scores.tobytes()}


def masked(one: dict, level: float) -> int:
    localize = Localize(thresholds=Thresholds(Threshold(pixel=level)), metadata={}, **SIZE)
    return localize.verdict(one | {"pred_score": 0.5, "category": None})["mask_area"]


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(56, 56), (30, 41), (200, 90), (57, 333), (1, 1), (500, 3)]),
    st.sampled_from([1.0, 0.05, 0.0]),
)
def test_a_mask_begins_at_the_peak(seed: int, size_hw: tuple[int, int], spread: float) -> None:
    """A hair below the peak the original's mask has a pixel; a hair above it none. Of any size, and of a flat map."""
    grid = 0.5 + spread * (np.random.default_rng(seed).random((GRID, GRID)) - 0.5)
    one = row(grid, size_hw)
    (peak,) = Peaks(**SIZE)(pa.Table.from_pylist([one]))
    assert masked(one, float(peak) * (1 - 1e-5)) > 0
    assert masked(one, float(peak) * (1 + 1e-6)) == 0


def test_a_map_of_nothing() -> None:
    """All scores 0: the peak is 0, and the search for it ends."""
    (peak,) = Peaks(**SIZE)(pa.Table.from_pylist([row(np.zeros((GRID, GRID)), (80, 40))]))
    assert peak == 0


def test_pixels_by_value() -> None:
    """Every pixel of each S×S map is counted once, at its float16."""
    rows = [row(np.random.default_rng(seed).random((GRID, GRID)), (10, 10)) for seed in range(3)]
    counts = PixelValues(**SIZE)(pa.Table.from_pylist(rows))
    assert counts.sum() == 3 * SIDE**2
    grids = [np.frombuffer(one["patch_scores"], "<f2").reshape(GRID, GRID) for one in rows]
    expected = np.concatenate([value_order(anomaly_map(grid, **SIZE)).ravel() for grid in grids])
    assert (counts == np.bincount(expected, minlength=VALUES)).all()


def counted(blocks: list[dict[float, int]]) -> np.ndarray:
    counts = np.zeros((BLOCKS, VALUES), np.int64)
    for at, block in enumerate(blocks):
        for value, count in block.items():
            counts[at, value_order(np.array([value], np.float16))[0]] = count
    return counts


def test_a_share_of_pixels() -> None:
    """Of 1,000 pixels 10 are at 0.75 and 30 at 0.5: at most 1 % lie above 0.5, at most 4 % above 0.25."""
    counts = counted([{0.25: 480, 0.5: 15, 0.75: 5}, {0.25: 480, 0.5: 15, 0.75: 5}])
    assert at_pixel_rate(counts, 0.01).value == float(np.nextafter(np.float16(0.5), np.float16(1)))
    assert at_pixel_rate(counts, 0.04).value == float(np.nextafter(np.float16(0.25), np.float16(1)))
    assert at_pixel_rate(counts, 0.009).value == float(np.nextafter(np.float16(0.75), np.float16(1)))


def test_the_interval_is_of_blocks_not_of_pixels() -> None:
    """One image of fifty has all the hot pixels: the rate to come may as well be none, or twice it."""
    counts = counted([{0.25: 500, 0.75: 500}, *[{0.25: 1000}] * 49])
    found = at_pixel_rate(counts, 0.02)
    assert found.rate_low == 0
    assert found.rate_high == pytest.approx(0.03, abs=0.011)
    assert found == at_pixel_rate(counts, 0.02)


def test_pixels_of_the_highest_value() -> None:
    """No threshold in 0..1 lies above them."""
    assert at_pixel_rate(counted([{1.0: 10, 0.5: 10}]), 0.1).value is None
