"""Anomaly maps from patch scores. NumPy alone: no model, no torch.

Nearest upsampling, Gaussian smoothing and bilinear resizing are linear and work on rows and columns apart. The map is
thus A_h · s · A_wᵀ, with one small operator per axis; it carries no more than its g×g scores.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from cops.errors import ShapeError

TRUNCATE_SIGMAS = 4.0  # scipy's default, which the published code uses


def anomaly_map(
    patch_scores: ArrayLike,
    *,
    image_size: int,
    size_hw: tuple[int, int] | None = None,
    sigma_px: float = 4.0,
    rows: slice | None = None,
) -> Float32[np.ndarray, "*b h w"]:
    """The full-size anomaly map that patch scores stand for.

    Args:    patch_scores: (g, g) or (b, g, g), in [0, 1]; leading axes are kept.   image_size: the model's side S, px.
             size_hw: output (height, width), px; S×S where None.   sigma_px: smoothing, px of the S×S map.
             rows: only this strip of the output's rows, so that a picture of 100 megapixels needs no map of them.
    Returns: float32 in [0, 1], higher is more anomalous.
    Raises:  ShapeError: the scores are no square grid, or a size is not above 0.
    Source:  the published test code; beyond the S×S map, resized bilinearly without antialias.
    """
    scores = np.asarray(patch_scores, dtype=np.float32)
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2] or scores.shape[-1] == 0:
        raise ShapeError(f"patch scores must be (g, g) or (b, g, g), not {scores.shape}")
    height, width = size_hw or (image_size, image_size)
    grid = scores.shape[-1]
    vertical = axis_operator(grid, image_size, height, sigma_px, rows)
    horizontal = axis_operator(grid, image_size, width, sigma_px)
    full_size: np.ndarray = vertical @ scores @ horizontal.T
    return full_size


def axis_operator(
    grid: int, image_size: int, size: int, sigma_px: float, part: slice | None = None
) -> Float32[np.ndarray, "n grid"]:
    """What takes `grid` patch scores along one axis to `size` pixels of the smoothed map; or to a part of them.

    It takes 4 bytes a pixel and patch, and twice that while it is made. Read-only where it is shared.
    Raises:  ShapeError: a size is not above 0, σ is below 0, or there are more patches than pixels.
    """
    if min(grid, image_size, size) < 1 or not 0 <= sigma_px < np.inf or grid > image_size:
        raise ShapeError(f"no map from {grid} patches, {image_size} px, to {size} px with sigma {sigma_px} px")
    return _resize_rows(_smoothed_patches(grid, image_size, sigma_px), size, part or slice(None))


@lru_cache(maxsize=8)
def _smoothed_patches(grid: int, image_size: int, sigma_px: float) -> Float32[np.ndarray, "s grid"]:
    """Each patch's share in each pixel of the S×S map's axis: what pictures of all sizes have in common."""
    patch_of_pixel = np.arange(image_size) * grid // image_size
    nearest = (patch_of_pixel[:, None] == np.arange(grid)).astype(np.float64)
    smoothed = _smooth_rows(nearest, sigma_px).astype(np.float32)
    smoothed.flags.writeable = False
    return smoothed


def _smooth_rows(columns: Float64[np.ndarray, "s g"], sigma_px: float) -> Float64[np.ndarray, "s g"]:
    """Gaussian along the first axis; the border is mirrored about the edge of the outer pixel."""
    if sigma_px == 0:
        return columns
    size = len(columns)
    radius = int(TRUNCATE_SIGMAS * sigma_px + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights /= weights.sum()
    smoothed = np.zeros_like(columns)
    for offset, weight in zip(offsets, weights, strict=True):
        place = (np.arange(size) + offset) % (2 * size)
        smoothed += weight * columns[np.minimum(place, 2 * size - 1 - place)]
    return smoothed


def _resize_rows(columns: Float32[np.ndarray, "s g"], size: int, part: slice) -> Float32[np.ndarray, "n g"]:
    """Bilinear along the first axis, or a part of it: pixel centres aligned, no antialias (`align_corners=False`)."""
    source = len(columns)
    if source == size:
        return columns[part]
    place = np.clip((np.arange(size)[part] + 0.5) * source / size - 0.5, 0, source - 1)
    below = np.floor(place).astype(np.intp)
    share = (place - below).astype(np.float32)[:, None]
    resized: np.ndarray = columns[below]
    resized *= 1 - share
    above = columns[np.minimum(below + 1, source - 1)]
    above *= share
    resized += above
    return resized
