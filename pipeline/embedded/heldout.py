"""Products and kinds of defects that no training sees: what the packaged model is tested on.

The products are those of the sample archive that `world.TRAINED_CATEGORIES` leaves out.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from pipeline.embedded.world import TRAINED_CATEGORIES
from pipeline.errors import InputError
from pipeline.samples import catalog
from pipeline.samples.camera import expose, shoot
from pipeline.samples.catalog import Picture, stream
from pipeline.samples.defects import Damage, on_part, spot, strokes
from pipeline.samples.fields import (
    Scene,
    fractal,
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

CATEGORIES = tuple(name for name in catalog.CATEGORIES if name not in TRAINED_CATEGORIES)
_TRIES, _CLEAR = 8, 0.07


def print_marks(scene: Scene, rng: Generator) -> Damage:
    """Letters and digits where none belong: a stamp, a pen, an ink-jet head that misfired."""
    side = scene.size_px
    canvas = np.zeros((side, side), np.uint8)
    text = "".join(rng.choice(list("ABCDEFGHKLMNPRSTXZ2345678"), int(rng.integers(2, 6))))
    scale, thick = side / 256 * rng.uniform(0.5, 1.1), max(1, round(side / 256 * rng.uniform(1, 2.4)))
    x, y = spot(scene, rng)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    at = round((x + 1) * side / 2 - wide / 2), round((y + 1) * side / 2 + high / 2)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((at[0] + wide / 2, at[1] - high / 2), rng.uniform(-60, 60), 1.0)
    turned = cv2.warpAffine(canvas, turn, (side, side)).astype(np.float32) / 255
    dark = float(scene.image.mean()) > 0.4
    colour = rgb(rng.uniform(), rng.uniform(0, 0.9), rng.uniform(0.05, 0.3) if dark else rng.uniform(0.75, 1.0))
    alpha = on_part(scene, turned * np.float32(0.9))
    return mix(scene.image, colour, alpha), alpha > 0


def corrosion(scene: Scene, rng: Generator) -> Damage:
    """Rust or mould: rough islands in several shades that eat into the surface."""
    side, radius = scene.size_px, rng.uniform(0.12, 0.3)
    u, v = frame(side, centre_xy=spot(scene, rng), scale=radius)
    field = fractal(side, rng, int(2 / radius), octaves=4, gain=0.75) - 1.2 * (radius_of(u, v) - 0.7)
    alpha = on_part(scene, smoothstep(field, 0.1, 0.5))
    hue = float((0.05, 0.07, 0.3, 0.45)[int(rng.integers(4))])
    shade = 0.45 + 0.18 * fractal(side, rng, side // 8, octaves=2)
    crust = paint(np.clip(shade + 0.5 * relief(soften(alpha, 1.0)), 0.05, 1).astype(np.float32), rgb(hue, 0.65, 0.9))
    return mix(scene.image, crust, alpha * np.float32(0.9)), alpha > 0


def bubbles(scene: Scene, rng: Generator) -> Damage:
    """Trapped air: a cluster of round blisters, each with a bright crescent and a dark one."""
    side, image = scene.size_px, scene.image
    total, centre = np.zeros_like(scene.part), np.asarray(spot(scene, rng))
    for at in centre + rng.normal(0, 0.1, (int(rng.integers(2, 8)), 2)):
        radius = rng.uniform(0.03, 0.08)
        u, v = frame(side, centre_xy=(float(at[0]), float(at[1])), scale=radius)
        body = on_part(scene, smoothstep(radius_of(u, v), 1.0, 0.85))
        tilt = (u + v) * np.float32(0.7)
        light = (-0.45 * tilt + 0.5 * np.exp(-((u + 0.4) ** 2 + (v + 0.4) ** 2) / 0.05)).astype(np.float32)
        image = mix(image, np.clip(image * spread(1 + light) + spread(0.25 * light), 0, 1), body)
        total = np.maximum(total, body)
    return image, total > 0


def fold(scene: Scene, rng: Generator) -> Damage:
    """A crease: the surface lit otherwise on both sides of a line, with a sharp ridge."""
    side, (x, y) = scene.size_px, spot(scene, rng)
    u, v = frame(side, centre_xy=(x, y), angle=rng.uniform(0, math.pi))
    line = v - rng.uniform(-0.15, 0.15) * u * u + 0.01 * noise(side, rng, 8)
    reach, length = rng.uniform(0.05, 0.12), rng.uniform(0.35, 0.7)
    within = smoothstep(np.abs(line), reach, 0.3 * reach) * smoothstep(np.abs(u), length, 0.7 * length)
    alpha = on_part(scene, within)
    light = np.sign(line).astype(np.float32) * np.float32(rng.uniform(0.25, 0.45))
    ridge = np.exp(-((line / 0.012) ** 2)).astype(np.float32) * np.float32(0.5)
    lit = np.clip(scene.image * spread(1 + light) + spread(0.15 * light + ridge), 0, 1)
    return mix(scene.image, lit, alpha), alpha > 0


def weave_snag(scene: Scene, rng: Generator) -> Damage:
    """A pulled loop of thread, or a wire end: a coil that stands off and casts a shadow."""
    side, (x, y) = scene.size_px, spot(scene, rng)
    turn = np.linspace(0, math.tau * rng.uniform(1.0, 2.5), 90)
    reach = rng.uniform(0.04, 0.1)
    drift = np.stack([np.cos(turn) + turn * 0.25, np.sin(turn)], axis=-1) * reach
    angle = rng.uniform(0, math.tau)
    turned = drift @ np.asarray([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    line = strokes(side, [turned - turned.mean(axis=0) + (x, y)], max(side * rng.uniform(0.006, 0.012), 1.2))
    offset = max(round(side * 0.015), 1)
    shade = soften(np.roll(line, (offset, offset), (0, 1)), side * 0.006)
    bright = float(scene.image.mean()) < 0.5
    colour = rgb(rng.uniform(), rng.uniform(0, 0.3), rng.uniform(0.8, 1.0) if bright else rng.uniform(0.05, 0.3))
    alpha = on_part(scene, np.maximum(line, 0.6 * shade))
    return mix(
        mix(scene.image, scene.image * np.float32(0.4), on_part(scene, shade)), colour, on_part(scene, line)
    ), alpha > 0


KINDS: dict[str, Callable[[Scene, Generator], Damage]] = {
    "print": print_marks,
    "corrosion": corrosion,
    "bubbles": bubbles,
    "fold": fold,
    "snag": weave_snag,
}


def draw(category: str, kind: str | None, *, seed: int, index: int, size_px: int) -> Picture:
    """Picture `index` of a category with a defect of a held-out kind, or without one.

    Raises:  InputError: the picture is too small for the defect to be seen.
    """
    product = catalog.CATEGORIES[category]
    key = sum(ord(letter) << (5 * at) for at, letter in enumerate(category))
    scene = product.scene(size_px, stream(seed, 31, key), stream(seed, 32, key, index))
    rng, image = stream(seed, 33, key, index), scene.image
    mask = np.zeros((size_px, size_px), np.bool_)
    if kind is not None:
        best = 0.0
        for _ in range(_TRIES):
            changed, where = KINDS[kind](scene, rng)
            clear = float(np.abs(changed[where] - scene.image[where]).mean()) if where.sum() > 20 else 0.0
            if clear > best:
                best, image, mask = clear, np.where(where[..., None], changed, scene.image), where
            if best > _CLEAR:
                break
        if not mask.any():
            raise InputError(f"{category}: expected room for a defect of kind {kind!r}, got {size_px} px a side")
    exposure = expose(size_px, stream(seed, 34, key), stream(seed, 35, key, index), grey=product.grey)
    return Picture(image=shoot(image.astype(np.float32), exposure), mask=mask)
