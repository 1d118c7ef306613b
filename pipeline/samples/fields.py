"""The drawing kit of the sample pictures: coordinates, noise, relief, colour, distance fields.

Planes are float32 (h, w), colours float32 (h, w, 3) in [0, 1]; pictures are square. Coordinates run from -1 to 1
over the picture, so that a scene looks alike at every size.
"""

import colorsys
import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator
from scipy.special import ndtri

Plane = Float[np.ndarray, "h w"]
Colour = Float[np.ndarray, "h w 3"]
RGB = tuple[float, float, float]

_NORMAL = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
LIGHT_ANGLE = math.radians(225)  # light falls from the upper left in every scene


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A defect-free subject before the camera sees it.

    Args:    image: the subject.   part: 1 where the part is, 0 beside it; all ones for a surface.
             behind: what shows where a piece of the part is gone.
    """

    image: Colour
    part: Plane
    behind: Colour

    @property
    def size_px(self) -> int:
        return int(self.part.shape[0])


@cache
def _axis(size_px: int) -> Float[np.ndarray, " n"]:
    axis = ((np.arange(size_px, dtype=np.float32) + 0.5) * (2.0 / size_px) - 1.0).astype(np.float32)
    axis.flags.writeable = False
    return axis


def frame(
    size_px: int, *, centre_xy: tuple[float, float] = (0.0, 0.0), angle: float = 0.0, scale: float = 1.0
) -> tuple[Plane, Plane]:
    """The two coordinates of every pixel in a frame that is moved, turned and scaled."""
    axis = _axis(size_px)
    x, y = axis[None, :] - centre_xy[0], axis[:, None] - centre_xy[1]
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    return c * x + s * y, c * y - s * x


def white(rng: Generator, *shape: int) -> Float[np.ndarray, "..."]:
    """Normal noise in 65,536 steps, which takes a third of the time that exact normal numbers do."""
    values: Float[np.ndarray, ...] = _NORMAL.take(np.frombuffer(rng.bytes(2 * math.prod(shape)), "<u2")).reshape(shape)
    return values


def radius_of(u: Plane, v: Plane) -> Plane:
    """The distance from the origin (np.hypot takes six times as long)."""
    radius: Plane = np.sqrt(u * u + v * v)
    return radius


def wrap(plane: Plane, period: float) -> Plane:
    """Every value brought into one period around 0 (np.mod takes fifty times as long)."""
    turns = plane * (1.0 / period)
    return (turns - np.floor(turns + 0.5)) * np.float32(period)


def noise(size_px: int, rng: Generator, cells: int | tuple[int, int]) -> Plane:
    """Smooth normal noise with so many independent cells down and across the picture, at most one a pixel."""
    rows, cols = (cells, cells) if isinstance(cells, int) else cells
    grid = white(rng, min(max(rows, 2), size_px), min(max(cols, 2), size_px))
    if grid.shape == (size_px, size_px):
        return grid
    return cv2.resize(grid, (size_px, size_px), interpolation=cv2.INTER_CUBIC)


def fractal(
    size_px: int, rng: Generator, cells: int | tuple[int, int], *, octaves: int = 4, gain: float = 0.5
) -> Plane:
    """Noise of several scales, each twice as fine and `gain` as strong as the one before; of about unit variance."""
    rows, cols = (cells, cells) if isinstance(cells, int) else cells
    total = noise(size_px, rng, (rows, cols))
    for octave in range(1, octaves):
        total = total + gain**octave * noise(size_px, rng, (rows << octave, cols << octave))
    return total / np.float32(math.sqrt(sum(gain ** (2 * octave) for octave in range(octaves))))


def pebbles(size_px: int, rng: Generator, spacing_px: float) -> tuple[Plane, Int[np.ndarray, "h w"]]:
    """The distance of every pixel from the nearest of many scattered points, in spacings, and that point's number."""
    count = math.ceil(size_px / spacing_px) + 1
    steps = np.arange(count) * spacing_px
    rows = (steps[:, None] + rng.uniform(-0.42, 0.42, (count, count)) * spacing_px).ravel()
    cols = (steps[None, :] + rng.uniform(-0.42, 0.42, (count, count)) * spacing_px).ravel()
    rows, cols = rows.astype(np.int64), cols.astype(np.int64)
    inside = (rows >= 0) & (rows < size_px) & (cols >= 0) & (cols < size_px)
    canvas = np.full((size_px, size_px), 255, np.uint8)
    canvas[rows[inside], cols[inside]] = 0
    distance, number = cv2.distanceTransformWithLabels(canvas, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return distance / np.float32(spacing_px), number


def relief(height: Plane, *, angle: float = LIGHT_ANGLE) -> Plane:
    """How much more light each pixel of a height map catches than flat ground does; about the slope per pixel."""
    down = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    right = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    return -(math.cos(angle) * right + math.sin(angle) * down)


def soften(plane: Plane, sigma_px: float) -> Plane:
    return cv2.GaussianBlur(plane, (0, 0), max(sigma_px, 0.3))


def smoothstep(plane: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, smooth between; falls instead of rising where `low` is the larger."""
    t = np.clip((plane - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def coverage(distance: Plane, scale: float = 1.0) -> Plane:
    """How much of each pixel lies inside a shape, from the shape's signed distance field (negative inside)."""
    covered: Plane = np.clip(0.5 - distance * (distance.shape[0] * 0.5 * scale), 0.0, 1.0)
    return covered


def disc(u: Plane, v: Plane, radius: float) -> Plane:
    return radius_of(u, v) - radius


def box(u: Plane, v: Plane, half_width: float, half_height: float, *, corner: float = 0.0) -> Plane:
    """The signed distance from a rectangle with rounded corners."""
    right, down = np.abs(u) - (half_width - corner), np.abs(v) - (half_height - corner)
    outside = radius_of(np.maximum(right, 0.0), np.maximum(down, 0.0))
    distance: Plane = outside + np.minimum(np.maximum(right, down), 0.0) - corner
    return distance


def polygon(u: Plane, v: Plane, sides: int, apothem: float) -> Plane:
    """The signed distance from a regular polygon (exact inside, close enough near its edge)."""
    folded = wrap(np.arctan2(v, u), math.tau / sides)
    distance: Plane = radius_of(u, v) * np.cos(folded) - apothem
    return distance


def rgb(hue: float, saturation: float, value: float) -> RGB:
    """A colour from hue (any number: it wraps), saturation and value."""
    clip = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return colorsys.hsv_to_rgb(hue % 1.0, *clip)


def spread(plane: Plane) -> Colour:
    """The plane three times over: contiguous factors for colours, which numpy's broadcasting is ten times slower at."""
    return cv2.merge((plane, plane, plane))


def paint(brightness: Plane, colour: RGB) -> Colour:
    """A plane of brightness in one colour."""
    red, green, blue = colour
    return cv2.merge((brightness * np.float32(red), brightness * np.float32(green), brightness * np.float32(blue)))


def flat(size_px: int, colour: RGB) -> Colour:
    """A picture of one colour."""
    return paint(np.ones((size_px, size_px), np.float32), colour)


def mix(below: Colour, above: Colour | RGB, alpha: Plane) -> Colour:
    """`above` laid over `below` with an opacity for every pixel."""
    top = flat(alpha.shape[0], above) if isinstance(above, tuple) else above
    mixed: Colour = below + (top - below) * spread(alpha)
    return mixed
