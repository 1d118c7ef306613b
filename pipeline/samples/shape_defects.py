"""Defects of outline and substance: holes, missing and foreign pieces, bent edges, broken texture."""

import math

import cv2
import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from pipeline.samples.defects import Damage, Mask, on_part, patch, spot, strokes
from pipeline.samples.fields import (
    Colour,
    Plane,
    Scene,
    frame,
    mix,
    noise,
    paint,
    relief,
    rgb,
    smoothstep,
    soften,
    spread,
)


def hole(scene: Scene, rng: Generator) -> Damage:
    """A small hole through the part, with a lit far wall and a burr."""
    size_px, radius = scene.size_px, rng.uniform(0.05, 0.13)
    distance = patch(scene, rng, radius, ragged=0.18, stretch=rng.uniform(0.8, 1.2))
    edge_px = radius * size_px * 0.5
    inside = np.clip(-distance * edge_px + 0.5, 0, 1)
    burr = np.exp(-((distance - 0.14) ** 2) / 0.01) * (distance > 0)
    shadow = np.clip(0.35 + 0.35 * smoothstep(soften(distance, 1.0), -1.0, 0.0) * (relief(distance) > 0), 0, 1)
    deep = np.minimum(scene.behind, 0.5) * spread(0.55 * shadow)
    alpha = on_part(scene, np.maximum(inside, 0.5 * burr))
    rim = np.clip(scene.image * 1.3 + 0.12, 0, 1)
    return mix(scene.image, mix(rim, deep, inside), alpha), alpha > 0


def _boundary_spot(scene: Scene, rng: Generator) -> tuple[float, float]:
    """A chance point on the part's outline; anywhere on a surface that fills the picture."""
    part = (scene.part > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)[:, 0]
    if part.all():
        return spot(scene, rng)
    x, y = outline[int(rng.integers(len(outline)))]
    return float((x + 0.5) * 2 / scene.size_px - 1), float((y + 0.5) * 2 / scene.size_px - 1)


def missing(scene: Scene, rng: Generator) -> Damage:
    """A piece broken off the edge, or torn out of a surface, with a rough broken face."""
    size_px, radius = scene.size_px, rng.uniform(0.16, 0.32)
    u, v = frame(size_px, centre_xy=_boundary_spot(scene, rng), angle=rng.uniform(0, math.tau), scale=radius)
    jagged = 0.13 * noise(size_px, rng, int(5 / radius)) + 0.12 * noise(size_px, rng, int(2 / radius))
    distance = np.maximum(np.abs(u), 0.55 * np.abs(u) + 0.9 * np.abs(v)) - 0.9 + jagged
    edge_px = radius * size_px * 0.5
    gone = np.clip(-distance * edge_px + 0.5, 0, 1)
    face = np.clip((0.16 - distance) * edge_px + 0.5, 0, 1)
    alpha = on_part(scene, face)
    broken = np.clip(scene.image * spread(0.62 + 0.12 * noise(size_px, rng, size_px // 3)), 0, 1)
    mask = (alpha > 0) | ((scene.part > 0) & (gone > 0.5))
    image = mix(mix(scene.image, broken, 0.8 * alpha), scene.behind, np.where(mask, gone, np.float32(0)))
    return np.where(mask[..., None], image, scene.image), mask


def _fibre(scene: Scene, rng: Generator) -> tuple[Plane, Plane]:
    """A hair or thread: opacity and brightness."""
    turns = np.cumsum(rng.normal(0, 0.22, 40)) + rng.uniform(0, math.tau)
    path = np.asarray(spot(scene, rng)) + 0.028 * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=-1), axis=0)
    width_px = max(scene.size_px * rng.uniform(0.006, 0.014), 1.2)
    line = strokes(scene.size_px, [path], width_px)
    return line, 0.7 + 0.3 * line


def _chip(scene: Scene, rng: Generator) -> tuple[Plane, Plane]:
    """A splinter of plastic, glass or metal: opacity and brightness."""
    x, y = spot(scene, rng)
    count = int(rng.integers(4, 7))
    bearings = np.sort(rng.uniform(0, math.tau, count))
    reach = rng.uniform(0.06, 0.15) * rng.uniform(0.5, 1.0, count)
    corners: Float[np.ndarray, "n 2"] = np.stack(
        [x + reach * np.cos(bearings), y + reach * np.sin(bearings) * 0.6], axis=-1
    )
    canvas = np.zeros((scene.size_px, scene.size_px), np.uint8)
    cv2.fillPoly(canvas, [np.round((corners + 1) * scene.size_px * 8).astype(np.int32)], 255, cv2.LINE_AA, 4)
    cv2.circle(canvas, (int((x + 1) * scene.size_px / 2), int((y + 1) * scene.size_px / 2)), 1, 255, cv2.FILLED)
    shape = canvas.astype(np.float32) / 255
    u, _ = frame(scene.size_px, centre_xy=(x, y), angle=rng.uniform(0, math.tau), scale=0.1)
    return shape, 0.8 + 0.2 * np.tanh(u) + 0.4 * np.clip(relief(soften(shape, 1.0)) * 4, -0.5, 0.5)


def foreign(scene: Scene, rng: Generator) -> Damage:
    """Something that does not belong: a fibre or a splinter that lies on the part and casts a shadow."""
    shape, light = _fibre(scene, rng) if rng.uniform() < 0.45 else _chip(scene, rng)
    offset = max(round(scene.size_px * 0.012), 1)
    shadow = soften(np.roll(shape, (offset, offset), (0, 1)), scene.size_px * 0.006)
    ground = float(scene.image.mean())
    value = rng.uniform(0.7, 1.0) if ground < 0.5 else rng.uniform(0.1, 0.55)
    colour = rgb(rng.uniform(), float(rng.choice([0.05, 0.85])), value)
    alpha = on_part(scene, np.maximum(shape, 0.5 * shadow))
    laid = mix(scene.image * 0.35, paint(light, colour), shape)
    return mix(scene.image, np.clip(laid, 0, 1), alpha), alpha > 0


def bent(scene: Scene, rng: Generator) -> Damage:
    """A corner or edge bent over a crease: what lies beyond it is moved, foreshortened and lit otherwise."""
    size_px, depth = scene.size_px, rng.uniform(0.14, 0.26)
    x, y = _boundary_spot(scene, rng)
    outward = _outward(scene, x, y) + rng.normal(0, 0.2)
    beyond, along = frame(size_px, centre_xy=(x, y), angle=outward, scale=depth)
    lever = np.clip(beyond + 1.0, 0.0, 2.5) * smoothstep(np.abs(along), 2.6, 0.9)
    aside = outward + rng.choice([-1, 1]) * rng.uniform(0.9, 2.4)  # from pulled outwards to folded back
    push_px = rng.uniform(0.45, 0.7) * depth * size_px * 0.5 * lever
    cols, rows = np.meshgrid(np.arange(size_px, dtype=np.float32), np.arange(size_px, dtype=np.float32))
    map_x, map_y = cols - push_px * math.cos(aside), rows - push_px * math.sin(aside)
    moved = cv2.remap(scene.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    part = cv2.remap(scene.part, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    tone = rng.choice([-1, 1]) * rng.uniform(0.12, 0.3)
    moved = moved * spread(1.0 + np.float32(tone) * smoothstep(lever, 0.0, 0.35))
    return _where_changed(scene, mix(scene.behind, moved, part), lever > 0)


def _outward(scene: Scene, x: float, y: float) -> float:
    """The direction from the part's middle to a point."""
    columns, rows = scene.part.sum(axis=0), scene.part.sum(axis=1)
    at = np.linspace(-1, 1, scene.size_px)
    middle_x, middle_y = (float((weight * at).sum() / weight.sum()) for weight in (columns, rows))
    return math.atan2(y - middle_y, x - middle_x)


def _where_changed(scene: Scene, image: Colour, within: Mask) -> Damage:
    """The change kept where it can be seen, as one closed region."""
    moved = np.abs(image - scene.image).max(axis=-1) > 0.05
    near_part = cv2.dilate((scene.part > 0.02).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    side = max(scene.size_px // 24, 3) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx((moved & within).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = (opened > 0) & (near_part | within)
    return np.where(mask[..., None], np.clip(image, 0, 1), scene.image), mask


def broken(scene: Scene, rng: Generator) -> Damage:
    """The pattern disturbed in one place: threads pulled aside, smeared or laid the wrong way."""
    size_px, radius = scene.size_px, rng.uniform(0.16, 0.32)
    distance = patch(scene, rng, radius, ragged=0.2, stretch=rng.uniform(0.7, 1.4))
    alpha = on_part(scene, smoothstep(distance, 0.0, -0.2))
    kind = int(rng.integers(3))
    if kind == 0:  # a piece turned and laid back
        turn = cv2.getRotationMatrix2D((size_px / 2, size_px / 2), rng.uniform(25, 65), 1.0)
        other = cv2.warpAffine(scene.image, turn, (size_px, size_px), borderMode=cv2.BORDER_REFLECT)
    elif kind == 1:  # smeared along one direction
        length = max(size_px // 14, 5)
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1.0)
        smear = cv2.warpAffine(kernel, turn, (length, length))
        other = cv2.filter2D(scene.image, -1, smear / smear.sum())
    else:  # pulled about
        cols, rows = np.meshgrid(np.arange(size_px, dtype=np.float32), np.arange(size_px, dtype=np.float32))
        reach = np.float32(size_px * 0.03)
        pull_x, pull_y = reach * noise(size_px, rng, 18), reach * noise(size_px, rng, 18)
        other = cv2.remap(scene.image, cols + pull_x, rows + pull_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    seam = np.clip(relief(soften(alpha, 1.0)) * 2.5, -0.35, 0.35)
    return mix(scene.image, np.clip(other * spread(0.9 + seam), 0, 1), alpha), alpha > 0
