"""What the drawn pictures promise: seeded, distinct, and true to their masks."""

import cv2
import numpy as np
import pytest

from pipeline.samples.camera import BLUR_REACH_PX
from pipeline.samples.catalog import CATEGORIES, DEFECTS, draw
from pipeline.samples.fields import wrap
from pipeline.samples.plan import Settings, entry, fate

PAIRS = [(category, defect) for category, product in CATEGORIES.items() for defect in product.defects]


def test_enough_kinds() -> None:
    """At least six textures, six objects and nine defects, and every defect is used."""
    surfaces = [name for name, product in CATEGORIES.items() if "broken" in product.defects]
    assert len(surfaces) >= 6
    assert len(CATEGORIES) - len(surfaces) >= 6
    assert len(DEFECTS) >= 9
    assert {defect for _, defect in PAIRS} == set(DEFECTS)


@pytest.mark.parametrize(("category", "defect"), PAIRS)
def test_defect_stays_inside_its_mask(category: str, defect: str) -> None:
    """Beyond the lens's reach around the mask a defective picture equals its twin; inside it differs."""
    for index in range(2):
        spoilt = draw(category, defect, seed=5, index=index, size_px=96)
        twin = draw(category, None, seed=5, index=index, size_px=96)
        difference = np.abs(spoilt.image.astype(int) - twin.image).reshape(96, 96, -1).max(axis=2)
        near = cv2.dilate(spoilt.mask.astype(np.uint8), np.ones((2 * BLUR_REACH_PX + 1,) * 2, np.uint8))
        assert spoilt.mask.sum() >= 3
        assert spoilt.mask.mean() < 0.6
        assert not twin.mask.any()
        assert difference[near == 0].max(initial=0) == 0
        assert difference[spoilt.mask].mean() > 4


@pytest.mark.parametrize("category", CATEGORIES)
def test_pictures_are_functions_of_seed_and_index(category: str) -> None:
    """The same seed and index draw the same picture; another of either draws another."""
    first = draw(category, None, seed=1, index=3, size_px=64).image
    assert first.shape == ((64, 64) if CATEGORIES[category].grey else (64, 64, 3))
    assert first.dtype == np.uint8
    assert first.std() > 3
    assert np.array_equal(first, draw(category, None, seed=1, index=3, size_px=64).image)
    assert not np.array_equal(first, draw(category, None, seed=1, index=4, size_px=64).image)
    assert not np.array_equal(first, draw(category, None, seed=2, index=3, size_px=64).image)


@pytest.mark.parametrize("size_px", [32, 33, 130])
def test_any_size(size_px: int) -> None:
    """Sizes that are odd, or smaller than the finest pattern, work for all categories and defects."""
    for number, (category, defect) in enumerate(PAIRS):
        picture = draw(category, defect, seed=0, index=number, size_px=size_px)
        assert picture.image.shape[:2] == picture.mask.shape == (size_px, size_px)
        assert picture.mask.any()


def test_no_two_pictures_alike() -> None:
    """Neither the pictures nor their encoded bytes repeat."""
    settings = Settings(size=32, count=400)
    assert len({entry(settings, index).image_bytes for index in range(400)}) == 400


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 1.0])
def test_prefixes_hold_their_share(rate: float) -> None:
    """Every prefix has about the asked-for share of defects, and categories take turns."""
    settings = Settings(anomaly_rate=rate, count=1)
    names = settings.category_names
    fates = [fate(settings, index) for index in range(40 * len(names))]
    assert tuple(category for category, _ in fates[: len(names)]) == names
    for rounds in (10, 20, 40):
        anomalous = sum(defect is not None for _, defect in fates[: rounds * len(names)])
        assert abs(anomalous - rate * rounds * len(names)) <= len(names)


def test_every_defect_has_its_turn() -> None:
    """An archive of moderate size holds each category's defects about equally often."""
    settings = Settings(categories="nut", anomaly_rate=0.5)
    kinds = [fate(settings, index)[1] for index in range(44)]
    counts = {kind: kinds.count(kind) for kind in CATEGORIES["nut"].defects}
    assert set(counts.values()) <= {1, 2, 3}


def test_wrap() -> None:
    """Worked out by hand: values come into [-period/2, period/2)."""
    values = np.asarray([[0.0, 0.4, 0.6, 1.0, -0.6]], np.float32)
    assert np.allclose(wrap(values, 1.0), [[0.0, 0.4, -0.4, 0.0, 0.4]], atol=1e-6)
