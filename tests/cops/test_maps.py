"""Anomaly maps: against scipy and torch, which do the same step by step."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from cops.errors import ShapeError
from cops.maps import anomaly_map, axis_operator


def step_by_step(scores, *, image_size, size_hw, sigma_px):
    patch = image_size // scores.shape[-1]
    upsampled = scores.astype(np.float64).repeat(patch, axis=-2).repeat(patch, axis=-1)
    smoothed = np.stack([gaussian_filter(one, sigma_px) for one in upsampled])
    resized = functional.interpolate(
        torch.from_numpy(smoothed)[:, None], size=size_hw, mode="bilinear", align_corners=False
    )
    return resized[:, 0].numpy()


@settings(max_examples=30)
@given(
    grid=st.integers(1, 9),
    patch=st.integers(1, 14),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    sigma=st.sampled_from([0.5, 1.0, 4.0]),
    seed=st.integers(0, 1000),
)
def test_map_is_upsample_smooth_resize(grid, patch, height, width, sigma, seed):
    """Any grid, size and sigma: the operator is nearest, scipy's Gaussian and torch's bilinear in one."""
    scores = np.random.default_rng(seed).random((2, grid, grid), dtype=np.float32)
    options = {"image_size": grid * patch, "size_hw": (height, width), "sigma_px": sigma}
    made = anomaly_map(scores, **options)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, step_by_step(scores, **options), atol=1e-5)


def test_strips_are_the_map():
    """Rows made in strips are the rows of the whole map."""
    scores = np.random.default_rng(0).random((37, 37), dtype=np.float32)
    options = {"image_size": 518, "size_hw": (1000, 700)}
    strips = [anomaly_map(scores, rows=slice(start, start + 300), **options) for start in range(0, 1000, 300)]
    np.testing.assert_allclose(np.concatenate(strips), anomaly_map(scores, **options), atol=1e-6)


def test_part_of_an_operator_is_cut_from_the_whole():
    """Made alone, the rows are the same to the last bit: a mask does not depend on which part was made."""
    for size in (77, 112, 1000):
        whole = axis_operator(8, 112, size, 4.0)
        for part in (slice(0, 0), slice(5, 31), slice(60, size)):
            np.testing.assert_array_equal(axis_operator(8, 112, size, 4.0, part), whole[part])


def test_an_operator_is_lean():
    """The longest side that is decoded takes twice its float32 numbers and a little, not a gigabyte for 10⁶ px."""
    axis_operator(37, 518, 10, 4.0)
    tracemalloc.start()
    try:
        axis_operator(37, 518, 65_535, 4.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 65_535 * (2 * 37 * 4 + 40)


def test_leading_axes_are_kept():
    """A single grid gives a single map, a batch a batch; without a size, it is the model's."""
    assert anomaly_map(np.zeros((3, 3)), image_size=12).shape == (12, 12)
    assert anomaly_map(np.zeros((2, 3, 3)), image_size=12, size_hw=(5, 7)).shape == (2, 5, 7)
    assert anomaly_map(np.zeros((0, 3, 3)), image_size=12).shape == (0, 12, 12)


def test_constant_scores_stay_constant():
    """Smoothing and resizing are averages: a constant goes through, up to the border."""
    made = anomaly_map(np.full((4, 4), 0.3), image_size=56, size_hw=(33, 99))
    np.testing.assert_allclose(made, 0.3, atol=1e-6)


def test_operator_by_hand():
    """Without smoothing, two patches to four pixels repeat, and to two pixels of a four-pixel map stay."""
    np.testing.assert_array_equal(axis_operator(2, 4, 4, 0.0), [[1, 0], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(axis_operator(2, 4, 2, 0.0), [[1, 0], [0, 1]])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 3), (0, 0)])
def test_other_shapes_are_refused(shape):
    """Scores that are no square grid are named."""
    with pytest.raises(ShapeError, match="patch scores"):
        anomaly_map(np.zeros(shape), image_size=12)


def test_impossible_sizes_are_refused():
    """No pixels, or more patches than pixels."""
    with pytest.raises(ShapeError, match="to 0 px"):
        anomaly_map(np.zeros((3, 3)), image_size=12, size_hw=(0, 4))
    with pytest.raises(ShapeError, match="13 patches"):
        axis_operator(13, 12, 12, 4.0)
