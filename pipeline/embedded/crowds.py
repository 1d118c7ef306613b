"""Chance scenes of many pieces: parts spilt on a belt, and assemblies of components on a carrier.

What a good picture holds is often busier than what is wrong with it. Pieces are drawn once and laid down several times.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from pipeline.embedded.objects import body, ground, shadow
from pipeline.embedded.surfaces import near_colour, pick, some_colour
from pipeline.samples.fields import Colour, Plane, Scene, coverage, frame, mix, soften, spread

_FILL = 0.9  # of a piece's own canvas
_SMALLEST_PX = 6
_DRAWN_PX = 64  # at least; smaller pieces are drawn at this size and shrunk


@dataclass(frozen=True)
class _Piece:
    """A drawn object on a canvas of its own."""

    image: Colour
    alpha: Plane


@dataclass(frozen=True)
class _Place:
    """Where a piece lies: centre and reach in [-1, 1] of the picture, and how it is turned."""

    x: float
    y: float
    reach: float
    angle: float


def some_crowd(side: int, rng: Generator) -> tuple[Scene, str]:
    """Pieces spilt at random, or an assembly; and the noun."""
    return _spilt(side, rng) if rng.uniform() < 0.4 else _assembly(side, rng)


def _spilt(side: int, rng: Generator) -> tuple[Scene, str]:
    """Several alike, each turned by chance, none on another."""
    below = ground(side, rng)
    count = int(rng.integers(2, 16))
    reach = min(0.45, rng.uniform(0.5, 0.9) / math.sqrt(count))
    piece, noun = _piece(side, reach, rng)
    free = rng.uniform() < 0.7  # else all lie the same way
    scene = Scene(image=below, part=np.zeros((side, side), np.float32), behind=below)
    places: list[_Place] = []
    for _ in range(4 * count):
        x, y = rng.uniform(-0.95 + 0.7 * reach, 0.95 - 0.7 * reach, 2)
        if len(places) < count and all((x - p.x) ** 2 + (y - p.y) ** 2 > (1.9 * reach) ** 2 for p in places):
            angle = rng.uniform(0, math.tau) if free else rng.normal(0, 0.06)
            places.append(_Place(float(x), float(y), reach * float(math.exp(rng.normal(0, 0.04))), angle))
    depth = rng.uniform(0, 0.6)
    for place in places:
        scene = _lay(scene, piece, place, light=float(math.exp(rng.normal(0, 0.05))), depth=depth)
    return scene, noun


def _assembly(side: int, rng: Generator) -> tuple[Scene, str]:
    """A carrier, lines on it, and components of a few kinds in rows, rings, pairs and alone."""
    below = ground(side, rng)
    tilt = rng.normal(0, 0.05) if rng.uniform() < 0.5 else rng.uniform(0, math.tau)
    centre = rng.uniform(-0.12, 0.12, 2)
    size = rng.uniform(0.55, 0.8) if rng.uniform() < 0.7 else rng.uniform(0.9, 1.5)
    u, v = (plane.astype(np.float32) for plane in frame(side, centre_xy=tuple(centre), angle=tilt, scale=size))
    surface, distance, _ = body(side, u, v, rng, calm=rng.uniform(0.02, 0.3))
    alpha = coverage(distance, size)
    surface = _lines(surface, u, v, rng)
    scene = Scene(image=mix(below * spread(1 - shadow(alpha, rng)), surface, alpha), part=alpha, behind=below)
    across, along = math.cos(tilt) * size, math.sin(tilt) * size
    depth = rng.uniform(0, 0.6)
    for _ in range(int(rng.integers(2, 7))):
        reach = float(math.exp(rng.uniform(math.log(0.04), math.log(0.4))))
        piece, _ = _piece(side, reach * size, rng)
        for x, y, turn in _pattern(reach, rng):
            at = centre[0] + across * x - along * y, centre[1] + along * x + across * y
            scene = _lay(scene, piece, _Place(*at, reach * size, tilt + turn), light=1.0, depth=depth)
    return scene, "product"


def _pattern(reach: float, rng: Generator) -> list[tuple[float, float, float]]:
    """Places and turns on the carrier, within [-0.8, 0.8]: regular, as a designer sets them."""
    x, y = rng.uniform(-0.75, 0.75, 2) * max(0.2, 1 - reach)
    turn = float(pick(rng, 0, 0, math.pi / 2, math.pi / 4))
    kind = int(rng.integers(5)) if reach < 0.25 else 4
    if kind == 0:  # a row
        count, pitch = int(rng.integers(2, 10)), reach * rng.uniform(2.1, 3)
        steps = (np.arange(count) - (count - 1) / 2) * pitch
        row = [(s, y, turn) if turn < 1 else (x, s, turn) for s in steps.tolist() if abs(s) < 0.85]
        return (
            row
            if rng.uniform() < 0.6
            else [*row, *((-a if turn >= 1 else a, -b if turn < 1 else b, turn) for a, b, _ in row)]
        )
    if kind == 1:  # four corners
        return [(a * abs(x), b * abs(y), turn) for a in (-1, 1) for b in (-1, 1)]
    if kind == 2:  # a ring
        count, at = int(rng.integers(3, 9)), rng.uniform(max(0.3, 3 * reach), 0.8)
        bearings = np.arange(count) * math.tau / count + rng.uniform(0, math.tau)
        return [(at * math.cos(b), at * math.sin(b), float(b)) for b in bearings]
    if kind == 3:  # a mirrored pair
        return [(x, y, turn), (-x, y, turn)]
    return [(x, y, turn)]


def _lines(surface: Colour, u: Plane, v: Plane, rng: Generator) -> Colour:
    """Traces, seams, printed frames: thin lines along the carrier's axes."""
    colour = near_colour(some_colour(rng), rng, 0.2)
    for _ in range(int(pick(rng, 0, 2, 4, 8))):
        width, (x, y) = rng.uniform(0.008, 0.03), rng.uniform(-0.8, 0.8, 2)
        long, short = (u - x, v - y) if rng.uniform() < 0.5 else (v - y, u - x)
        reach = rng.uniform(0.1, 0.7)
        line = coverage(np.maximum(np.abs(short) - width, np.abs(long) - reach).astype(np.float32))
        surface = mix(surface, colour, line * np.float32(rng.uniform(0.3, 0.9)))
    return surface


def _piece(side: int, reach: float, rng: Generator) -> tuple[_Piece, str]:
    wanted = max(_SMALLEST_PX, round(side * reach / _FILL))
    canvas = max(_DRAWN_PX, wanted)
    u, v = (plane.astype(np.float32) for plane in frame(canvas, scale=_FILL))
    image, distance, noun = body(canvas, u, v, rng)
    alpha = coverage(distance, _FILL)
    if wanted < canvas:
        image, alpha = (cv2.resize(plane, (wanted, wanted), interpolation=cv2.INTER_AREA) for plane in (image, alpha))
    return _Piece(image=image, alpha=alpha), noun


def _lay(scene: Scene, piece: _Piece, place: _Place, *, light: float, depth: float) -> Scene:
    """The piece on top of the scene, with the shade that it casts beside itself."""
    side, canvas = scene.size_px, piece.alpha.shape[0]
    zoom = place.reach * side / (_FILL * canvas)
    matrix = cv2.getRotationMatrix2D((canvas / 2 - 0.5, canvas / 2 - 0.5), -math.degrees(place.angle), zoom)
    matrix[:, 2] += np.asarray([place.x + 1, place.y + 1]) * side / 2 - canvas / 2
    image = cv2.warpAffine(piece.image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(piece.alpha, matrix, (side, side))
    shade = soften(np.roll(alpha, 2, (0, 1)), side * 0.008) * np.float32(depth)
    ground_ = scene.image * spread((1 - shade * (1 - alpha)).astype(np.float32))
    lit = np.clip(image * np.float32(light), 0, 1)
    return Scene(image=mix(ground_, lit, alpha), part=np.maximum(scene.part, alpha), behind=scene.behind)
