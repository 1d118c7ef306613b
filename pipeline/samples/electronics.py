"""Electronic parts: a populated board, drawn once in its own frame and then posed, and a pin header."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from pipeline.samples.fields import (
    RGB,
    Scene,
    box,
    coverage,
    mix,
    noise,
    paint,
    radius_of,
    rgb,
    smoothstep,
    spread,
    wrap,
)
from pipeline.samples.stage import backdrop_of, bevelled, compose, pose_of

GOLD: RGB = (0.92, 0.76, 0.38)
Canvas = UInt8[np.ndarray, "h w 3"]
_SHIFT = 4  # cv2 draws at sixteenths of a pixel


def _point(canvas: Canvas, x: float, y: float) -> tuple[int, int]:
    scale = canvas.shape[0] * 0.5 * (1 << _SHIFT)
    return round((x + 1) * scale), round((y + 1) * scale)


def _bytes(colour: RGB) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def _fill(canvas: Canvas, centre_xy: Sequence[float], half_xy: Sequence[float], colour: RGB) -> None:
    (x, y), (a, b) = centre_xy, half_xy
    corners = _point(canvas, x - a, y - b), _point(canvas, x + a, y + b)
    cv2.rectangle(canvas, *corners, _bytes(colour), cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _traces(canvas: Canvas, style: Generator, half_xy: Sequence[float], colour: RGB) -> None:
    """Copper runs with one bend each, ending in a via."""
    width = max(canvas.shape[0] // 128, 1)
    for _ in range(16):
        x, y = style.uniform(-0.9, 0.9) * half_xy[0], style.uniform(-0.9, 0.9) * half_xy[1]
        bend = style.uniform(-0.9, 0.9) * half_xy[0]
        last = style.uniform(-0.9, 0.9) * half_xy[1]
        run = np.asarray([_point(canvas, *at) for at in ((x, y), (bend, y), (bend, last))], np.int32)
        cv2.polylines(canvas, [run], False, _bytes(colour), width, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, _point(canvas, x, y), (width + 1) << _SHIFT, _bytes(GOLD), cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _chip(canvas: Canvas, centre_xy: Sequence[float], half_xy: Sequence[float], pins: int) -> None:
    """A black package with pins on two sides and a dot at pin one."""
    (x, y), (a, b) = centre_xy, half_xy
    for pin in range(pins):
        at = x - a + (pin + 0.5) * 2 * a / pins
        _fill(canvas, (at, y), (0.3 * a / pins, b + 0.06), (0.78, 0.79, 0.8))
    _fill(canvas, centre_xy, half_xy, (0.11, 0.11, 0.12))
    _fill(canvas, (x - 0.8 * a, y - 0.6 * b), (0.02, 0.02), (0.5, 0.5, 0.5))


def _board_drawing(size_px: int, style: Generator, half_xy: tuple[float, float]) -> Canvas:
    mask_colour = rgb(float(style.choice([0.36, 0.4, 0.6, 0.0])), 0.75, style.uniform(0.3, 0.45))
    copper = (mask_colour[0] * 1.5 + 0.06, min(mask_colour[1] * 1.45, 1.0), min(mask_colour[2] * 1.4, 1.0))
    canvas = np.full((size_px, size_px, 3), _bytes(mask_colour), np.uint8)
    _traces(canvas, style, half_xy, (min(copper[0], 1.0), copper[1], copper[2]))
    right, down = half_xy
    _chip(canvas, (-0.3 * right, -0.3 * down), (0.42 * right, 0.28 * down), int(style.integers(6, 11)))
    for _ in range(5):  # chip resistors and capacitors
        x, y = style.uniform(-0.85, 0.8) * right, style.uniform(0.25, 0.85) * down
        _fill(canvas, (x, y), (0.07, 0.03), (0.85, 0.85, 0.85))
        _fill(canvas, (x, y), (0.04, 0.03), rgb(style.uniform(0.02, 0.12), 0.4, style.uniform(0.1, 0.6)))
    x, y = 0.6 * right, -0.35 * down
    _fill(canvas, (x, y), (0.16, 0.1), (0.8, 0.8, 0.78))  # the crystal's can
    _fill(canvas, (x, y), (0.13, 0.07), (0.72, 0.72, 0.7))
    for corner_x, corner_y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        at = _point(canvas, corner_x * (right - 0.07), corner_y * (down - 0.07))
        radius = max(size_px // 64, 1) << _SHIFT
        cv2.circle(canvas, at, 2 * radius, _bytes(GOLD), cv2.FILLED, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, at, radius, (15, 15, 15), cv2.FILLED, cv2.LINE_AA, _SHIFT)
    return canvas


def board(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A small populated circuit board: the same layout in every picture of a product."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    half_xy = style.uniform(0.5, 0.6), style.uniform(0.42, 0.54)
    drawing = _board_drawing(size_px, style, half_xy)
    half = np.float32(size_px / 2)
    posed = cv2.remap(drawing, (u + 1) * half - 0.5, (v + 1) * half - 0.5, cv2.INTER_LINEAR)
    surface = posed.astype(np.float32) / 255
    light = 1.0 + 0.03 * noise(size_px, rng, size_px) + 0.08 * noise(size_px, rng, 3)
    return compose(backdrop, surface * spread(light), coverage(box(u, v, *half_xy, corner=0.03)))


def pin_header(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A black plastic header with two rows of gold pins."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    pins, length, depth = int(style.integers(5, 9)), style.uniform(0.58, 0.68), style.uniform(0.22, 0.3)
    plastic = rgb(style.uniform(), style.uniform(0.0, 0.35), style.uniform(0.16, 0.35))
    pitch = 2 * length / pins
    along = wrap(u + length + pitch / 2, pitch)
    across = np.abs(v) - depth * 0.48
    shell = box(u, v, length, depth, corner=0.03)
    notch = 0.035 - radius_of(along - pitch / 2 * np.sign(along), np.abs(v) - depth)
    shape = np.maximum(shell, notch)
    well, pin = box(along, across, pitch * 0.34, pitch * 0.34), box(along, across, pitch * 0.16, pitch * 0.16)
    base = 1.0 + bevelled(shape, 0.05, 1.2) + 0.06 * noise(size_px, rng, size_px)
    surface = paint(base * (1.0 - 0.55 * coverage(well)), plastic)
    gleam = 0.85 + 0.35 * smoothstep(along + across, pitch * 0.15, -pitch * 0.25) + rng.normal(0, 0.03)
    surface = mix(surface, paint(gleam, GOLD), coverage(pin) * (shell < -0.02))
    return compose(backdrop, surface, coverage(shape))
