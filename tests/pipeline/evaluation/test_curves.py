"""Curves as pictures."""

import io

import numpy as np
import pytest
from making import counted, two_categories
from PIL import Image

from pipeline.evaluation.curves import draw_curves
from pipeline.evaluation.measures import measure


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(("thing", "panels"), [("I", 2), ("P", 3)])
def test_a_panel_for_each_kind_of_curve(thing, panels):
    """Two of images, three of pixels, and a column for the names."""
    drawn = picture(draw_curves(two_categories(), thing=thing, title="t"))
    assert drawn.shape == (504, round((3.6 * panels + 2.4) * 120), 3)
    blue = np.array([31, 119, 180])  # the first category's line
    assert (np.abs(drawn.astype(int) - blue).sum(axis=2) < 30).any()


def test_many_categories_have_no_legend():
    """Their colours could not be told apart."""
    few, many = ([measure(str(at), counted(at)) for at in range(count)] for count in (20, 21))
    widths = [picture(draw_curves(categories, thing="I", title="t")).shape[1] for categories in (few, many)]
    assert widths == [round((3.6 * 2 + 2.4) * 120), round(3.6 * 2 * 120)]


def test_nothing_to_draw_is_no_picture():
    """Without masks there are no curves of pixels; without normal images, none of images."""
    assert draw_curves([measure("c", counted(masks=False))], thing="P", title="t") is None
    assert draw_curves([measure("c", counted(normal=0))], thing="I", title="t") is None


@pytest.mark.parametrize("name", ["US$_5$", "_hidden", "$\\frac$"])
def test_any_name_of_a_category_is_shown(name):
    """Dollars are no formulas, and an underscore hides nothing: another name is another picture."""
    one, other = (draw_curves([measure(shown, counted(1))], thing="I", title="t") for shown in (name, name + "x"))
    assert not np.array_equal(picture(one), picture(other))
