"""Anomaly maps as heat over their picture, on a scale that is the caller's and is printed beside it."""

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from cops.errors import ShapeError
from cops.images import to_rgb

COLOURS = "inferno"  # rises evenly in lightness, so it reads in grey print and with colour blindness
OPACITY = 0.55
OUTLINE_RGB = (0, 255, 255)  # not among the colours of the map
BAR_INCHES = 1.1
DPI = 100


def heat_overlay(
    image: Image.Image,
    anomaly_map: Float[np.ndarray, "h w"],
    *,
    vmin: float,
    vmax: float,
    level: float | None = None,
) -> Image.Image:
    """The picture under its anomaly map.

    Args:    anomaly_map: of the picture's size.   vmin, vmax: the scores at both ends of the colours; the same for
             pictures that are to be compared. What lies beyond is shown as the end.
             level: outlines the region at or above this score.
    Raises:  ShapeError: map and picture differ in size, or the scale is empty.
    """
    rgb = np.asarray(to_rgb(image))
    if anomaly_map.shape != rgb.shape[:2]:
        raise ShapeError(f"the map is {anomaly_map.shape}, the picture {rgb.shape[:2]} (height, width)")
    heat = _scale(vmin, vmax).to_rgba(anomaly_map, bytes=True)[..., :3]  # (h, w, 3)
    blended = (OPACITY * heat + (1 - OPACITY) * rgb).round().astype(np.uint8)
    if level is not None:
        blended[outline(anomaly_map >= level)] = OUTLINE_RGB
    return Image.fromarray(blended)


def outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask's inner edge, as thick as a two-hundredth of the shorter side, at least 1 px."""
    thickness = max(1, min(mask.shape) // 200)
    inner = ndimage.binary_erosion(mask, iterations=thickness, border_value=1)
    edge: np.ndarray = mask & ~inner
    return edge


def with_colour_bar(
    image: Image.Image, *, vmin: float, vmax: float, level: float | None = None, label: str = "anomaly score"
) -> Image.Image:
    """The picture with a colour bar at its right, the ends of the scale and the level marked in numbers."""
    height = max(image.height, 200)  # below that, the numbers would overlap
    figure = Figure(figsize=(BAR_INCHES, height / DPI), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    bar = figure.colorbar(_scale(vmin, vmax), cax=figure.add_axes((0.08, 0.05, 0.2, 0.9)))
    bar.set_ticks(_ticks(vmin, vmax))
    bar.set_label(label)
    if level is not None and vmin <= level <= vmax:
        bar.ax.axhline(level, color=tuple(channel / 255 for channel in OUTLINE_RGB), linewidth=2)
    canvas.draw()
    drawn: UInt8[np.ndarray, "h w 3"] = np.asarray(canvas.buffer_rgba())[..., :3]
    joined = Image.new("RGB", (image.width + drawn.shape[1], max(height, drawn.shape[0])), "white")
    joined.paste(image, (0, (joined.height - image.height) // 2))
    joined.paste(Image.fromarray(drawn), (image.width, 0))
    return joined


def _scale(vmin: float, vmax: float) -> ScalarMappable:
    if not vmin < vmax:
        raise ShapeError(f"the colour scale from {vmin} to {vmax} is empty")
    return ScalarMappable(Normalize(vmin, vmax, clip=True), mpl.colormaps[COLOURS])


def _ticks(vmin: float, vmax: float) -> list[float]:
    return [float(tick) for tick in np.linspace(vmin, vmax, 6)]
