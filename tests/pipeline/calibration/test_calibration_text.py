"""What the summary says of groups: whose thresholds are whose, and what to beware of."""

import datetime
from typing import Any

from pipeline.calibration import CalibrateConfig
from pipeline.calibration.calibrate import Calibration, GroupLevels
from pipeline.calibration.levels import Level
from pipeline.calibration.output import as_text
from pipeline.calibration.rates import Found


def level(source: Any, **options: Any) -> Level:
    return Level(found=Found(value=0.5), source=source, images=100, **options)


def told(*several: tuple[Any, Level, Level], **options: Any) -> str:
    levels = [GroupLevels(group=group, image=image, pixel=pixel) for group, image, pixel in several]
    found = Calibration(
        config=CalibrateConfig(), run_ids=("r1",), model_id="m", model={"name": "tiny"}, decode="{}",
        pixel_rule="images", levels=levels, at=datetime.datetime.now(datetime.UTC), **options,
    )  # fmt: skip
    return as_text(found, "t.parquet")


def test_groups_that_fall_back() -> None:
    """Image and pixel thresholds may: each is marked by a star, which is explained, and counted by itself."""
    own, pooled = level("group"), level("pooled")
    text = told((None, pooled, pooled), (("a",), own, pooled), (("b",), own, pooled), (("c",), pooled, own))
    assert "* the pooled threshold: that of all chosen images together" in text
    assert "1 of 3 groups have too few images for image thresholds of their own: they take the pooled one." in text
    assert "2 of 3 groups have too few maps for pixel thresholds of their own: they take the pooled one." in text
    assert "groups have" not in told((None, pooled, pooled), (("a",), own, own))


def test_no_star_without_a_pooled_threshold() -> None:
    """Where no threshold holds the rate there is none to explain."""
    assert "*" not in told((None, Level(images=9), Level()), (("a",), Level(images=9), Level()))


def test_labels_that_hardly_agree() -> None:
    """Below 0.5 of images and 0.2 of pixels: which groups, the worst by name."""
    poor, fair = level("group", f1=0.31), level("group", f1=0.49)
    text = told((None, fair, poor), (("a\x1b[2J",), poor, fair), (("b",), fair, level("group", f1=0.02)))
    assert "WARNING: F1 of the image threshold is below 0.5 in 3 groups, 0.31 in a" in text
    assert "WARNING: F1 of the pixel threshold is below 0.2 in 1 groups, 0.02 in b" in text
    assert "\x1b" not in text


def test_masks_that_were_left_out() -> None:
    """Told of as warnings, in one line each."""
    text = told((None, level("pooled"), level("pooled")), masks=["2 images count for no …: /in/\x1bx\n"])
    assert "\nWARNING: 2 images count for no …: /in/" in text
    assert "\x1b" not in text
