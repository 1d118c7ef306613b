"""The products and the defects, and picture number i of an archive."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.random import Generator, SeedSequence, default_rng

from pipeline.samples import defects, electronics, objects, shape_defects, textures
from pipeline.samples.camera import expose, shoot
from pipeline.samples.fields import Scene

SceneFunction = Callable[[int, Generator, Generator], Scene]
DefectFunction = Callable[[Scene, Generator], defects.Damage]

DEFECTS: dict[str, DefectFunction] = {
    "scratch": defects.scratch,
    "crack": defects.crack,
    "dent": defects.dent,
    "hole": shape_defects.hole,
    "blob": defects.blob,
    "stain": defects.stain,
    "discolour": defects.discolour,
    "specks": defects.specks,
    "missing": shape_defects.missing,
    "foreign": shape_defects.foreign,
    "bent": shape_defects.bent,
    "broken": shape_defects.broken,
}
_ON_OBJECTS = tuple(name for name in DEFECTS if name != "broken")
_ON_SURFACES = tuple(name for name in DEFECTS if name != "bent")
_ON_CLOTH = tuple(name for name in _ON_SURFACES if name not in {"dent", "crack"})

_STYLE, _SUBJECT, _DEFECT, _CAMERA = range(4)
_TRIES = 6  # a defect that cannot be seen (a dark speck on dark) is drawn again so often
_CLEAR = 0.07  # mean change inside the mask, of full scale, that counts as seen


@dataclass(frozen=True, kw_only=True)
class Category:
    """A product: how to draw it, the defects it may have, whether its camera is monochrome."""

    scene: SceneFunction
    defects: tuple[str, ...]
    grey: bool = False


CATEGORIES: dict[str, Category] = {
    "woven": Category(scene=textures.woven, defects=_ON_CLOTH),
    "wood": Category(scene=textures.wood, defects=_ON_SURFACES),
    "brushed_metal": Category(scene=textures.brushed_metal, defects=_ON_SURFACES, grey=True),
    "leather": Category(scene=textures.leather, defects=_ON_SURFACES),
    "tiles": Category(scene=textures.tiles, defects=_ON_SURFACES),
    "mesh": Category(scene=textures.mesh, defects=_ON_CLOTH, grey=True),
    "carpet": Category(scene=textures.carpet, defects=_ON_CLOTH),
    "marble": Category(scene=textures.marble, defects=_ON_SURFACES),
    "terrazzo": Category(scene=textures.terrazzo, defects=_ON_SURFACES),
    "nut": Category(scene=objects.nut, defects=_ON_OBJECTS, grey=True),
    "washer": Category(scene=objects.washer, defects=_ON_OBJECTS),
    "bolt": Category(scene=objects.bolt, defects=_ON_OBJECTS),
    "gear": Category(scene=objects.gear, defects=_ON_OBJECTS),
    "tablet": Category(scene=objects.tablet, defects=_ON_OBJECTS),
    "capsule": Category(scene=objects.capsule, defects=_ON_OBJECTS),
    "bottle_top": Category(scene=objects.bottle_top, defects=_ON_OBJECTS),
    "biscuit": Category(scene=objects.biscuit, defects=_ON_OBJECTS),
    "board": Category(scene=electronics.board, defects=_ON_OBJECTS),
    "pin_header": Category(scene=electronics.pin_header, defects=_ON_OBJECTS),
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture and where it is defective (nowhere, if it is normal)."""

    image: UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]


def stream(seed: int, *keys: int) -> Generator:
    """An own stream of chance for every purpose, so that no draw shifts another."""
    return default_rng(SeedSequence((seed, *keys)))


def draw(category: str, defect: str | None, *, seed: int, index: int, size_px: int) -> Picture:
    """Picture `index` of an archive: a function of its arguments alone.

    With `defect=None` it is the twin: the same part, light and noise without the defect.
    """
    product, kind = CATEGORIES[category], zlib.crc32(category.encode())
    scene = product.scene(size_px, stream(seed, _STYLE, kind), stream(seed, _SUBJECT, kind, index))
    assert scene.image.dtype == scene.part.dtype == scene.behind.dtype == np.float32
    mask = np.zeros((size_px, size_px), np.bool_)
    exposure = expose(size_px, stream(seed, _STYLE, kind, 1), stream(seed, _CAMERA, kind, index), grey=product.grey)
    if defect is not None:
        scene, mask = damage(scene, defect, stream(seed, _DEFECT, kind, index))
    return Picture(image=shoot(scene.image, exposure), mask=mask)


def damage(scene: Scene, defect: str, rng: Generator) -> tuple[Scene, Bool[np.ndarray, "h w"]]:
    """The scene with a defect that can be seen; of several tries the clearest."""
    best: tuple[float, defects.Damage] | None = None
    for _ in range(_TRIES):
        image, mask = DEFECTS[defect](scene, rng)
        if not mask.any():
            continue
        change = float(np.abs(image[mask] - scene.image[mask]).mean())
        if best is None or change > best[0]:
            best = change, (image, mask)
        if change > _CLEAR:
            break
    assert best is not None and best[1][0].dtype == np.float32, f"{defect} left no mark in {_TRIES} tries"
    image, mask = best[1]
    return replace(scene, image=image), mask
