"""The procedural world: pictures that depend on their number alone, and masks that say where twins differ."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.embedded import crowds, damage, heldout, objects, surfaces, world
from pipeline.samples import catalog
from pipeline.samples.catalog import stream

SIDE = 96


@pytest.fixture(scope="module")
def pairs() -> list[world.Twins]:
    return [world.twins(5, index, SIDE) for index in range(60)]


def test_a_picture_depends_on_its_number_alone(pairs: list[world.Twins]) -> None:
    """Not on what was drawn before it."""
    again = world.twins(5, 17, SIDE)
    assert np.array_equal(again.normal, pairs[17].normal) and np.array_equal(again.damaged, pairs[17].damaged)
    assert not np.array_equal(world.twins(6, 17, SIDE).normal, again.normal)


def test_twins_differ_where_the_mask_says(pairs: list[world.Twins]) -> None:
    """Clearly within it and hardly elsewhere."""
    inside, outside = [], []
    for pair in pairs:
        change = np.abs(pair.normal.astype(int) - pair.damaged).max(axis=-1)
        if pair.mask.any():
            inside.append(change[pair.mask].mean())
            outside.append(change[~pair.mask].mean())
    assert len(inside) > 55
    assert np.mean(outside) < 0.05 * np.mean(inside)
    assert np.median(inside) > 10  # of 255: most defects can be seen


def test_pictures_are_of_many_kinds(pairs: list[world.Twins]) -> None:
    """Nouns, kinds of defects, and areas from small to half of the picture."""
    assert len({pair.noun for pair in pairs}) > 12 and len({pair.state for pair in pairs}) > 9
    assert {pair.normal.shape for pair in pairs} == {(SIDE, SIDE, 3)}
    areas = [pair.mask.mean() for pair in pairs if pair.mask.any()]
    assert min(areas) < 0.01 and 0.05 < max(areas) <= 0.5


@pytest.mark.parametrize("kind", list(damage.KINDS))
def test_a_defect_changes_nothing_outside_its_mask(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the camera, to the bit."""
    monkeypatch.setattr(damage, "KINDS", {kind: damage.KINDS[kind]})
    monkeypatch.setattr(damage, "_WEIGHTS", np.ones(1))
    seen = 0
    for number in range(12):
        rng = stream(9, number)
        scene, _ = objects.some_objects(SIDE, rng)
        if found := damage.damage(scene, rng):
            image, mask, word = found
            assert (
                word == kind
                and np.array_equal(image[~mask], scene.image[~mask])
                and not np.array_equal(image, scene.image)
            )
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("family", list(surfaces.FAMILIES))
def test_surfaces_are_neither_blank_nor_out_of_range(family: str) -> None:
    """Every family draws something, and something else each time."""
    draw, nouns = surfaces.FAMILIES[family]
    drawn = [draw(SIDE, stream(3, number)) for number in range(6)]
    assert nouns and all(image.dtype == np.float32 and np.isfinite(image).all() for image in drawn)
    assert np.median([image.std() for image in drawn]) > 0.004
    assert not np.array_equal(drawn[0], drawn[1])


def test_crowds_are_scenes_of_their_own() -> None:
    """Pictures that depend on their number alone, with damage that can be seen."""
    pairs = [world.twins(5, index, SIDE, crowds=1.0) for index in range(12)]
    assert np.array_equal(world.twins(5, 3, SIDE, crowds=1.0).damaged, pairs[3].damaged)
    changes = [np.abs(pair.normal.astype(int) - pair.damaged)[pair.mask].mean() for pair in pairs if pair.mask.any()]
    assert len(changes) > 9 and np.median(changes) > 10


def test_crowds_hold_several_pieces() -> None:
    """Parts in many islands, and beside the parts nothing but their shade on the ground."""
    found = []
    for number in range(12):
        scene, _ = crowds.some_crowd(SIDE, stream(11, number))
        assert scene.image.dtype == np.float32 and np.isfinite(scene.image).all() and scene.image.min() >= 0
        beside = scene.part == 0
        assert (scene.image[beside] <= scene.behind[beside] + 1e-5).all()
        found.append(cv2.connectedComponents((scene.part > 0.5).astype(np.uint8))[0] - 1)
    assert min(found) >= 1 and max(found) >= 6


def test_what_is_kept_for_testing_is_in_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a held-out product nor a held-out kind of defect is ever asked for by the world."""

    def asked(*_: object) -> None:
        raise AssertionError("drawn for training")

    kept = {name: replace(catalog.CATEGORIES[name], scene=asked) for name in heldout.CATEGORIES}
    monkeypatch.setattr(catalog, "CATEGORIES", catalog.CATEGORIES | kept)
    for kind in heldout.KINDS:
        monkeypatch.setitem(heldout.KINDS, kind, asked)
    assert len(kept) == 9 and len(heldout.KINDS) == 5
    nouns = {world.twins(7, index, 48, crowds=0.3 * (index % 2)).noun for index in range(400)}
    assert set(world.NOUNS.values()) <= nouns
    with pytest.raises(AssertionError, match="drawn for training"):
        heldout.draw("washer", None, seed=0, index=0, size_px=48)


@pytest.mark.parametrize("category", heldout.CATEGORIES)
def test_unseen_defects_can_be_seen(category: str) -> None:
    """Within their mask, on every product."""
    for number, kind in enumerate(heldout.KINDS):
        picture = heldout.draw(category, kind, seed=1, index=number, size_px=SIDE)
        twin = heldout.draw(category, None, seed=1, index=number, size_px=SIDE)
        change = np.abs(picture.image.astype(int) - twin.image)
        change = change if change.ndim == 2 else change.max(axis=-1)
        assert picture.mask.sum() > 15 and not twin.mask.any()
        assert change[picture.mask].mean() > 8
        assert change[~picture.mask].mean() < 0.2 * change[picture.mask].mean()
