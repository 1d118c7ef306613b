"""Labelled sets of drawn pictures on disk: to train CoPS on, to choose constants by, to test on what no training saw.

A set is a folder of PNG files with a `manifest.csv` (uri, label, mask_uri, category, kind), which `--dataset plain`
reads.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.embedded import heldout
from pipeline.embedded.folder import keep_to
from pipeline.embedded.world import twins
from pipeline.samples import catalog
from pipeline.samples.catalog import Picture
from pipeline.samples.plan import encode

MANIFEST = "manifest.csv"
_COLUMNS = ("uri", "label", "mask_uri", "category", "kind")
_GOOD, _WORLD = "good", "world"
_DIGEST_PX = 96
_CROWDS = 0.3  # the share of scenes of many pieces


@dataclass(frozen=True)
class Labelled:
    """A drawn picture with its place in a set."""

    picture: Picture
    category: str
    kind: str


def write_set(folder: Path, drawn: Iterable[Labelled], recipe: Mapping[str, Any]) -> Path:
    """Write a set and return its manifest, whose being there says that the set is whole.

    Args:    recipe: what decides the pictures.
    Raises:  InputError: the folder holds a set of another recipe.
    """
    keep_to(folder, recipe)
    manifest = folder / MANIFEST
    if manifest.exists():
        return manifest
    rows = [_write(folder, number, one) for number, one in enumerate(drawn)]
    partial = manifest.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(rows)
    partial.replace(manifest)
    return manifest


def world_pictures(seed: int, count: int, side: int) -> Iterator[Labelled]:
    """So many twins of a world, as two pictures each, in one category."""
    for index in range(count):
        pair = twins(seed, index, side, crowds=_CROWDS)
        yield Labelled(Picture(image=pair.normal, mask=np.zeros_like(pair.mask)), _WORLD, _GOOD)
        if pair.mask.any():
            yield Labelled(Picture(image=pair.damaged, mask=pair.mask), _WORLD, pair.state)


def unseen_pictures(seed: int, *, normal: int, of_a_kind: int, side: int) -> Iterator[Labelled]:
    """Products and kinds of defects that no training saw.

    Raises:  InputError: the pictures are too small for their defects.
    """
    for category in heldout.CATEGORIES:
        for index, kind in _plan(heldout.KINDS, normal, of_a_kind):
            picture = heldout.draw(category, kind, seed=seed, index=index, size_px=side)
            yield Labelled(picture, category, kind or _GOOD)


def unseen_products(seed: int, *, normal: int, of_a_kind: int, side: int) -> Iterator[Labelled]:
    """Products that no training saw, with the sample archive's own kinds of defects, which it did."""
    for category in heldout.CATEGORIES:
        for index, kind in _plan(catalog.CATEGORIES[category].defects, normal, of_a_kind):
            picture = catalog.draw(category, kind, seed=seed, index=index, size_px=side)
            yield Labelled(picture, category, kind or _GOOD)


def _plan(kinds: Iterable[str], normal: int, of_a_kind: int) -> Iterator[tuple[int, str | None]]:
    return enumerate([None] * normal + [kind for kind in kinds for _ in range(of_a_kind)])


def digest_unseen() -> str:
    """Of a small picture of each product and kind: tells whether they are still drawn as they were."""
    found = hashlib.sha256()
    for draw in (unseen_pictures, unseen_products):
        for one in draw(0, normal=1, of_a_kind=1, side=_DIGEST_PX):
            found.update(one.picture.image.tobytes() + one.picture.mask.tobytes())
    return found.hexdigest()[:16]


def _write(folder: Path, number: int, one: Labelled) -> dict[str, str | int]:
    name = f"{one.category}/{one.kind}/{number:05d}.png"
    image = folder / "images" / name
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(encode(one.picture.image, ".png"))
    row: dict[str, str | int] = {
        "uri": f"images/{name}",
        "label": int(one.kind != _GOOD),
        "mask_uri": "",
        "category": one.category,
        "kind": one.kind,
    }
    if row["label"]:
        mask = folder / "masks" / name
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(encode(one.picture.mask.astype(np.uint8) * 255, ".png"))
        row["mask_uri"] = f"masks/{name}"
    return row
