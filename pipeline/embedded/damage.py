"""Chance defects: a shape, and what happens to the picture within it. Outside its mask nothing changes."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool
from numpy.random import Generator

from pipeline.embedded.surfaces import pick, some_colour, some_surface
from pipeline.samples.defects import spot, strokes
from pipeline.samples.fields import (
    Colour,
    Plane,
    Scene,
    fractal,
    frame,
    mix,
    noise,
    paint,
    radius_of,
    relief,
    smoothstep,
    soften,
    spread,
    white,
)

Shape = Callable[[Scene, Generator, float], Plane]
Effect = Callable[[Scene, Generator, Plane, float], Colour]

VISIBLE = 0.1  # opacity below which a pixel is not counted as changed
_SMALLEST, _LARGEST = 0.0004, 0.5  # of the picture's area
_CLEAR = 0.08  # mean change within the mask, of full scale


def _blob(scene: Scene, rng: Generator, radius: float) -> Plane:
    """An irregular patch, hard or soft at its edge."""
    side, stretch = scene.size_px, float(math.exp(rng.normal(0, 0.35)))
    u, v = frame(side, centre_xy=spot(scene, rng), angle=rng.uniform(0, math.pi), scale=radius)
    cells = int(np.clip(rng.uniform(1, 4) / radius, 4, 60))
    distance = radius_of(u / stretch, v * stretch) - 1 + rng.uniform(0, 0.5) * noise(side, rng, cells)
    soft = pick(rng, 2.0 / (radius * side), 2.0 / (radius * side), rng.uniform(0.1, 0.8))
    return smoothstep(distance, soft / 2, -soft / 2)


def _mottle(scene: Scene, rng: Generator, radius: float) -> Plane:
    """Several islands of noise within a region."""
    side = scene.size_px
    u, v = frame(side, centre_xy=spot(scene, rng), scale=1.6 * radius)
    field = fractal(side, rng, int(np.clip(rng.uniform(1, 4) / radius, 4, 80)), octaves=3, gain=0.6)
    level = rng.uniform(-0.2, 0.8)
    return smoothstep(field - 1.5 * (u * u + v * v), level, level + 0.25)


def _strokes(scene: Scene, rng: Generator, radius: float) -> Plane:
    """Lines: straight, bowed or wandering, one or several."""
    side, width = scene.size_px, max(1.0, scene.size_px * float(math.exp(rng.uniform(math.log(0.003), math.log(0.02)))))
    start, heading = np.asarray(spot(scene, rng)), rng.uniform(0, math.tau)
    wander, paths = (pick(rng, 0.0, 0.02, 0.15, 0.5)), []
    for _ in range(int(pick(rng, 1, 1, 1, 2, 3, 6))):
        steps = int(rng.integers(12, 40))
        headings = heading + rng.normal(0, 0.15) + np.cumsum(wander * rng.normal(size=steps))
        moves = np.stack([np.cos(headings), np.sin(headings)], axis=-1) * (3.0 * radius * rng.uniform(0.5, 1) / steps)
        origin = start + rng.normal(0, 0.3 * radius, 2)
        paths.append(origin + np.cumsum(moves, axis=0) - moves.sum(axis=0) / 2)
    line = strokes(side, paths, width)
    return line * np.clip(1.0 + 0.5 * noise(side, rng, 16), 0.4, 1) if rng.uniform() < 0.4 else line


def _branches(scene: Scene, rng: Generator, radius: float) -> Plane:
    """A jagged line that forks."""
    side, paths = scene.size_px, []
    width = max(1.0, side * float(math.exp(rng.uniform(math.log(0.003), math.log(0.012)))))

    def grow(start: np.ndarray, heading: float, steps: int, depth: int) -> None:
        headings = heading + 0.5 * rng.normal(size=steps)
        stride = 3.5 * radius / 14
        path = start + np.cumsum(stride * np.stack([np.cos(headings), np.sin(headings)], axis=-1), axis=0)
        paths.append(np.concatenate([start[None], path]))
        for _ in range(int(rng.integers(0, 3)) if depth < 2 else 0):
            grow(
                path[int(rng.integers(steps))],
                heading + pick(rng, -1, 1) * rng.uniform(0.4, 1.3),
                steps // 2 + 1,
                depth + 1,
            )

    grow(np.asarray(spot(scene, rng)), rng.uniform(0, math.tau), int(rng.integers(6, 14)), 0)
    return strokes(side, paths, width)


def _grains(scene: Scene, rng: Generator, radius: float) -> Plane:
    """A scatter of small spots."""
    side, canvas = scene.size_px, np.zeros((scene.size_px, scene.size_px), np.uint8)
    centre, count = np.asarray(spot(scene, rng)), int(rng.integers(1, 30))
    size = float(math.exp(rng.uniform(math.log(0.006), math.log(0.03))))
    for at in np.concatenate([[centre], centre + rng.normal(0, radius, (count, 2))]):
        reach = max(1.0, size * side * rng.uniform(0.4, 1.0))
        x, y = ((at + 1) * side * 8).round().astype(int)
        cv2.circle(canvas, (int(x), int(y)), round(reach * 16), 255, cv2.FILLED, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def _shard(scene: Scene, rng: Generator, radius: float) -> Plane:
    """A piece with straight edges."""
    side, count = scene.size_px, int(rng.integers(3, 8))
    bearings = np.sort(rng.uniform(0, math.tau, count))
    reach = radius * rng.uniform(0.5, 1.3, count)
    corners = np.asarray(spot(scene, rng)) + reach[:, None] * np.stack([np.cos(bearings), np.sin(bearings)], axis=-1)
    canvas = np.zeros((side, side), np.uint8)
    cv2.fillPoly(canvas, [np.round((corners + 1) * side * 8).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def _bite(scene: Scene, rng: Generator, radius: float) -> Plane:
    """A patch that crosses the outline of the part."""
    part = (scene.part > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if part.all() or not contours:
        return _blob(scene, rng, radius)
    outline = contours[int(rng.integers(len(contours)))][:, 0]
    at = (outline[int(rng.integers(len(outline)))] + 0.5) * 2 / scene.size_px - 1
    u, v = frame(scene.size_px, centre_xy=(float(at[0]), float(at[1])), angle=rng.uniform(0, math.tau), scale=radius)
    distance = (
        radius_of(u, v * rng.uniform(0.6, 1.6)) - 1 + rng.uniform(0, 0.4) * noise(scene.size_px, rng, int(3 / radius))
    )
    return smoothstep(distance, 1.0 / (radius * scene.size_px), -1.0 / (radius * scene.size_px))


def _ink(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """A colour laid over: paint, ink, glue, dirt; opaque or thin."""
    colour = some_colour(rng)
    ground = scene.image[alpha > VISIBLE].mean(axis=0) if (alpha > VISIBLE).any() else np.zeros(3)
    for _ in range(4):
        if np.abs(np.asarray(colour) - ground).max() > 0.2:
            break
        colour = some_colour(rng)
    light = 1.0 + rng.uniform(0, 0.1) * noise(scene.size_px, rng, 20)
    if rng.uniform() < 0.4:  # a drop with a highlight
        light = light + np.clip(
            rng.uniform(1, 5) * relief(soften(alpha, 2.0), angle=rng.uniform(0, math.tau)), -0.4, 0.6
        )
    return mix(scene.image, paint(light.astype(np.float32), colour), alpha * np.float32(rng.uniform(0.45, 1.0)))


def _tint(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """The same surface, darker, paler or of another colour: stained, burnt, bleached, wet."""
    sign = pick(rng, -1.0, 1.0)
    factor = np.exp(sign * rng.uniform(0.2, 0.9) + 0.25 * rng.normal(size=3)).astype(np.float32)
    lift = np.float32(rng.uniform(0, 0.2) * (sign > 0))
    rim = np.abs(alpha - 0.5) < rng.uniform(0, 0.4)
    edge = 1.0 + pick(rng, 0.0, 0.3) * rim.astype(np.float32)
    return mix(scene.image, scene.image * factor * spread(edge.astype(np.float32)) + lift, alpha)


def _alien(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """Another material: foreign matter, a bare spot, a wrong piece."""
    other, _ = some_surface(scene.size_px, rng)
    shade = soften(np.roll(alpha, 2, (0, 1)), 2.0) * rng.uniform(0, 0.5)
    ground = scene.image * spread(np.where(alpha > 0, 1.0 - shade * (1 - alpha), 1.0).astype(np.float32))
    return mix(ground, other, alpha * np.float32(rng.uniform(0.5, 1.0)))


def _moved(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """The same material from elsewhere or turned: a wrong place, a broken pattern."""
    side = scene.size_px
    turn = cv2.getRotationMatrix2D(
        (side / 2, side / 2), (pick(rng, 0, 90, 180, rng.uniform(0, 360))), rng.uniform(0.6, 1.6)
    )
    turn[:, 2] = turn[:, 2] + rng.uniform(-0.5, 0.5, 2) * side
    other = cv2.warpAffine(scene.image, turn, (side, side), borderMode=cv2.BORDER_REFLECT)
    return mix(scene.image, np.clip(other * np.float32(math.exp(rng.normal(0, 0.15))), 0, 1), alpha)


def _warped(scene: Scene, rng: Generator, alpha: Plane, radius: float) -> Colour:
    """Pulled about: bulged, pinched, swirled, bent."""
    side = scene.size_px
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    reach = np.float32(radius * side * rng.uniform(0.2, 0.6))
    body = soften(alpha, max(1.0, radius * side * 0.1))
    if rng.uniform() < 0.5:
        bearing = rng.uniform(0, math.tau)
        pull_x, pull_y = body * np.float32(math.cos(bearing)) * reach, body * np.float32(math.sin(bearing)) * reach
    else:
        cells = int(np.clip(2 / radius, 4, 40))
        pull_x, pull_y = (body * reach * 0.5 * noise(side, rng, cells) for _ in range(2))
    moved = cv2.remap(scene.image, x + pull_x, y + pull_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    light = 1.0 + rng.uniform(0, 0.3) * pick(rng, -1, 1) * body
    return np.where((alpha > 0)[..., None], moved * spread(light.astype(np.float32)), scene.image)


def _smeared(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """Blurred along a direction or all round: worn, melted, smudged."""
    length = int(np.clip(scene.size_px * rng.uniform(0.02, 0.08), 3, 25)) | 1
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1.0)
    turned = cv2.warpAffine(kernel, turn, (length, length))
    blurred = cv2.filter2D(scene.image, -1, np.asarray(turned / max(float(turned.sum()), 1e-3), np.float32))
    return mix(scene.image, blurred * np.float32(math.exp(rng.normal(0, 0.15))), alpha)


def _rough(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """Torn, pitted, corroded, abraded: noise that the surface did not have."""
    side = scene.size_px
    grains = noise(side, rng, int(side / rng.uniform(1, 6))) * rng.uniform(0.1, 0.35)
    tint = some_colour(rng) if rng.uniform() < 0.4 else (1.0, 1.0, 1.0)
    changed = (
        scene.image * spread((1.0 + grains + rng.normal(0, 0.15)).astype(np.float32)) * np.asarray(tint, np.float32)
    )
    return mix(scene.image, np.clip(changed, 0, 1), alpha)


def _pressed(scene: Scene, rng: Generator, alpha: Plane, radius: float) -> Colour:
    """Raised or hollow: light and shade on its flanks."""
    height = soften(alpha, max(0.8, radius * scene.size_px * rng.uniform(0.03, 0.25)))
    slope = relief(height, angle=rng.uniform(0, math.tau))
    peak = float(np.abs(slope).max()) + 1e-6
    light = rng.uniform(0.2, 0.6) * slope / peak + rng.uniform(-0.15, 0.15) * alpha
    raised = scene.image * spread((1 + light).astype(np.float32)) + spread((0.2 * light).astype(np.float32))
    lit: Colour = np.clip(raised, 0, 1)
    return lit


def _groove(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """Cut in: dark or bare, with a bright lip beside it."""
    step = int(pick(rng, -1, 1))
    lip = np.roll(alpha, (step, step), (0, 1)) * (1 - alpha)
    dark = rng.uniform(0.0, 0.6) if rng.uniform() < 0.65 else rng.uniform(1.4, 2.2)
    cut = mix(scene.image, np.clip(scene.image * np.float32(dark) + np.float32(0.12 * (dark > 1)), 0, 1), alpha)
    return mix(
        cut,
        np.clip(cut * (0.6 if dark > 1 else 1.4) + 0.05, 0, 1).astype(np.float32),
        lip * np.float32(rng.uniform(0, 0.8)),
    )


def _gone(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """Broken away: what lies behind shows, or a dark hole, with a rim."""
    behind = scene.behind if rng.uniform() < 0.6 else paint(np.full_like(alpha, rng.uniform(0, 0.25)), (1.0, 1.0, 1.0))
    depth = np.clip(relief(soften(alpha, 2.0), angle=rng.uniform(0, math.tau)) * 4, -0.3, 0.3)
    return np.clip(mix(scene.image, behind, alpha) + spread((depth * (alpha > 0)).astype(np.float32)) * 0.5, 0, 1)


def _static(scene: Scene, rng: Generator, alpha: Plane, _radius: float) -> Colour:
    """A dropout of the picture's own grain: dust, mould, salt and pepper."""
    dots = (white(rng, *alpha.shape) > rng.uniform(0.3, 1.5)).astype(np.float32)
    return mix(scene.image, some_colour(rng), soften(dots, rng.uniform(0.4, 1.2)) * alpha)


_AREAS: tuple[Shape, ...] = (_blob, _blob, _mottle, _shard)
KINDS: dict[str, tuple[tuple[Shape, ...], tuple[Effect, ...]]] = {
    "scratched": ((_strokes,), (_groove, _groove, _pressed, _tint)),
    "cracked": ((_branches,), (_groove, _gone)),
    "stained": ((*_AREAS, _strokes), (_ink, _tint, _tint)),
    "discoloured": (_AREAS, (_tint,)),
    "spotted": ((_grains, _grains, _mottle), (_ink, _tint, _gone, _static)),
    "dirty": ((_mottle, _grains, _blob, _strokes), (_ink, _static, _rough)),
    "dented": ((_blob, _blob, _strokes), (_pressed, _pressed, _warped)),
    "pierced": ((_blob, _grains, _shard), (_gone,)),
    "chipped": ((_bite,), (_gone, _gone, _rough, _alien)),
    "contaminated": ((_shard, _strokes, _blob, _grains), (_alien, _ink)),
    "bent": ((_bite, _blob), (_warped,)),
    "torn": ((_AREAS[0], _branches, _bite), (_moved, _rough, _gone)),
    "worn": (_AREAS, (_smeared, _rough)),
    "misplaced": ((_shard, _blob), (_moved, _alien)),
}
_WEIGHTS = np.asarray([2, 1.3, 2, 1, 1, 1, 1.3, 1, 1, 1.3, 0.8, 1, 0.8, 1])


def damage(scene: Scene, rng: Generator) -> tuple[Colour, Bool[np.ndarray, "h w"], str] | None:
    """The scene with a defect of a chance kind, its mask, and the kind's word; None where nothing can be seen."""
    kind = str(rng.choice(list(KINDS), p=_WEIGHTS / _WEIGHTS.sum()))
    shapes, effects = KINDS[kind]
    image, total = scene.image, np.zeros_like(scene.part)
    shape, effect = shapes[int(rng.integers(len(shapes)))], effects[int(rng.integers(len(effects)))]
    radius = float(math.exp(rng.uniform(math.log(0.04), math.log(0.42))))
    for _ in range(int(pick(rng, 1, 1, 1, 2, 3))):
        alpha = shape(scene, rng, radius)
        if shape is not _bite:
            alpha = alpha * (scene.part > 0.5)
        alpha = np.where(alpha < VISIBLE, np.float32(0), alpha).astype(np.float32)
        image = effect(Scene(image=image, part=scene.part, behind=scene.behind), rng, alpha, radius)
        total = np.maximum(total, alpha)
        radius *= rng.uniform(0.4, 1.0)
    image = np.clip(image, 0, 1).astype(np.float32)
    change = np.abs(image - scene.image).max(axis=-1)
    within = total > 0
    if effect in {_pressed, _alien, _groove}:  # shade or a lip falls beside the shape
        near = cv2.dilate(within.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        within = within | (near & (change > 0.04))
    mask = within & (change > 0.02)
    kernel = np.ones((5, 5), np.uint8)
    closed = (cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0) & within
    image = np.where(closed[..., None], image, scene.image)
    if closed.mean() < _SMALLEST or closed.mean() > _LARGEST or float(change[closed].mean()) < _CLEAR:
        return None
    return image, closed, kind
