"""Overlays: one colour scale, the caller's."""

import numpy as np
import pytest
from PIL import Image

from cops.errors import ShapeError
from cops.overlay import OUTLINE_RGB, heat_overlay, outline, with_colour_bar

GREY = Image.new("RGB", (40, 30), (128, 128, 128))


def test_the_scale_is_the_callers():
    """One score has one colour, whatever else is in its picture; beyond the ends, the ends' colours."""
    low, high = np.zeros((30, 40)), np.zeros((30, 40))
    high[0, 0] = 5.0
    colours = [np.asarray(heat_overlay(GREY, heat, vmin=0.0, vmax=1.0)) for heat in (low, high)]
    assert colours[0][5, 5].tolist() == colours[1][5, 5].tolist()
    at_end = np.asarray(heat_overlay(GREY, np.ones((30, 40)), vmin=0.0, vmax=1.0))
    assert colours[1][0, 0].tolist() == at_end[0, 0].tolist() != colours[0][0, 0].tolist()


def test_a_level_is_outlined():
    """The region at or above the level gets an edge, its inside does not."""
    heat = np.zeros((30, 40))
    heat[10:20, 10:20] = 0.7
    drawn = np.asarray(heat_overlay(GREY, heat, vmin=0.0, vmax=1.0, level=0.7))
    assert tuple(drawn[10, 10]) == OUTLINE_RGB
    assert tuple(drawn[15, 15]) != OUTLINE_RGB != tuple(drawn[9, 9])


def test_outline_by_hand():
    """A 3×3 square's edge is its 8 outer pixels; an empty mask has none."""
    mask = np.zeros((5, 5), bool)
    assert not outline(mask).any()
    mask[1:4, 1:4] = True
    edge = mask.copy()
    edge[2, 2] = False
    np.testing.assert_array_equal(outline(mask), edge)


@pytest.mark.parametrize("size", [(40, 30), (300, 500)])
def test_the_bar_stands_beside_the_picture(size):
    """The picture is whole, the bar adds width alone, or height where the picture is too small for numbers."""
    picture = Image.new("RGB", size, (10, 20, 30))
    joined = with_colour_bar(picture, vmin=0.0, vmax=0.5, level=0.2)
    assert joined.width > picture.width
    assert joined.height == max(200, picture.height)
    top = (joined.height - picture.height) // 2
    assert joined.crop((0, top, picture.width, top + picture.height)).tobytes() == picture.tobytes()
    bar = np.asarray(joined)[:, picture.width :]
    assert len(np.unique(bar.reshape(-1, 3), axis=0)) > 50


def test_misfits_are_refused():
    """Another size, or a scale without extent."""
    with pytest.raises(ShapeError, match=r"map is \(40, 30\), the picture \(30, 40\)"):
        heat_overlay(GREY, np.zeros((40, 30)), vmin=0.0, vmax=1.0)
    with pytest.raises(ShapeError, match="is empty"):
        heat_overlay(GREY, np.zeros((30, 40)), vmin=1.0, vmax=1.0)
