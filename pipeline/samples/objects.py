"""Parts on a background: fasteners, gears, tablets, caps, biscuits, electronics; seen from above.

`style` draws what all pictures of a product share (proportions, colours, whether the parts lie aligned or loose);
`rng` draws what differs from picture to picture (pose, grain, grime).
"""

import math

import numpy as np
from numpy.random import Generator

from pipeline.samples.fields import (
    RGB,
    Scene,
    box,
    coverage,
    disc,
    fractal,
    mix,
    noise,
    paint,
    polygon,
    radius_of,
    relief,
    rgb,
    smoothstep,
    wrap,
)
from pipeline.samples.stage import backdrop_of, bevelled, compose, pose_of

STEEL: RGB = (0.97, 0.99, 1.0)


def nut(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A hexagon nut with a chamfer and a threaded bore."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    apothem, bore, base = style.uniform(0.48, 0.58), style.uniform(0.24, 0.32), style.uniform(0.55, 0.75)
    radius = radius_of(u, v)
    outline = polygon(u, v, 6, apothem)
    chamfer = smoothstep(radius, apothem * 1.12, apothem * 1.02)
    turned = rng.normal(0, 1, 512).astype(np.float32)[np.minimum(radius * 300, 511).astype(np.int64)]
    light = (
        base - 0.16 * (1 - chamfer) + 0.03 * turned + bevelled(outline, 0.06, 0.5) + bevelled(bore - radius, 0.05, 0.5)
    )
    light = light + 0.05 * noise(size_px, rng, 3) + 0.02 * noise(size_px, rng, size_px)
    thread = (0.3 + 0.25 * np.sin(radius * 190)) * smoothstep(radius, bore * 0.72, bore * 0.82)
    light = np.where(radius < bore, thread, light)
    alpha = coverage(np.maximum(outline, bore * 0.74 - radius))
    return compose(backdrop, paint(light, STEEL), alpha)


def washer(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A turned washer with rings of tool marks and a conical sheen."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    outer, inner, base = style.uniform(0.55, 0.68), style.uniform(0.24, 0.36), style.uniform(0.5, 0.65)
    colour = (1.0, style.uniform(0.8, 0.98), style.uniform(0.55, 0.98))
    radius, bearing = radius_of(u, v), np.arctan2(v, u)
    marks = rng.normal(0, 1, 512).astype(np.float32)[np.minimum(radius * 360, 511).astype(np.int64)]
    sheen = 0.13 * np.cos(2 * (bearing - rng.uniform(0, math.pi)))
    rim = bevelled(np.maximum(radius - outer, inner - radius), 0.04, 0.5)
    light = base + 0.05 * marks + sheen + rim + 0.02 * noise(size_px, rng, size_px)
    return compose(backdrop, paint(light, colour), coverage(np.maximum(radius - outer, inner - radius)))


def bolt(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A hexagon bolt lying on its side."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    shank, length, head = style.uniform(0.12, 0.18), style.uniform(0.52, 0.62), style.uniform(0.26, 0.33)
    pitch, base = style.uniform(0.05, 0.08), style.uniform(0.6, 0.8)
    colour = (1.0, style.uniform(0.85, 0.99), style.uniform(0.65, 1.0))
    top = -length
    head_part = box(u, v - (top + 0.12), head, 0.12, corner=0.03)
    body = box(u, v - (length + top) / 2 - 0.1, shank, length - 0.1, corner=0.04)
    threaded = smoothstep(v, -0.12, -0.06)
    turn = np.sin((v + u * 0.12) * (math.tau / pitch))
    body = body - 0.012 * turn * threaded
    round_off = np.sqrt(np.clip(1.0 - (u / (shank * 1.15)) ** 2, 0.05, 1.0)) * (1.0 - 0.35 * smoothstep(u, 0.0, shank))
    shaft = base * round_off * (1.0 + 0.35 * turn * threaded)
    facet = np.where(np.abs(u) < head * 0.5, np.float32(1.0), np.where(u < 0, np.float32(0.82), np.float32(0.6)))
    light = np.where(head_part < 0, base * facet + bevelled(head_part, 0.05, 0.35), shaft)
    light = light + 0.03 * noise(size_px, rng, size_px) + 0.04 * noise(size_px, rng, 6)
    return compose(backdrop, paint(light, colour), coverage(np.minimum(head_part, body)))


def gear(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A spur gear with a bore and lightening holes."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    teeth, holes = int(style.integers(14, 28)), int(style.integers(3, 7))
    brass, base = style.uniform() < 0.4, style.uniform(0.5, 0.7)
    radius, bearing = radius_of(u, v), np.arctan2(v, u)
    flank = np.clip(1.6 * np.sin(teeth * bearing), -1.0, 1.0)
    outline = radius - (0.62 + 0.05 * flank)
    folded = wrap(bearing, math.tau / holes)
    hole = 0.1 - radius_of(radius * np.cos(folded) - 0.36, radius * np.sin(folded))
    shape = np.maximum(np.maximum(outline, hole), 0.14 - radius)
    hub = 0.12 * smoothstep(radius, 0.24, 0.22) - 0.08 * smoothstep(radius, 0.47, 0.49) * smoothstep(radius, 0.56, 0.54)
    light = (
        base + hub + bevelled(shape, 0.04, 0.5) + 0.05 * fractal(size_px, rng, 8) + 0.02 * noise(size_px, rng, size_px)
    )
    return compose(backdrop, paint(light, (1.15, 0.95, 0.5) if brass else STEEL), coverage(shape))


def tablet(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A pressed tablet with a break line."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    across, along = style.uniform(0.48, 0.6), style.uniform(0.38, 0.6)
    colour = rgb(style.uniform(), style.uniform(0.0, 0.3), style.uniform(0.85, 0.97))
    speckles, cross = style.uniform(0.0, 0.2), style.uniform() < 0.3
    shape = (radius_of(u / across, v / along) - 1.0) * min(across, along)
    groove = np.minimum(np.abs(u), np.abs(v)) if cross else np.abs(u)
    cut = smoothstep(groove, 0.045, 0.0) * smoothstep(shape, -0.06, -0.1)
    height = smoothstep(-shape, 0.0, 0.16) - 0.35 * cut
    grain = fractal(size_px, rng, size_px // 6, octaves=3)
    light = 0.9 + 0.35 * relief(height) * size_px * 0.06 - 0.12 * cut + 0.022 * grain
    light = light - speckles * smoothstep(noise(size_px, rng, size_px // 2), 1.8, 2.4)
    return compose(backdrop, paint(light, colour), coverage(shape))


def capsule(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A two-coloured gelatine capsule."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    length, radius = style.uniform(0.34, 0.44), style.uniform(0.2, 0.27)
    hue = style.uniform()
    cap, body = (
        rgb(hue, style.uniform(0.5, 0.9), 0.8),
        rgb(hue + style.uniform(0.2, 0.8), style.uniform(0.05, 0.8), 0.9),
    )
    seam = u - style.uniform(-0.1, 0.1)
    wide = np.where(seam < 0, np.float32(radius), np.float32(0.94 * radius))
    shape = radius_of(np.maximum(np.abs(u) - length, 0.0), v) - wide
    bulge = np.sqrt(np.clip(1.0 - ((shape + wide) / wide) ** 2, 0.0, 1.0))
    light = 0.5 + 0.5 * bulge - 0.2 * v / radius
    light = light - 0.22 * np.exp(-((seam / 0.014) ** 2)) + 0.012 * noise(size_px, rng, size_px)
    gloss = np.exp(-(((v + 0.45 * radius) / (0.16 * radius)) ** 2)) * smoothstep(np.abs(u), length * 1.1, length * 0.9)
    colour = mix(paint(light, body), paint(light, cap), coverage(seam))
    return compose(backdrop, mix(colour, (1.0, 1.0, 1.0), 0.55 * gloss), coverage(shape))


def bottle_top(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A crown cap: crimped rim, printed disc."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    hue, points = style.uniform(), int(style.integers(3, 9))
    field, print_colour = rgb(hue, style.uniform(0.5, 0.95), style.uniform(0.45, 0.85)), rgb(hue + 0.5, 0.15, 0.95)
    radius, bearing = radius_of(u, v), np.arctan2(v, u)
    crimp = np.cos(21 * bearing)
    shape = radius - (0.62 + 0.028 * crimp)
    skirt = smoothstep(radius, 0.46, 0.52)
    falling = np.cos(bearing - math.radians(225))
    light = 0.85 + skirt * (0.22 * crimp + 0.22 * falling - 0.15) + 0.05 * noise(size_px, rng, 4)
    light = light + 0.15 * np.exp(-(((radius - 0.48) / 0.02) ** 2)) + 0.012 * noise(size_px, rng, size_px)
    star = radius * (1.0 + 0.35 * np.cos(points * bearing)) - 0.26
    logo = np.maximum(coverage(star), coverage(np.abs(radius - 0.4) - 0.015))
    return compose(backdrop, mix(paint(light, field), paint(light, print_colour), logo), coverage(shape))


def biscuit(size_px: int, style: Generator, rng: Generator) -> Scene:
    """A baked biscuit with a scalloped edge and docker holes."""
    backdrop = backdrop_of(size_px, style, rng)
    u, v = pose_of(size_px, style, rng)
    round_one, waves = style.uniform() < 0.5, int(style.integers(18, 30))
    pale = rgb(style.uniform(0.08, 0.11), style.uniform(0.4, 0.6), style.uniform(0.78, 0.9))
    bearing = np.arctan2(v, u)
    outline = disc(u, v, 0.6) if round_one else box(u, v, 0.57, style.uniform(0.4, 0.52), corner=0.1)
    shape = outline - 0.018 * np.cos(waves * bearing) + 0.008 * noise(size_px, rng, 10)
    pitch = style.uniform(0.16, 0.24)
    docker = radius_of(wrap(u, pitch), wrap(v, pitch))
    holes = smoothstep(docker, 0.03, 0.015) * smoothstep(shape, -0.1, -0.12)
    crumb = fractal(size_px, rng, max(size_px // 10, 6), octaves=3, gain=0.7)
    height = 3.0 * smoothstep(-shape, 0.0, 0.14) + 0.35 * crumb - 1.5 * holes
    baked = np.clip(0.75 * smoothstep(-shape, 0.16, 0.0) + 0.15 * noise(size_px, rng, 4) + 0.1, 0.0, 0.9)
    light = 0.95 + 0.45 * relief(height) - 0.35 * holes + 0.02 * crumb
    brown = (pale[0] * 0.68, pale[1] * 0.5, pale[2] * 0.35)
    return compose(backdrop, mix(paint(light, pale), paint(light, brown), baked), coverage(shape))
