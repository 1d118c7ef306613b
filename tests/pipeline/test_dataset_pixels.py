"""Labelled images with their masks, and what can be wrong with them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import LabelledImage
from pipeline.datasets.pixels import Example, Flawed, binary_mask, read_examples, resize_mask
from pipeline.decode import DecodeRules

RULES = DecodeRules()


def encoded(values, form="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(out, form, **options)
    return out.getvalue()


def write(folder, *, label=1, image=None, mask=None):
    """A 20×10 image, and a mask where one is given; their item."""
    (folder / "i.png").write_bytes(encoded(np.full((10, 20, 3), 90)) if image is None else image)
    if mask is not None:
        (folder / "m.png").write_bytes(mask)
    uri = str(folder / "m.png") if mask is not None else None
    return LabelledImage(image_uri=str(folder / "i.png"), mask_uri=uri, label=label, category="c", kind="k")


def marked(*, rows=5):
    mask = np.zeros((10, 20))
    mask[:rows] = 255
    return encoded(mask)


def read(item, side=8) -> Example | Flawed:
    (found,) = read_examples([item], RULES, side)
    return found


def test_an_image_and_its_mask(tmp_path: Path):
    """Both at the model's side; the hash is of both files."""
    found = read(write(tmp_path, mask=marked()))
    assert found.pixels.shape == (8, 8, 3)
    np.testing.assert_array_equal(found.mask, np.arange(8)[:, None].repeat(8, 1) < 4)
    assert found.content_hash != read(write(tmp_path, mask=marked(rows=6))).content_hash


def test_normal_images_have_an_empty_mask(tmp_path: Path):
    """With no file for it, or with one that marks nothing."""
    for mask in (None, encoded(np.zeros((10, 20)))):
        assert not read(write(tmp_path, label=0, mask=mask)).mask.any()


def test_an_anomalous_image_that_nobody_marked_has_none(tmp_path: Path):
    """Which is not the same as an empty one."""
    assert read(write(tmp_path)).mask is None


@pytest.mark.parametrize(
    ("label", "image", "mask", "problem", "message"),
    [
        (
            1,
            None,
            encoded(np.full((10, 21), 255)),
            "mask_of_another_size",
            "the mask has 21×10 pixels, the image 20×10",
        ),
        (1, None, encoded(np.zeros((10, 20))), "empty_mask", "marks nothing"),
        (0, None, marked(rows=2), "mask_of_a_normal_image", "marks 40 pixels"),
        (1, b"text", marked(), "unreadable_image", "it is text"),
        (1, None, b"text", "unreadable_mask", "it is text"),
    ],
)
def test_flaws_are_named(tmp_path: Path, label, image, mask, problem, message):
    """Counted and reported by their kind, never used."""
    found = read(write(tmp_path, label=label, image=image, mask=mask))
    assert isinstance(found, Flawed)
    assert found.problem == problem
    assert message in found.message


def test_files_that_are_gone_are_flaws(tmp_path: Path):
    """Of the image, or of the mask."""
    item = write(tmp_path, mask=marked())
    (tmp_path / "m.png").unlink()
    assert read(item).problem == "unreadable_mask"
    (tmp_path / "i.png").unlink()
    assert read(item).problem == "unreadable_image"


def test_whatever_is_not_black_is_marked():
    """VisA's masks number their defects: 1 and 2 are nearly black."""
    np.testing.assert_array_equal(binary_mask(encoded([[0, 1, 2, 255]]), RULES), [[False, True, True, True]])


def test_jpeg_masks_are_cut_at_half():
    """JPEG's rings around an edge are neither black nor marked."""
    square = np.zeros((64, 64))
    square[20:40, 20:40] = 255
    data = encoded(square, "JPEG", quality=60)
    assert np.unique(np.asarray(Image.open(io.BytesIO(data)))).size > 2
    np.testing.assert_array_equal(binary_mask(data, RULES), square > 0)


def test_masks_are_resized_by_area():
    """A pixel is anomalous where more than half of what it covers is."""
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True
    np.testing.assert_array_equal(resize_mask(mask, 2), [[True, False], [True, False]])
