"""Labelled images with their masks, and what can be wrong with them."""

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import LabelledImage
from pipeline.datasets.pixels import Example, Flawed, binary_mask, decode_example, read_encoded, resize_mask
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
    (encoded_files,) = read_encoded([item], RULES)
    return decode_example(encoded_files, RULES, side)


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
        (
            1,
            None,
            encoded(np.eye(10, 20) * (np.arange(20) == 3) * 255),
            "mask_lost_in_resizing",
            "too small to be seen at 8×8 pixels",
        ),
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


def test_an_image_named_twice_has_each_rows_mask(tmp_path: Path):
    """And none in the row that names none."""
    item = write(tmp_path, mask=marked(rows=5))
    (tmp_path / "other.png").write_bytes(marked(rows=10))
    rows = [item, replace(item, mask_uri=str(tmp_path / "other.png")), replace(item, mask_uri=None)]
    examples = [decode_example(found, RULES, 8) for found in read_encoded(rows, RULES)]
    assert [one.mask.sum() if one.mask is not None else None for one in examples] == [32, 64, None]


def test_files_are_read_by_their_paths(tmp_path: Path):
    """Where a URI is but what may be shown of a signed address."""
    item = write(tmp_path, mask=marked())
    shown = replace(item, image_uri="https://host/i.png", mask_uri="https://host/m.png")
    found = read(replace(shown, image_path=item.image_uri, mask_path=item.mask_uri))
    assert found.item.image_uri == "https://host/i.png"
    np.testing.assert_array_equal(found.mask, read(item).mask)


SQUARE = np.zeros((40, 40), np.uint8)
SQUARE[5:15, 5:15] = 255


@pytest.mark.parametrize("channels", [2, 4])
def test_what_is_transparent_is_not_marked(channels):
    """LA and RGBA, whatever colour lies under images."""
    found = binary_mask(encoded(np.dstack([SQUARE] * channels)), RULES)
    np.testing.assert_array_equal(found, SQUARE > 0)


def test_a_transparent_colour_of_a_palette_is_not_marked():
    """As drawing programs save a mask."""
    drawn, out = Image.fromarray(SQUARE // 255).convert("P"), io.BytesIO()
    drawn.putpalette([0, 0, 0, 255, 0, 0])
    drawn.save(out, "PNG", transparency=0)
    np.testing.assert_array_equal(binary_mask(out.getvalue(), RULES), SQUARE > 0)


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("value", [1, 255, 65_535])
def test_whatever_is_not_zero_of_16_bits_is_marked(ending, value):
    """Though 1 is black as an image, and 255 is below the range that the images are shown in."""
    data = cv2.imencode(ending, (SQUARE // 255).astype(np.uint16) * value)[1].tobytes()
    for rules in (RULES, DecodeRules(bit_depth_range="1000:4000")):
        np.testing.assert_array_equal(binary_mask(data, rules), SQUARE > 0)


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
