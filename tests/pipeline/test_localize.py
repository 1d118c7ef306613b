"""From patch scores to label, mask and regions, held against SciPy and torch."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cops.maps import anomaly_map
from pipeline.localize import Localize, hot_crop, label
from pipeline.masks import decode
from pipeline.schema import localized_schema, scored_schema
from pipeline.thresholds import Threshold, Thresholds

# pycocotools hands NumPy an object of an older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIDE, GRID, SIGMA = 56, 8, 4.0
SIZES = [(56, 56), (20, 30), (1, 1), (1, 90), (90, 1), (57, 55), (112, 28), (200, 333), (7, 400)]


def reference_map(patch_scores: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The contract, by other means: nearest upsampling, SciPy's Gaussian, torch's bilinear resizing."""
    upsampled = np.kron(patch_scores.astype(np.float64), np.ones((SIDE // GRID, SIDE // GRID)))
    smooth = torch.from_numpy(ndimage.gaussian_filter(upsampled, SIGMA))[None, None]
    resized = torch.nn.functional.interpolate(smooth, size_hw, mode="bilinear", align_corners=False)
    return resized[0, 0].numpy()


def row(patch_scores: np.ndarray, size_hw: tuple[int, int], **fields: Any) -> dict[str, Any]:
    plain = {"image_id": "i", "image_uri": "u", "pred_score": 0.5, "height": size_hw[0], "width": size_hw[1]}
    scores = {"patch_scores": patch_scores.astype("<f2").tobytes(), "map_size": list(patch_scores.shape)}
    return plain | scores | fields


def localized(thresholds: Thresholds, *rows: dict[str, Any], **metadata: pa.DataType) -> list[dict[str, Any]]:
    stage = Localize(thresholds=thresholds, image_size=SIDE, sigma_px=SIGMA, metadata=metadata)
    table = stage(pa.Table.from_pylist(list(rows), schema=scored_schema(metadata)))
    assert table.schema == localized_schema(metadata)
    return table.to_pylist()


def bumps(seed: int) -> np.ndarray:
    """A quiet grid with a few hot patches, in float16 as the table keeps it."""
    rng = np.random.default_rng(seed)
    grid = rng.random((GRID, GRID)) * 0.3
    for _ in range(rng.integers(0, 4)):
        grid[tuple(rng.integers(0, GRID, 2))] = 1
    return grid.astype(np.float16)


def assert_mask_is(mask: np.ndarray, expected: np.ndarray, level: float) -> None:
    """Equal, but for pixels nearer to the level than float32 can tell."""
    unclear = np.abs(expected - level) < 1e-6
    np.testing.assert_array_equal(mask[~unclear], (expected >= level)[~unclear])


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_the_contracts(size_hw: tuple[int, int], seed: int) -> None:
    """At any size, above or below the model's side, the mask is the resized smoothed map at or above the level."""
    patch_scores = bumps(seed)
    expected = reference_map(patch_scores, size_hw)
    for level in (0.05, float(np.quantile(expected, 0.8)), float(expected.max()) * 0.99):
        (found,) = localized(Thresholds(Threshold(pixel=level)), row(patch_scores, size_hw))
        mask = decode(found)
        assert mask.shape == size_hw
        assert_mask_is(mask, expected, level)
        assert found["mask_area"] == mask.sum()
        assert sum(region["area"] for region in found["regions"]) == mask.sum()


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 130), st.integers(1, 130), st.floats(0.01, 1))
def test_nothing_hot_lies_outside_the_crop(seed: int, height: int, width: int, level: float) -> None:
    """The crop is the full map cut out, and outside of it the map stays below the level."""
    patch_scores = bumps(seed).astype(np.float32)
    crop, (top, left) = hot_crop(patch_scores, level, image_size=SIDE, sigma_px=SIGMA, size_hw=(height, width))
    full = anomaly_map(patch_scores, image_size=SIDE, sigma_px=SIGMA, size_hw=(height, width))
    inside = (slice(top, top + crop.shape[0]), slice(left, left + crop.shape[1]))
    np.testing.assert_allclose(crop, full[inside], rtol=0, atol=1e-6)
    outside = np.ones(full.shape, bool)
    outside[inside] = False
    assert not (full[outside] >= level + 1e-6).any()


def test_a_quiet_picture_needs_no_crop() -> None:
    """Below the level everywhere: an empty mask of the picture's size, no region, area 0."""
    crop, _ = hot_crop(np.zeros((8, 8), np.float32), 0.5, image_size=SIDE, sigma_px=SIGMA, size_hw=(10**5, 10**5))
    assert crop.size == 0
    (found,) = localized(Thresholds(Threshold(pixel=0.5)), row(np.zeros((GRID, GRID)), (30, 40)))
    assert (found["mask_area"], found["regions"], decode(found).shape) == (0, [], (30, 40))


def test_a_hot_picture_is_all_mask() -> None:
    """A constant map at the level is all mask: one region with the picture's own box."""
    (found,) = localized(Thresholds(Threshold(pixel=0.5)), row(np.full((GRID, GRID), 0.75), (30, 40)))
    assert decode(found).all()
    (region,) = found["regions"]
    assert region == {"x": 0, "y": 0, "width": 40, "height": 30, "area": 1200, "peak_score": pytest.approx(0.75)}


def test_regions_are_in_pixels_of_the_whole_picture() -> None:
    """A hot lower right corner: its box touches the picture's ends, not the crop's, and its peak is the map's."""
    patch_scores = np.zeros((GRID, GRID), np.float16)
    patch_scores[-1, -1] = 1
    expected = reference_map(patch_scores, (100, 200))
    (found,) = localized(Thresholds(Threshold(pixel=0.5)), row(patch_scores, (100, 200)))
    (region,) = found["regions"]
    assert (region["x"] + region["width"], region["y"] + region["height"]) == (200, 100)
    assert region["peak_score"] == pytest.approx(expected.max(), abs=1e-6)
    assert region["x"] == np.flatnonzero((expected >= 0.5).any(0))[0]


@pytest.mark.parametrize(("score", "expected"), [(0.5, 1), (0.49999, 0), (0.7, 1)])
def test_a_score_at_the_threshold_is_anomalous(score: float, expected: int) -> None:
    """At or above is 1, below is 0."""
    assert label(score, Threshold(image=0.5)) == {"image_threshold": 0.5, "pred_label": expected}


def test_labels_are_compared_as_the_table_keeps_them() -> None:
    """0.1 in float32 is not the double 0.1; a score that shows as the threshold is at it."""
    assert label(float(np.float32(0.1)), Threshold(image=0.1))["pred_label"] == 1
    assert label(float(np.float32(0.7)), Threshold(image=0.7))["pred_label"] == 1


def test_without_thresholds_nothing_is_guessed() -> None:
    """Label, mask, area and regions are null; one threshold gives its own columns only."""
    names = ("image_threshold", "pred_label", "pixel_threshold", "pred_mask", "mask_area", "regions")
    hot = row(np.ones((GRID, GRID)), (9, 9))
    (none,) = localized(Thresholds(), hot)
    assert [none[name] for name in names] == [None] * 6
    (image_only,) = localized(Thresholds(Threshold(image=0.25)), hot)
    assert [image_only[name] for name in names] == [0.25, 1, None, None, None, None]


def test_each_category_has_its_threshold_and_bad_rows_pass() -> None:
    """A category's own threshold, the pooled one for others; rows that are bad already are left as they are."""
    thresholds = Thresholds(Threshold(image=0.9), {("screw",): Threshold(image=0.1)})
    grid = np.zeros((GRID, GRID))
    bad = {"image_id": "b", "image_uri": "u", "stage": "read", "reason": "empty", "message": "m"}
    rows = [row(grid, (4, 4), category=name, lot="7") for name in ("screw", "nut", None)]
    found = localized(thresholds, *rows, bad, lot=pa.string())
    assert [each["pred_label"] for each in found] == [1, 0, 0, None]
    assert [each["lot"] for each in found] == ["7", "7", "7", None]
    assert (found[3]["reason"], found[3]["localize_s"]) == ("empty", None)
