"""Defects on the surface: each a function (scene, rng) → (picture, defect mask).

Outside its mask a defect leaves the picture as it was. All lie on the part; `shape_defects` holds those that change
its outline or substance.
"""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator

from pipeline.samples.fields import (
    RGB,
    Colour,
    Plane,
    Scene,
    frame,
    mix,
    noise,
    paint,
    radius_of,
    relief,
    rgb,
    smoothstep,
    soften,
    spread,
)

Mask = Bool[np.ndarray, "h w"]
Damage = tuple[Colour, Mask]

VISIBLE = 0.08  # opacity below which a defect is cut off, so that the mask holds all of it
_CROSS = np.asarray([(0, 0), (0.08, 0), (-0.08, 0), (0, 0.08), (0, -0.08)])
_SHIFT = 4  # cv2 draws at sixteenths of a pixel


def spot(scene: Scene, rng: Generator) -> tuple[float, float]:
    """A chance point on the part, in [-1, 1], rather inside it than on its very edge."""
    tries = rng.uniform(-0.85, 0.85, (64, 2))
    pixels = ((tries[:, None] + _CROSS + 1) * (scene.size_px / 2)).astype(np.int64)  # (try, arm of the cross, xy)
    on = scene.part[pixels[..., 1], pixels[..., 0]] > 0.9
    best = int(np.argmax(on[:, 0] * (1 + on.sum(axis=1))))
    if on[best, 0]:
        return float(tries[best, 0]), float(tries[best, 1])
    rows, cols = np.nonzero(scene.part >= scene.part.max())
    pick, half = int(rng.integers(rows.size)), scene.size_px / 2
    return (float(cols[pick]) + 0.5) / half - 1, (float(rows[pick]) + 0.5) / half - 1


def on_part(scene: Scene, alpha: Plane) -> Plane:
    """The opacity cut to the part, and to where it is visible."""
    alpha = alpha * (scene.part > 0.5)
    return np.where(alpha < VISIBLE, np.float32(0), alpha)


def patch(scene: Scene, rng: Generator, radius: float, *, ragged: float = 0.25, stretch: float = 1.0) -> Plane:
    """Signed distance (negative inside) from an irregular patch somewhere on the part, in units of its radius."""
    u, v = frame(scene.size_px, centre_xy=spot(scene, rng), angle=rng.uniform(0, math.pi), scale=radius)
    wobble = ragged * noise(scene.size_px, rng, int(min(max(2.2 / radius, 4), 40)))
    return radius_of(u / stretch, v * stretch) - 1.0 + wobble


def strokes(size_px: int, paths: list[Float[np.ndarray, "_ 2"]], width_px: float) -> Plane:
    """Smooth lines through the points given in [-1, 1]."""
    canvas: UInt8[np.ndarray, "h w"] = np.zeros((size_px, size_px), np.uint8)
    scale = size_px * 0.5 * (1 << _SHIFT)
    lines = [np.round((path + 1) * scale).astype(np.int32) for path in paths]
    cv2.polylines(canvas, lines, False, 255, max(round(width_px), 1), cv2.LINE_AA, _SHIFT)
    return canvas.astype(np.float32) / 255


def _bow(start: tuple[float, float], angle: float, length: float, bend: float) -> Float[np.ndarray, "n 2"]:
    """A gently bent path centred on a point."""
    t = np.linspace(-0.5, 0.5, 24)
    along, aside = t * length, bend * length * (t * t - 0.08)
    c, s = math.cos(angle), math.sin(angle)
    return np.stack([start[0] + c * along - s * aside, start[1] + s * along + c * aside], axis=-1)


def scratch(scene: Scene, rng: Generator) -> Damage:
    """One or a few parallel scores: a bright or dark groove with a raised lip beside it."""
    start, angle = spot(scene, rng), rng.uniform(0, math.pi)
    length, bend = rng.uniform(0.3, 0.9), rng.normal(0, 0.25)
    width_px = max(scene.size_px * rng.uniform(0.004, 0.011), 1.3)
    step = 7 * width_px / scene.size_px
    paths = []
    for n in range(int(rng.integers(1, 4))):
        beside = start[0] - n * step * math.sin(angle), start[1] + n * step * math.cos(angle)
        paths.append(_bow(beside, angle + rng.normal(0, 0.04), length * rng.uniform(0.6, 1.0), bend))
    groove = strokes(scene.size_px, paths, width_px) * (0.75 + 0.25 * np.tanh(noise(scene.size_px, rng, 12)))
    lip = np.roll(groove, (max(round(width_px * 0.7), 1),) * 2, (0, 1)) * (1 - groove)
    bright = float(scene.image.mean()) < 0.5 if rng.uniform() < 0.6 else rng.uniform() < 0.5
    core, edge = ((0.95, 0.95, 0.93), 0.35) if bright else ((0.12, 0.11, 0.1), 0.9)
    alpha = on_part(scene, np.maximum(0.85 * groove, 0.5 * lip))
    tint = mix(np.clip(scene.image * (0.4 + edge), 0, 1), core, (groove >= lip).astype(np.float32))
    return mix(scene.image, tint, alpha), alpha > 0


def _walk(
    start: Float[np.ndarray, "2"], angle: float, steps: int, stride: float, rng: Generator
) -> Float[np.ndarray, "n 2"]:
    """A jagged path that keeps its general direction."""
    headings = angle + rng.normal(0, 0.55, steps)
    moves = stride * rng.uniform(0.4, 1.4, (steps, 1)) * np.stack([np.cos(headings), np.sin(headings)], axis=-1)
    return np.concatenate([start[None], start + np.cumsum(moves, axis=0)])


def crack(scene: Scene, rng: Generator) -> Damage:
    """A jagged dark line that forks, fine at its ends, with a thin light edge."""
    angle, stride = rng.uniform(0, math.tau), rng.uniform(0.04, 0.07)
    trunk = _walk(np.asarray(spot(scene, rng)), angle, int(rng.integers(10, 20)), stride, rng)
    forks = []
    for _ in range(int(rng.integers(1, 4))):
        root = trunk[int(rng.integers(1, len(trunk) - 2))]
        forks.append(
            _walk(root, angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), int(rng.integers(3, 7)), stride, rng)
        )
    width_px = max(scene.size_px * rng.uniform(0.005, 0.011), 1.4)
    line = strokes(scene.size_px, [trunk, *forks], width_px * 0.6)
    line = np.maximum(line, strokes(scene.size_px, [trunk[: len(trunk) * 2 // 3]], width_px))
    light = np.roll(line, (max(round(width_px * 0.6), 1),) * 2, (0, 1)) * (1 - line)
    alpha = on_part(scene, np.maximum(0.92 * line, 0.35 * light))
    dark = np.where(line >= light, np.float32(0.2), np.float32(1.35))
    return mix(scene.image, np.clip(scene.image * spread(dark), 0.02, 1), alpha), alpha > 0


def dent(scene: Scene, rng: Generator) -> Damage:
    """A shallow hollow: shade on the side of the light, gleam on the other, what it holds drawn together."""
    size_px, radius = scene.size_px, rng.uniform(0.14, 0.32)
    inside = smoothstep(patch(scene, rng, radius, ragged=0.1, stretch=rng.uniform(0.8, 1.25)), 0.0, -0.9)
    hollow = soften(inside, size_px * 0.01)
    light = np.clip(relief(-hollow) * (radius * size_px * rng.uniform(0.07, 0.15)), -0.5, 0.5)
    down, right = np.gradient(hollow)
    pull = np.float32((radius * size_px) ** 2 * 0.035)
    x, y = np.meshgrid(np.arange(size_px, dtype=np.float32), np.arange(size_px, dtype=np.float32))
    drawn = cv2.remap(scene.image, x + pull * right, y + pull * down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    dented = np.clip(drawn * spread(1 - 0.15 * hollow + light), 0, 1)
    mask = (hollow > 0.04) & (scene.part > 0.5)
    return np.where(mask[..., None], dented, scene.image), mask


def blob(scene: Scene, rng: Generator) -> Damage:
    """A raised drop of glue, paint or solder with a highlight."""
    size_px, radius = scene.size_px, rng.uniform(0.05, 0.16)
    distance = patch(scene, rng, radius, ragged=0.12, stretch=rng.uniform(0.8, 1.25))
    alpha = on_part(scene, np.clip(-distance * (radius * size_px * 0.5) + 0.5, 0, 1) * rng.uniform(0.75, 1.0))
    height = np.sqrt(np.clip(-distance, 0, 1))
    light = 0.75 + 0.3 * height + 0.9 * np.clip(relief(soften(height, 1.0)) * radius * size_px * 0.25, -0.35, 0.5)
    colour = rgb(rng.uniform(), float(rng.choice([0.05, 0.7])), float(rng.choice([0.25, 0.8, 0.95])))
    gloss = smoothstep(relief(soften(height, size_px * 0.008)) * radius * size_px, 1.0, 2.0)
    drop = mix(paint(light, colour), (1.0, 1.0, 1.0), gloss)
    return mix(scene.image, drop, alpha), alpha > 0


def stain(scene: Scene, rng: Generator) -> Damage:
    """A dried liquid: a translucent ragged patch with a darker rim."""
    size_px, radius = scene.size_px, rng.uniform(0.14, 0.3)
    distance = patch(scene, rng, radius, ragged=0.28)
    rim = np.exp(-((distance + 0.12) ** 2) / 0.012)
    body = np.clip(-distance * (radius * size_px * 0.25) + 0.5, 0, 1)
    alpha = on_part(scene, body * (rng.uniform(0.35, 0.6) + 0.35 * rim + 0.06 * noise(size_px, rng, 12)))
    hue = rng.choice([0.07, 0.1, 0.6, 0.95])
    colour = np.asarray(rgb(float(hue), rng.uniform(0.3, 0.8), rng.uniform(0.1, 0.4)), np.float32)
    return mix(scene.image, scene.image * 0.35 + colour * 0.5, alpha), alpha > 0


def discolour(scene: Scene, rng: Generator) -> Damage:
    """A wide patch whose colour is off: burnt, bleached, rusted or tinted."""
    radius = rng.uniform(0.22, 0.45)
    distance = patch(scene, rng, radius, ragged=0.3, stretch=rng.uniform(0.75, 1.3))
    alpha = on_part(scene, smoothstep(distance, 0.15, -0.35) * rng.uniform(0.6, 0.9))
    tints: list[RGB] = [(0.5, 0.42, 0.36), (1.5, 1.5, 1.45), (0.95, 0.6, 0.38), rgb(rng.uniform(), 0.6, 1.0)]
    tint = np.asarray(tints[int(rng.integers(len(tints)))], np.float32)
    lift = 0.12 if tint.mean() > 1 else 0.0
    return mix(scene.image, np.clip(scene.image * tint + lift, 0, 1), alpha), alpha > 0


def specks(scene: Scene, rng: Generator) -> Damage:
    """A scatter of dirt grains or pits."""
    size_px = scene.size_px
    canvas: UInt8[np.ndarray, "h w"] = np.zeros((size_px, size_px), np.uint8)
    x, y = spot(scene, rng)
    spread = rng.uniform(0.08, 0.22)
    for dx, dy, size in zip(*rng.normal(0, spread, (2, 24)), rng.uniform(0.004, 0.014, 24), strict=True):
        at = [round((place + 1) * size_px * 0.5 * (1 << _SHIFT)) for place in (x + dx, y + dy)]
        cv2.circle(canvas, at, round(max(size * size_px, 0.8) * (1 << _SHIFT)), 255, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    cv2.circle(canvas, [round((place + 1) * size_px / 2) for place in (x, y)], max(size_px // 80, 1), 255, cv2.FILLED)
    alpha = on_part(scene, canvas.astype(np.float32) * (0.9 / 255))
    dark = float(scene.image.mean()) > 0.35
    colour = rgb(0.07, 0.4, rng.uniform(0.05, 0.2)) if dark else rgb(0.1, 0.1, rng.uniform(0.75, 0.95))
    return mix(scene.image, colour, alpha), alpha > 0
