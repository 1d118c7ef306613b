"""Chance surfaces: each a function (side, rng) → colour plane, drawn from a family of its own.

No surface imitates a product; together they cover what surfaces are made of: grain, weave, cells, clouds, specks and
lines.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from pipeline.samples.fields import (
    RGB,
    Colour,
    Plane,
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
    white,
    wrap,
)

SurfaceFunction = Callable[[int, Generator], Colour]


def pick(rng: Generator, *options: float) -> float:
    """One of the numbers, as Python's own: NumPy's would turn float32 planes into float64."""
    return float(options[int(rng.integers(len(options)))])


def some_colour(rng: Generator) -> RGB:
    """Grey, pale or vivid, dark or bright."""
    saturation = pick(rng, 0.0, rng.uniform(0.02, 0.15), rng.uniform(0.15, 0.5), rng.uniform(0.5, 0.95))
    return rgb(rng.uniform(), saturation, rng.uniform(0.08, 0.95))


def near_colour(colour: RGB, rng: Generator, spread: float) -> RGB:
    """Another shade of a colour."""
    factor = 1.0 + spread * rng.normal()
    red, green, blue = (min(max(part * factor + spread * 0.4 * rng.normal(), 0.0), 1.0) for part in colour)
    return red, green, blue


def palette(plane: Plane, rng: Generator, *, contrast: float | None = None) -> Colour:
    """A plane of about unit variance in two or three shades of a chance colour."""
    first = some_colour(rng)
    strength = contrast if contrast is not None else float(math.exp(rng.uniform(math.log(0.04), math.log(0.6))))
    second = some_colour(rng) if rng.uniform() < 0.15 else near_colour(first, rng, strength)
    blend = smoothstep(plane, -1.6, 1.6)
    coloured = mix(paint(np.ones_like(plane), first), second, blend)
    if rng.uniform() < 0.25:
        coloured = mix(coloured, near_colour(first, rng, strength), smoothstep(np.abs(plane), 0.9, 1.8))
    return coloured


def _lit(height: Plane, rng: Generator, strength: float) -> Plane:
    """The light on a height map, from a chance side."""
    return 1.0 + strength * relief(height, angle=rng.uniform(0, math.tau))


def plain(side: int, rng: Generator) -> Colour:
    """Paint, plastic, paper: one colour with hardly any grain."""
    light = 1.0 + rng.uniform(0, 0.04) * noise(side, rng, side) + rng.uniform(0, 0.05) * noise(side, rng, 4)
    return paint(light, some_colour(rng))


def cloud(side: int, rng: Generator) -> Colour:
    """Stone, plaster, skin: noise over several scales."""
    cells = int(2 ** rng.uniform(1, 6))
    plane = fractal(side, rng, cells, octaves=int(rng.integers(2, 6)), gain=rng.uniform(0.35, 0.9))
    if rng.uniform() < 0.35:
        plane = 2.0 * np.abs(plane) - 1.2  # veins
    return palette(plane, rng)


def grain(side: int, rng: Generator) -> Colour:
    """Wood, brushed metal, hair: long along one direction."""
    across, along = int(2 ** rng.uniform(4, math.log2(side))), int(rng.integers(2, 9))
    bend = rng.uniform(0, 0.3) * noise(side, rng, 3)
    plane = fractal(side, rng, (across, along), octaves=int(rng.integers(1, 4)), gain=rng.uniform(0.4, 0.9))
    coloured = palette(plane, rng)
    return _pulled(_turned(coloured, rng), bend, rng)


def rings(side: int, rng: Generator) -> Colour:
    """Cut wood, turned metal, contour lines: bands along a smooth field."""
    u, v = frame(side, centre_xy=(rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)), angle=rng.uniform(0, math.tau))
    field = (np.sqrt(u * u + v * v) if rng.uniform() < 0.5 else u) + rng.uniform(0, 0.4) * fractal(
        side, rng, 3, octaves=3
    )
    bands = np.sin(field * rng.uniform(6, 60)) * 1.3
    return palette(bands + rng.uniform(0, 0.5) * noise(side, rng, side // 2), rng)


def lattice(side: int, rng: Generator) -> Colour:
    """Cloth, mesh, tiles, prints: a motif that repeats along two directions."""
    pitch = float(math.exp(rng.uniform(math.log(5), math.log(side / 4))))
    u, v = frame(side, angle=rng.uniform(0, math.pi) if rng.uniform() < 0.5 else rng.normal(0, 0.04))
    sway = rng.uniform(0, 0.12) * pitch * noise(side, rng, 6)
    skew, shift = pick(rng, 0.0, 0.0, 0.5, rng.uniform(-1, 1)), pick(rng, 0.0, 0.0, 0.5)
    y = v * (side / 2) - sway
    row = np.floor(y / pitch)
    x = u * (side / 2) + sway + skew * y + shift * pitch * np.abs(wrap(row, 2.0))
    aspect = pick(rng, 1.0, 1.0, 2.0, rng.uniform(0.5, 3))
    col = np.floor(x / (pitch * aspect))
    a, b = wrap(x, pitch * aspect) / (pitch * aspect), wrap(y, pitch) / pitch  # each in [-½, ½]
    motif = int(rng.integers(7))
    plane: Plane
    if motif == 0:  # waves
        plane = 1.2 * (np.cos(math.tau * a) + rng.uniform(0, 1) * np.cos(math.tau * b))
    elif motif == 1:  # joints between tiles
        plane = 3.0 * smoothstep(np.maximum(np.abs(a), np.abs(b)), 0.5, 0.5 - rng.uniform(0.03, 0.2)) - 1.5
    elif motif == 2:  # dots or holes
        plane = 3.0 * smoothstep(np.sqrt(a * a + b * b), rng.uniform(0.2, 0.45), rng.uniform(0.1, 0.2)) - 1.5
    elif motif == 3:  # plain weave
        over = wrap(col + row, 2.0) == 0
        plane = np.where(over, 1.2 - 5 * a * a - 2 * b * b, 0.6 - 5 * b * b - 2 * a * a)
    elif motif == 4:  # checks
        plane = np.where(wrap(col + row, 2.0) == 0, np.float32(1.2), np.float32(-1.2))
    elif motif == 5:  # stripes
        plane = 2.4 * smoothstep(np.abs(b), rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.1)) - 1.2
    else:  # a chance motif, the same in every cell
        tile = fractal(64, rng, int(rng.integers(2, 6)), octaves=3)
        tile = cv2.copyMakeBorder(tile, 0, 1, 0, 1, cv2.BORDER_WRAP)
        at_x, at_y = ((a + 0.5) * 63).astype(np.float32), ((b + 0.5) * 63).astype(np.float32)
        plane = 1.2 * np.asarray(cv2.remap(tile, at_x, at_y, cv2.INTER_LINEAR))
    tone = rng.normal(0, 1, 1024).astype(np.float32)[(row * 37 + col).astype(np.int64) % 1024]
    height = plane.astype(np.float32) + pick(rng, 0.0, 0.0, 0.3) * tone + rng.uniform(0, 0.3) * noise(side, rng, side)
    coloured = palette(height, rng)
    if rng.uniform() < 0.4:
        coloured = coloured * cv2.merge((_lit(height, rng, rng.uniform(0.05, 0.3)),) * 3)
    return coloured


def cells(side: int, rng: Generator) -> Colour:
    """Leather, gravel, granulate, foam: rounded cells side by side."""
    spacing = float(math.exp(rng.uniform(math.log(4), math.log(side / 8))))
    distance, number = pebbles(side, rng, spacing)
    tone = rng.normal(0, 1, 4096).astype(np.float32)[number % 4096]
    dome = soften(1.0 - smoothstep(distance, rng.uniform(0.0, 0.2), 0.75), spacing * 0.08)
    plane = rng.uniform(0, 2) * (2 * dome - 1) + rng.uniform(0, 1) * tone
    light = _lit(dome, rng, spacing * rng.uniform(0.0, 0.35))
    return palette(plane, rng) * cv2.merge((light + rng.uniform(0, 0.06) * noise(side, rng, side),) * 3)


def specks(side: int, rng: Generator) -> Colour:
    """Granite, sponge, carpet: grains of chance size, dense and even."""
    base = rng.uniform(0.3, 1) * noise(side, rng, int(side / rng.uniform(1, 5)))
    coarse = smoothstep(noise(side, rng, int(side / rng.uniform(2, 9))), rng.uniform(0.5, 1.5), 2.0)
    return palette(base + pick(rng, -2.0, 0.0, 2.0) * coarse, rng)


def spectrum(side: int, rng: Generator) -> Colour:
    """A chance even texture: noise whose energy lies in one or two bands, of one direction or all."""
    tile = 128
    fy, fx = np.meshgrid(np.fft.fftfreq(tile), np.fft.rfftfreq(tile), indexing="ij")
    radius, bearing = np.sqrt(fx * fx + fy * fy) + 1e-6, np.arctan2(fy, fx)
    energy = np.zeros_like(radius)
    for _ in range(int(rng.integers(1, 3))):
        centre, width = math.exp(rng.uniform(math.log(0.03), math.log(0.4))), rng.uniform(0.15, 0.6)
        lobe = np.exp(-((np.log(radius / centre) / width) ** 2))
        if rng.uniform() < 0.6:
            lobe = lobe * np.exp(rng.uniform(0.5, 12) * (np.cos(2 * (bearing - rng.uniform(0, math.pi))) - 1))
        energy += lobe
    plane = np.fft.irfft2(np.fft.rfft2(white(rng, tile, tile)) * energy).astype(np.float32)
    plane = plane / (plane.std() + 1e-6)
    tiled = np.tile(plane, (math.ceil(side / tile) + 1,) * 2)
    zoom = rng.uniform(0.8, 2.0)
    part = np.ascontiguousarray(tiled[: math.ceil(side / zoom), : math.ceil(side / zoom)])
    return palette(cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR), rng)


def fibres(side: int, rng: Generator) -> Colour:
    """Felt, paper, straw: many thin lines across each other."""
    canvas = np.full((side, side), 128, np.uint8)
    count, reach = int(rng.integers(80, 500)), rng.uniform(0.1, 0.6) * side
    main, spread = rng.uniform(0, math.pi), (pick(rng, 0.15, 0.6, 3.0))
    starts, bearings = rng.uniform(0, side, (count, 2)), main + spread * rng.normal(size=count)
    tones, thick = rng.integers(40, 216, count), int(rng.integers(1, 3))
    ends = starts + reach * np.stack([np.cos(bearings), np.sin(bearings)], axis=-1)
    for start, end, tone in zip(starts.astype(int), ends.astype(int), tones, strict=True):
        cv2.line(canvas, tuple(start.tolist()), tuple(end.tolist()), int(tone), thick, cv2.LINE_AA)
    return palette((canvas.astype(np.float32) - 128) / 45, rng)


FAMILIES: dict[str, tuple[SurfaceFunction, tuple[str, ...]]] = {
    "plain": (plain, ("plastic", "paper", "paint")),
    "cloud": (cloud, ("stone", "plaster", "concrete")),
    "grain": (grain, ("wood", "metal")),
    "rings": (rings, ("wood", "steel")),
    "lattice": (lattice, ("fabric", "grid", "pattern")),
    "cells": (cells, ("leather", "gravel", "foam")),
    "specks": (specks, ("granite", "carpet")),
    "spectrum": (spectrum, ("texture",)),
    "fibres": (fibres, ("felt", "fabric")),
}
_WEIGHTS = np.asarray([2, 3, 2, 1, 4, 2, 1.5, 2, 1])


def some_surface(side: int, rng: Generator) -> tuple[Colour, str]:
    """A chance surface, sometimes two families in one, and its noun."""
    name = str(rng.choice(list(FAMILIES), p=_WEIGHTS / _WEIGHTS.sum()))
    function, nouns = FAMILIES[name]
    image = function(side, rng)
    if rng.uniform() < 0.2:
        other = FAMILIES[str(rng.choice(list(FAMILIES)))][0](side, rng)
        image = image * (1 + rng.uniform(0.1, 0.5) * (other - other.mean()))
    if rng.uniform() < 0.25:
        image = _pulled(image, rng.uniform(0.02, 0.2) * fractal(side, rng, 4, octaves=2), rng)
    return np.clip(image, 0, 1).astype(np.float32), str(rng.choice(nouns))


def _turned(image: Colour, rng: Generator) -> Colour:
    """The plane turned by a chance angle, right angles more often; the border is mirrored."""
    side = image.shape[0]
    angle = pick(rng, 0, 90, rng.uniform(0, 180))
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
    return cv2.warpAffine(image, turn, (side, side), borderMode=cv2.BORDER_REFLECT)


def _pulled(image: Colour, by: Plane, rng: Generator) -> Colour:
    """The plane drawn out of place along a chance direction."""
    side = image.shape[0]
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    bearing, reach = rng.uniform(0, math.tau), np.float32(side / 2)
    along_x, along_y = np.float32(math.cos(bearing)) * reach, np.float32(math.sin(bearing)) * reach
    return cv2.remap(image, x + along_x * by, y + along_y * by, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
