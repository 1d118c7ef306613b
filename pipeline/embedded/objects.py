"""Chance objects: outlines, relief and marks that no product has, on chance backgrounds."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from pipeline.embedded.surfaces import near_colour, pick, some_colour, some_surface
from pipeline.samples.fields import (
    Colour,
    Plane,
    Scene,
    box,
    coverage,
    disc,
    fractal,
    frame,
    mix,
    noise,
    paint,
    polygon,
    radius_of,
    relief,
    smoothstep,
    soften,
    spread,
    wrap,
)


def _round(u: Plane, v: Plane, rng: Generator) -> Plane:
    squash = rng.uniform(0.55, 1.0)
    return (radius_of(u, v / squash) - 0.95) * squash


def _rectangle(u: Plane, v: Plane, rng: Generator) -> Plane:
    return box(u, v, 0.95, rng.uniform(0.3, 0.95), corner=rng.uniform(0.0, 0.25))


def _polygon(u: Plane, v: Plane, rng: Generator) -> Plane:
    return polygon(u, v, int(rng.integers(3, 9)), rng.uniform(0.7, 0.9))


def _wavy(u: Plane, v: Plane, rng: Generator) -> Plane:
    bearing = np.arctan2(v, u)
    outline: Plane = np.full_like(u, 0.78)
    for wave in range(2, int(rng.integers(3, 7))):
        outline = outline + rng.normal(0, 0.12 / wave) * np.cos(wave * bearing + rng.uniform(0, math.tau))
    distance: Plane = radius_of(u, v) - outline
    return distance


def _ring(u: Plane, v: Plane, rng: Generator) -> Plane:
    thick = rng.uniform(0.12, 0.45)
    band: Plane = np.abs(radius_of(u, v) - (0.95 - thick)) - thick
    return band


def _toothed(u: Plane, v: Plane, rng: Generator) -> Plane:
    teeth = int(rng.integers(5, 40))
    tooth = np.clip(rng.uniform(1, 3) * np.cos(teeth * np.arctan2(v, u)), -1, 1)
    outline: Plane = radius_of(u, v) - 0.85 - rng.uniform(0.02, 0.1) * tooth
    return outline


def _rod(u: Plane, v: Plane, rng: Generator) -> Plane:
    radius = rng.uniform(0.15, 0.45)
    return radius_of(np.maximum(np.abs(u) - (0.95 - radius), 0.0), v) - radius


def _cross(u: Plane, v: Plane, rng: Generator) -> Plane:
    first = box(u, v - rng.uniform(-0.4, 0.4), 0.9, rng.uniform(0.15, 0.4), corner=0.05)
    second = box(u - rng.uniform(-0.4, 0.4), v, rng.uniform(0.15, 0.4), 0.9, corner=0.05)
    crossed: Plane = np.minimum(first, second)
    return crossed


# Signed distances from shapes that about fill [-1, 1], and their nouns.
_OUTLINES: tuple[tuple[Callable[[Plane, Plane, Generator], Plane], str], ...] = (
    (_round, "disc"),
    (_rectangle, "plate"),
    (_polygon, "plate"),
    (_wavy, "piece"),
    (_ring, "ring"),
    (_toothed, "disc"),
    (_rod, "rod"),
    (_cross, "bracket"),
)


def _openings(distance: Plane, u: Plane, v: Plane, rng: Generator) -> Plane:
    """The shape with regular holes, as parts have them."""
    kind, holes = int(rng.integers(3)), distance
    if kind == 0:
        holes = rng.uniform(0.1, 0.4) - radius_of(u, v)
    else:
        size = rng.uniform(0.05, 0.14)
        if kind == 1:
            count, at = int(rng.integers(2, 9)), rng.uniform(0.35, 0.65)
            bearing, radius = wrap(np.arctan2(v, u), math.tau / count), radius_of(u, v)
            holes = size - radius_of(radius * np.cos(bearing) - at, radius * np.sin(bearing))
        else:
            pitch = rng.uniform(3, 5) * size
            everywhere = size - radius_of(wrap(u, pitch), wrap(v, pitch))
            holes = np.where(distance < -1.5 * size, everywhere, np.float32(-1))
    pierced: Plane = np.maximum(distance, holes)
    return pierced


def _relief(distance: Plane, u: Plane, v: Plane, rng: Generator) -> Plane:
    """How the light falls on the body: flat, domed, round like a rod, bevelled."""
    side = distance.shape[0]
    angle = rng.uniform(0, math.tau)
    light: Plane = np.ones_like(distance)
    form = int(rng.integers(4))
    if form == 1:
        height = np.sqrt(np.clip(-distance, 0, 1) + 1e-4)
        light = light + rng.uniform(2, 9) * relief(soften(height, side * 0.02), angle=angle)
    elif form == 2:
        across = v / max(float(np.abs(v[distance < 0]).max(initial=0.1)), 0.1)
        light = 0.45 + 0.55 * np.sqrt(np.clip(1 - across * across, 0, 1)) + 0.15 * across
    elif form == 3:
        fall = np.cos(angle) * u + np.sin(angle) * v
        light = light + rng.uniform(0.05, 0.4) * fall - rng.uniform(0, 0.35) * radius_of(u, v)
    width = rng.uniform(0.02, 0.12)
    rim = relief(smoothstep(-distance, 0.0, width), angle=angle) * (side * width * 0.5)
    shaded: Plane = light + rng.uniform(0.0, 0.6) * rim
    return shaded


def _marks(surface: Colour, distance: Plane, u: Plane, v: Plane, rng: Generator) -> Colour:
    """Grooves, steps, prints: regular and centred, so that a picture tells that they belong."""
    for _ in range(int(pick(rng, 0, 0, 1, 1, 2, 3))):
        kind, colour = int(rng.integers(6)), near_colour(some_colour(rng), rng, 0.2)
        width = rng.uniform(0.01, 0.06)
        if kind == 0:
            alpha = coverage(np.abs(radius_of(u, v) - rng.uniform(0.15, 0.8)) - width)
        elif kind == 1:
            alpha = coverage(np.abs(distance + rng.uniform(0.06, 0.3)) - width)
        elif kind == 2:
            alpha = coverage(np.abs(wrap(u, rng.uniform(0.15, 0.5))) - width)
        elif kind == 3:
            count = int(rng.integers(3, 12))
            bearing, radius = wrap(np.arctan2(v, u), math.tau / count), radius_of(u, v)
            at = rng.uniform(0.3, 0.7)
            alpha = coverage(radius_of(radius * np.cos(bearing) - at, radius * np.sin(bearing)) - width * 1.5)
        elif kind == 4:
            alpha = coverage(box(u, v - rng.uniform(-0.4, 0.4), rng.uniform(0.2, 0.6), rng.uniform(0.08, 0.3)))
        else:
            alpha = coverage(disc(u, v, rng.uniform(0.1, 0.6)))
        alpha = alpha * (distance < -0.02)
        strength = rng.uniform(0.2, 1.0)
        if rng.uniform() < 0.5:  # cut into the body, not printed on it
            lit = 1.0 + 3.0 * pick(rng, -1, 1) * relief(soften(alpha, 1.0)) - rng.uniform(0, 0.3) * alpha
            surface = surface * spread(lit.astype(np.float32))
        else:
            surface = mix(surface, colour, alpha * np.float32(strength))
    return surface


def body(side: int, u: Plane, v: Plane, rng: Generator, *, calm: float | None = None) -> tuple[Colour, Plane, str]:
    """A chance object's surface, its signed distance, and its noun.

    Args:    u, v: coordinates in which it about fills [-1, 1].   calm: how much of a surface's contrast it keeps.
    """
    outline, noun = _OUTLINES[int(rng.integers(len(_OUTLINES)))]
    distance = outline(u, v, rng)
    if rng.uniform() < 0.3:
        distance = _openings(distance, u, v, rng)
    if rng.uniform() < 0.3:
        distance = distance + rng.uniform(0.0, 0.03) * noise(side, rng, 20)  # a rough edge
    texture, _ = some_surface(side, rng)
    drawn = rng.uniform(0.05, 1.0)
    mean = texture.mean(axis=(0, 1))
    surface = mean + (drawn if calm is None else calm) * (texture - mean)
    light = _relief(distance, u, v, rng) + rng.uniform(0, 0.15) * fractal(side, rng, 4, octaves=2)
    surface = _marks(surface.astype(np.float32), distance, u, v, rng) * spread(light.astype(np.float32))
    if rng.uniform() < 0.3:  # a highlight
        x, y, size = rng.normal(0, 0.35), rng.normal(0, 0.35), rng.uniform(0.05, 0.25)
        gloss = np.exp(-((u - x) ** 2 + ((v - y) * rng.uniform(1, 4)) ** 2) / size**2)
        surface = mix(surface, (1.0, 1.0, 1.0), (rng.uniform(0.2, 0.9) * gloss).astype(np.float32))
    return np.clip(surface, 0, 1), distance, noun


def some_objects(side: int, rng: Generator) -> tuple[Scene, str]:
    """One object, several alike, or a part of a large one, on a ground; and the noun."""
    below = ground(side, rng)
    choice = rng.uniform()
    if choice < 0.25:  # several alike, in rows
        rows, cols = int(rng.integers(1, 5)), int(rng.integers(2, 5))
        u, v = frame(side, angle=rng.normal(0, 0.1))
        pitch_x, pitch_y = 2.0 / cols, 2.0 / rows
        fill = 0.5 * min(pitch_x, pitch_y) * rng.uniform(0.6, 0.95)
        x = wrap(u + 1 - pitch_x / 2, pitch_x) / fill
        y = wrap(v + 1 - pitch_y / 2, pitch_y) / fill
        scale = fill
    else:
        scale = rng.uniform(0.35, 0.85) if choice < 0.8 else rng.uniform(0.9, 2.0)
        room = max(0.0, 0.9 - scale) if choice < 0.8 else 0.6
        at = (rng.uniform(-room, room), rng.uniform(-room, room))
        x, y = frame(side, centre_xy=at, angle=rng.uniform(0, math.tau), scale=scale)
    surface, distance, noun = body(side, x.astype(np.float32), y.astype(np.float32), rng)
    alpha = coverage(distance, scale)
    if rng.uniform() < 0.6:
        below = below * spread(1.0 - shadow(alpha, rng))
    return Scene(image=mix(below, surface, alpha), part=alpha, behind=below), noun


def ground(side: int, rng: Generator) -> Colour:
    """What lies under the object: even more often than not."""
    if rng.uniform() < 0.25:
        return some_surface(side, rng)[0]
    colour = some_colour(rng) if rng.uniform() < 0.6 else (pick(rng, 0.03, 0.95),) * 3
    light = 1.0 + rng.uniform(0, 0.05) * noise(side, rng, int(side / rng.uniform(1, 4)))
    plane = paint(light + rng.uniform(0, 0.1) * noise(side, rng, 3), colour)
    if rng.uniform() < 0.15:  # dust on the belt, which is no defect of the part
        specks = smoothstep(noise(side, rng, side // 3), 3.0, 3.4)
        plane = mix(plane, some_colour(rng), specks)
    return plane


def shadow(alpha: Plane, rng: Generator) -> Plane:
    """How much of the light a body keeps from the ground beside it."""
    side = alpha.shape[0]
    reach, soft = rng.uniform(0.0, 0.06) * side, rng.uniform(0.01, 0.05) * side
    bearing = rng.uniform(0, math.tau)
    shift = np.asarray([[1, 0, reach * math.cos(bearing)], [0, 1, reach * math.sin(bearing)]], np.float32)
    moved = cv2.warpAffine(alpha, shift, (side, side))
    return rng.uniform(0.15, 0.7) * soften(moved, soft)
