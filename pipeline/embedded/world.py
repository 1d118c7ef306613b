"""Training pictures of the procedural world: a subject, the same subject damaged, where, and what a caption says."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from numpy.random import Generator

from pipeline.embedded.crowds import some_crowd
from pipeline.embedded.damage import damage
from pipeline.embedded.objects import some_objects
from pipeline.embedded.surfaces import some_surface
from pipeline.samples import catalog
from pipeline.samples.camera import expose, shoot
from pipeline.samples.catalog import stream
from pipeline.samples.fields import Colour, Scene, frame, spread

NOUNS = {
    "woven": "fabric",
    "wood": "wood",
    "brushed_metal": "metal",
    "carpet": "carpet",
    "marble": "stone",
    "nut": "nut",
    "bolt": "bolt",
    "tablet": "tablet",
    "bottle_top": "cap",
    "pin_header": "connector",
}
"""The sample archive's products that are trained on, as captions name them; the others are kept for testing."""
STATES_OF_SAMPLES = {
    "scratch": "scratched",
    "crack": "cracked",
    "dent": "dented",
    "hole": "pierced",
    "blob": "contaminated",
    "stain": "stained",
    "discolour": "discoloured",
    "specks": "spotted",
    "missing": "chipped",
    "foreign": "contaminated",
    "bent": "bent",
    "broken": "torn",
}
"""The sample archive's kinds of defects, as captions name them."""
TRAINED_CATEGORIES = tuple(NOUNS)


@dataclass(frozen=True)
class Twins:
    """A picture without a defect, its twin with one, where they differ, and the words of both."""

    normal: UInt8[np.ndarray, "h w 3"]
    damaged: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    noun: str
    state: str


def twins(seed: int, index: int, side: int, *, crowds: float = 0.0) -> Twins:
    """Picture number `index` of a world; a function of its arguments alone.

    Args:    crowds: the share of scenes of many pieces.
    """
    rng = stream(seed, 77, index)
    scene, noun, category = _subject(rng, side, crowds)
    if rng.uniform() < 0.4:
        scene = replace(scene, image=_uneven(scene, rng))
    found = None
    for _ in range(8):
        found = _sample_damage(scene, category, rng) if category and rng.uniform() < 0.5 else damage(scene, rng)
        if found:
            break
    if found is None:
        image, mask, state = scene.image, np.zeros((side, side), np.bool_), ""
    else:
        image, mask, state = found
    lens = int(rng.integers(1 << 62))
    if rng.uniform() < 0.75:  # most photographs are well exposed
        gain = np.float32(rng.uniform(0.6, 1.05) / max(float(np.quantile(scene.image[::4, ::4], 0.995)), 0.05))
        scene, image = replace(scene, image=np.clip(scene.image * gain, 0, 1)), np.clip(image * gain, 0, 1)
    normal, damaged = (_photograph(picture, lens, side) for picture in (scene.image, image))
    if rng.uniform() < 0.5:
        normal, damaged, mask = (np.ascontiguousarray(np.rot90(plane)) for plane in (normal, damaged, mask))
    return Twins(normal, damaged, mask, noun, state)


def digest() -> str:
    """Of a few small pictures: tells whether the world is still drawn as it was."""
    found = hashlib.sha256()
    for index in range(8):
        pair = twins(0, index, 64, crowds=0.5)
        found.update(pair.normal.tobytes() + pair.damaged.tobytes() + pair.mask.tobytes())
    return found.hexdigest()[:16]


def _subject(rng: Generator, side: int, crowds: float) -> tuple[Scene, str, str | None]:
    if crowds and rng.uniform() < crowds:
        return *some_crowd(side, rng), None
    choice = rng.uniform()
    if choice < 0.25:
        category = str(rng.choice(TRAINED_CATEGORIES))
        seeds = rng.integers(1 << 60, size=2)
        scene = catalog.CATEGORIES[category].scene(side, stream(int(seeds[0])), stream(int(seeds[1])))
        return scene, NOUNS[category], category
    if choice < 0.55:
        image, noun = some_surface(side, rng)
        behind = np.broadcast_to(np.asarray(rng.uniform(0, 0.4, 3), np.float32), image.shape)
        return Scene(image=image, part=np.ones((side, side), np.float32), behind=behind), noun, None
    scene, noun = some_objects(side, rng)
    return scene, noun, None


def _uneven(scene: Scene, rng: Generator) -> Colour:
    """The subject with faint wide shades, as good parts have them: not every difference is a defect."""
    image = scene.image
    for _ in range(int(rng.integers(1, 5))):
        u, v = frame(
            scene.size_px,
            centre_xy=(rng.uniform(-1, 1), rng.uniform(-1, 1)),
            angle=rng.uniform(0, math.pi),
            scale=rng.uniform(0.1, 0.6),
        )
        shade = np.exp(-(u * u + v * v * rng.uniform(0.5, 4))) * scene.part
        tint = (1 + rng.normal(0, 0.09) + rng.normal(0, 0.03, 3)).astype(np.float32)
        image = image * (1 + spread(shade.astype(np.float32)) * (tint - 1))
    clipped: Colour = np.clip(image, 0, 1)
    return clipped


def _sample_damage(scene: Scene, category: str, rng: Generator) -> tuple[Colour, Bool[np.ndarray, "h w"], str] | None:
    kind = str(rng.choice(catalog.CATEGORIES[category].defects))
    image, mask = catalog.DEFECTS[kind](scene, rng)
    if mask.mean() < 0.0004 or float(np.abs(image[mask] - scene.image[mask]).mean()) < 0.06:
        return None
    return image, mask, STATES_OF_SAMPLES[kind]


def _photograph(image: Colour, lens: int, side: int) -> UInt8[np.ndarray, "h w 3"]:
    """The camera: light, cast, blur, noise, and now and then what a codec or a scaler does. The same for twins."""
    style, rng = stream(lens, 1), stream(lens, 2)
    extra = stream(lens, 3)
    gamma, zoom = float(np.exp(extra.normal(0, 0.25))), extra.uniform()
    exposure = expose(side, style, rng, grey=bool(extra.uniform() < 0.25))
    shot = shoot(np.power(np.clip(image, 0, 1), np.float32(gamma)), exposure)
    picture: UInt8[np.ndarray, "h w 3"] = shot if shot.ndim == 3 else np.stack([shot] * 3, axis=-1)
    if zoom < 0.3:
        small = round(side * extra.uniform(0.4, 0.9))
        shrunk = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_CUBIC)
    if extra.uniform() < 0.4:
        quality = int(extra.integers(40, 95))
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        picture = decoded
    return picture
