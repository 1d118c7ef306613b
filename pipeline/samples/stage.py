"""How a part comes before the camera: the background, the part's pose, its shadow, the light on its rim."""

import math

import cv2
import numpy as np
from numpy.random import Generator

from pipeline.samples.fields import Colour, Plane, Scene, frame, mix, noise, paint, relief, rgb, smoothstep, spread


def backdrop_of(size_px: int, style: Generator, rng: Generator) -> Colour:
    """A belt, a light table or a coloured tray."""
    value = style.choice([style.uniform(0.1, 0.2), style.uniform(0.35, 0.5), style.uniform(0.8, 0.92)])
    colour = rgb(style.uniform(), float(style.choice([0.03, 0.05, 0.35])), float(value))
    cells = max(size_px // int(style.integers(1, 5)), 8)
    light = 1.0 + 0.05 * noise(size_px, rng, cells) + 0.03 * noise(size_px, rng, 4)
    return paint(light, colour)


def pose_of(size_px: int, style: Generator, rng: Generator) -> tuple[Plane, Plane]:
    """The part's own coordinates: moved and turned a little, or, for loose parts, turned at will."""
    loose, rest, scale = style.uniform() < 0.5, style.uniform(-0.4, 0.4), style.uniform(1.05, 1.25)
    angle = rng.uniform(0, math.tau) if loose else rest + rng.normal(0, 0.06)
    centre = (rng.uniform(-0.07, 0.07), rng.uniform(-0.07, 0.07))
    return frame(size_px, centre_xy=centre, angle=angle, scale=scale * rng.uniform(0.97, 1.03))


def compose(backdrop: Colour, surface: Colour, alpha: Plane) -> Scene:
    """The part laid on its background, with the soft shadow it casts."""
    size_px = alpha.shape[0]
    small = cv2.resize(alpha, (64, 64), interpolation=cv2.INTER_AREA)
    shift = np.asarray([[1, 0, 1.8], [0, 1, 1.8]], np.float32)
    blurred = cv2.GaussianBlur(cv2.warpAffine(small, shift, (64, 64)), (0, 0), 1.6)
    shadow = cv2.resize(blurred, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    ground = backdrop * spread(1.0 - 0.5 * shadow)
    return Scene(image=mix(ground, surface, alpha), part=alpha, behind=ground)


def bevelled(distance: Plane, width: float, strength: float) -> Plane:
    """Light and shade along the rim of a shape whose edge is rounded over `width`."""
    height = smoothstep(-distance, 0.0, width)
    light: Plane = strength * relief(height) * (distance.shape[0] * width * 0.5)
    return light
