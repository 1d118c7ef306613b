"""Surfaces that fill the picture: each a function of the product's style and of the one picture's chance.

`style` draws what all pictures of a product share (colour, pitch, pattern), always in the same order from the same
seed; `rng` draws what differs from picture to picture.
"""

import math

import numpy as np
from numpy.random import Generator

from pipeline.samples.fields import (
    RGB,
    Colour,
    Plane,
    Scene,
    fractal,
    frame,
    mix,
    noise,
    paint,
    pebbles,
    relief,
    rgb,
    smoothstep,
    soften,
    spread,
    wrap,
)


def _surface(image: Colour, backing: RGB = (0.08, 0.08, 0.09)) -> Scene:
    size_px = image.shape[0]
    behind = np.broadcast_to(np.asarray(backing, np.float32), image.shape)
    return Scene(image=image, part=np.ones((size_px, size_px), np.float32), behind=behind)


def _turned_px(size_px: int, rng: Generator, *, tilt: float = 0.05) -> tuple[Plane, Plane]:
    """Pixel coordinates that start anywhere and are turned a little, as a sheet lies a little askew."""
    u, v = frame(size_px, angle=rng.uniform(-tilt, tilt))
    half = size_px / 2
    return u * half + rng.uniform(1000, 2000), v * half + rng.uniform(1000, 2000)


def woven(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Plain-weave cloth of two yarns."""
    pitch = max(size_px * style.uniform(0.025, 0.05), 4.0)
    hue, saturation = style.uniform(), style.uniform(0.1, 0.5)
    warp_yarn = rgb(hue, saturation, style.uniform(0.55, 0.85))
    weft_yarn = rgb(hue + style.normal(0, 0.04), saturation * 0.8, style.uniform(0.45, 0.8))
    u, v = _turned_px(size_px, rng)
    sway = 0.12 * pitch * noise(size_px, rng, 6)
    a, b = (u + sway) / pitch, (v - sway) / pitch
    across, along = np.floor(a), np.floor(b)
    da, db = a - across - 0.5, b - along - 0.5
    over = wrap(across + along, 2.0) == 0
    height = np.where(over, (1 - 3.2 * da * da) * (1 - 1.6 * db * db), (1 - 3.2 * db * db) * (1 - 1.6 * da * da))
    yarn = rng.normal(0, 0.05, 257).astype(np.float32)
    thread = np.where(over, across, along + 100).astype(np.int64) % 257
    light = 0.35 + 0.62 * height + yarn[thread] + 0.05 * noise(size_px, rng, size_px)
    return _surface(mix(paint(light, weft_yarn), paint(light, warp_yarn), over.astype(np.float32)))


def wood(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Sawn wood with year rings and pores along the grain."""
    hue, pale = style.uniform(0.06, 0.1), style.uniform(0.65, 0.9)
    early, late = rgb(hue, style.uniform(0.35, 0.55), pale), rgb(hue - 0.01, 0.65, pale * style.uniform(0.55, 0.75))
    rings, wave = style.uniform(5, 11), style.uniform(0.08, 0.2)
    u, v = frame(size_px, angle=rng.uniform(-0.06, 0.06))
    bend = wave * fractal(size_px, rng, (2, 3), octaves=3)
    depth = rings * (u + bend + rng.uniform(0.1, 0.4) * v * v * u + rng.uniform(0, 9))
    ring = depth - np.floor(depth)
    late_wood = smoothstep(ring, 0.2, 0.95) * smoothstep(ring, 1.0, 0.95)
    fibre = noise(size_px, rng, (max(size_px // 24, 3), size_px))
    pores = smoothstep(noise(size_px, rng, (size_px // 10, size_px)), 1.2, 2.4)
    light = 1.0 + 0.05 * fibre - 0.28 * pores + 0.05 * noise(size_px, rng, 3)
    return _surface(mix(paint(light, early), paint(light, late), 0.8 * late_wood + 0.06 * fibre), (0.12, 0.08, 0.05))


def brushed_metal(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Brushed sheet with a broad sheen across the brush strokes."""
    base, strength = style.uniform(0.45, 0.65), style.uniform(0.04, 0.08)
    colour = rgb(style.uniform(0.05, 0.65), style.uniform(0.0, 0.08), 1.0)
    _, v = frame(size_px, angle=rng.uniform(-0.2, 0.2))
    strokes = noise(size_px, rng, (size_px, 5)) + 0.6 * noise(size_px, rng, (size_px, 24))
    sheen = 0.16 * np.exp(-((v - rng.uniform(-0.5, 0.5)) ** 2) / 0.25)
    return _surface(paint(base + strength * strokes + sheen, colour), (0.05, 0.05, 0.05))


def leather(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Grained leather: rounded pebbles with creases between."""
    spacing = max(size_px * style.uniform(0.035, 0.07), 5.0)
    colour = rgb(style.uniform(0.0, 0.11), style.uniform(0.4, 0.75), style.uniform(0.35, 0.75))
    distance, number = pebbles(size_px, rng, spacing)
    dome = soften(1.0 - smoothstep(distance, 0.15, 0.75), spacing * 0.08)
    tone = rng.normal(0, 0.04, 4096).astype(np.float32)[number % 4096]
    wrinkle = np.abs(noise(size_px, rng, 7))
    height = dome + 0.5 * np.minimum(wrinkle, 0.4)
    light = 0.62 + 0.3 * dome + 0.9 * relief(height) * spacing * 0.2 + tone + 0.03 * noise(size_px, rng, size_px)
    return _surface(paint(light, colour), (0.3, 0.24, 0.18))


def tiles(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Glazed mosaic tiles with grout."""
    pitch = size_px / int(style.integers(3, 7))
    glaze = rgb(style.uniform(), style.uniform(0.1, 0.55), style.uniform(0.6, 0.9))
    grout = rgb(0.1, 0.06, style.uniform(0.45, 0.8))
    joint, bond = style.uniform(0.025, 0.05) * pitch, float(style.choice([0.0, 0.5]))
    u, v = _turned_px(size_px, rng, tilt=0.03)
    row = np.floor(v / pitch)
    a = u / pitch + bond * np.abs(wrap(row, 2.0))
    col = np.floor(a)
    edge = np.minimum(0.5 - np.abs(a - col - 0.5), 0.5 - np.abs(v / pitch - row - 0.5)) * pitch - joint
    tone = rng.normal(0, 0.05, 1009).astype(np.float32)[(row * 37 + col).astype(np.int64) % 1009]
    height = np.clip(edge / max(pitch * 0.05, 1.5), 0.0, 1.0)
    light = 0.9 + tone + 0.35 * relief(height) + 0.035 * fractal(size_px, rng, 5, octaves=3)
    sand = 1.0 + 0.09 * noise(size_px, rng, size_px)
    return _surface(mix(paint(sand, grout), paint(light, glaze), np.clip(edge, 0.0, 1.0)), grout)


def mesh(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Welded wire mesh over a dark ground."""
    pitch = max(size_px * style.uniform(0.06, 0.11), 7.0)
    radius = pitch * style.uniform(0.16, 0.24)
    bright = style.uniform(0.65, 0.9)
    u, v = _turned_px(size_px, rng, tilt=0.3 if style.uniform() < 0.4 else 0.05)
    sway = 0.04 * pitch * noise(size_px, rng, 9)
    a, b = wrap(u + sway, pitch), wrap(v + sway, pitch)
    grain = 0.04 * noise(size_px, rng, size_px)
    upright = bright * np.sqrt(np.clip(1.0 - ((a + 0.25 * radius) / (1.3 * radius)) ** 2, 0.05, 1.0))
    lying = bright * np.sqrt(np.clip(1.0 - ((b + 0.25 * radius) / (1.3 * radius)) ** 2, 0.05, 1.0))
    ground = 0.13 + 0.025 * noise(size_px, rng, 4) + grain
    light = ground + (0.85 * lying - ground) * np.clip(radius - np.abs(b) + 0.5, 0.0, 1.0)
    light = light + (upright - light) * np.clip(radius - np.abs(a) + 0.5, 0.0, 1.0)
    return _surface(paint(light + grain, (1.0, 1.0, 1.0)), (0.13, 0.13, 0.13))


def carpet(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Loop-pile carpet in a mottled yarn."""
    spacing = max(size_px * style.uniform(0.018, 0.03), 3.5)
    hue, saturation = style.uniform(), style.uniform(0.1, 0.5)
    first = rgb(hue, saturation, style.uniform(0.4, 0.7))
    second = rgb(hue + style.uniform(-0.1, 0.1), saturation, style.uniform(0.2, 0.5))
    distance, number = pebbles(size_px, rng, spacing)
    blend = np.clip(rng.normal(0.35, 0.3, 8192), 0, 1).astype(np.float32)[number % 8192]
    fuzz = noise(size_px, rng, size_px)
    light = 1.15 - 0.75 * distance + 0.09 * fuzz + 0.06 * noise(size_px, rng, 5)
    return _surface(mix(paint(light, first), paint(light, second), blend), (0.35, 0.3, 0.24))


def marble(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Polished stone with veins."""
    dark = style.uniform() < 0.35
    ground = rgb(style.uniform(), style.uniform(0.01, 0.09), style.uniform(0.16, 0.3) if dark else 0.88)
    vein = rgb(style.uniform(0.05, 0.6), 0.15, style.uniform(0.7, 0.9) if dark else style.uniform(0.3, 0.5))
    slant = style.uniform(0, math.pi)
    u, _ = frame(size_px, angle=slant + rng.normal(0, 0.1))
    flow = u + 0.35 * fractal(size_px, rng, 3, octaves=5, gain=0.55) + rng.uniform(0, 5)
    strong = np.exp(-np.abs(np.sin(flow * 3.1)) * 9.0)
    fine = np.exp(-np.abs(np.sin(flow * 8.3 + noise(size_px, rng, 5))) * 14.0)
    cloud = fractal(size_px, rng, 4, octaves=3)
    light = 1.0 + 0.05 * cloud + 0.012 * noise(size_px, rng, size_px)
    alpha = np.clip((0.7 * strong + 0.35 * fine) * (0.7 + 0.4 * cloud), 0.0, 0.9)
    return _surface(mix(paint(light, ground), vein, alpha))


def terrazzo(size_px: int, style: Generator, rng: Generator) -> Scene:
    """Stone chips of several colours in a polished binder."""
    spacing = max(size_px * style.uniform(0.05, 0.09), 7.0)
    binder = rgb(style.uniform(), 0.08, style.uniform(0.55, 0.85))
    hue = style.uniform()
    stones = [rgb(hue + style.normal(0, 0.12), style.uniform(0.05, 0.45), style.uniform(0.2, 0.95)) for _ in range(5)]
    distance, number = pebbles(size_px, rng, spacing)
    palette = np.asarray(stones, np.float32)[rng.integers(0, 5, 4096)]
    reach = rng.uniform(0.12, 0.5, 4096).astype(np.float32)
    chip = number % 4096
    ragged = distance + 0.06 * noise(size_px, rng, size_px // 5)
    inside = np.clip((reach[chip] - ragged) * spacing + 0.5, 0.0, 1.0)
    speckle = 1.0 + 0.05 * noise(size_px, rng, size_px) + 0.03 * noise(size_px, rng, size_px // 3)
    return _surface(mix(paint(speckle, binder), palette[chip] * spread(speckle), inside), (0.3, 0.28, 0.26))
