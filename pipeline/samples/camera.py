"""What the camera makes of a scene: uneven light, colour cast, blur, noise, 8 bits."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from pipeline.samples.fields import Colour, Plane, frame, noise, paint, white

BLUR_REACH_PX = 3  # how far the lens carries a change beyond its place


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """One shot's light and sensor, drawn beforehand so that a picture and its defect-free twin can share it."""

    light: Plane
    cast: tuple[float, float, float]
    sigma_px: float
    grain: Colour | Plane
    grey: bool


def expose(size_px: int, style: Generator, rng: Generator, *, grey: bool) -> Exposure:
    """The light and noise of one shot: the line's lamp and lens (`style`), and their drift (`rng`)."""
    lamp, tilt = style.uniform(0, math.tau), style.uniform(0.02, 0.22)
    vignette, grain = style.uniform(0.0, 0.28), style.uniform(0.006, 0.022)
    lens_px, warmth = style.uniform(0.35, 0.75), style.normal(0, 0.025)
    u, v = frame(size_px, angle=lamp + rng.normal(0, 0.25))
    light = rng.normal(1.0, 0.03) + tilt * u - vignette * 0.5 * (u * u + v * v) + 0.015 * noise(size_px, rng, 3)
    shape = (size_px, size_px) if grey else (size_px, size_px, 3)
    return Exposure(
        light=light,
        cast=(1.0 + warmth, 1.0, 1.0 - warmth),
        sigma_px=lens_px * rng.uniform(0.9, 1.1),
        grain=white(rng, *shape) * np.float32(grain),
        grey=grey,
    )


def shoot(image: Colour, exposure: Exposure) -> UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w"]:
    """The picture: grey (h, w) or colour (h, w, 3)."""
    if exposure.grey:
        lit: Colour | Plane = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) * exposure.light
    else:
        lit = image * paint(exposure.light, exposure.cast)
    side = 2 * BLUR_REACH_PX + 1
    sharp = cv2.GaussianBlur(np.clip(lit, 0.0, 1.0), (side, side), exposure.sigma_px)
    noisy = sharp + exposure.grain * (0.5 + np.sqrt(sharp))
    picture: UInt8[np.ndarray, "h w *c"] = (np.clip(noisy, 0.0, 1.0) * np.float32(255) + np.float32(0.5)).astype(
        np.uint8
    )
    return picture
