"""Pictures to pixels: what is accepted, what is refused and how that reads."""

import io
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from cops.errors import ImageError
from cops.images import MAX_SIDE_PX, flatten, to_pixels, to_rgb

NOISE = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)


@pytest.fixture
def odd_exif():
    """A JPEG that is stored lying, with a maker's name of the type that fractions have."""
    entries = struct.pack(">HHII", 0x010F, 5, 1, 38) + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + bytes(4) + struct.pack(">II", 1, 2)
    lying = np.zeros((16, 24, 3), np.uint8)
    lying[:8, :12] = 255
    buffer = io.BytesIO()
    Image.fromarray(lying).save(buffer, "JPEG", exif=exif)
    with pytest.raises(AttributeError):
        ImageOps.exif_transpose(Image.open(buffer))
    return buffer


def test_exif_orientation_is_applied():
    """A picture marked as turned by 90° is scored upright."""
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    upright = np.asarray(to_rgb(Image.open(buffer)))
    assert upright.shape == (4, 2, 3)
    assert upright[0, 1].tolist() == [255, 255, 255]


def test_a_picture_is_turned_once():
    """What is upright already, with or without its file's notes, stays as it is."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGB", "RGBA", "L"):
        buffer = io.BytesIO()
        Image.fromarray(NOISE).convert(mode).save(buffer, "PNG", exif=exif)
        once = to_rgb(Image.open(buffer))
        assert once.size == (6, 5)
        np.testing.assert_array_equal(np.asarray(to_rgb(once)), np.asarray(once))


def test_only_the_orientation_is_read_of_exif(odd_exif):
    """A camera's odd notes beside the orientation, which Pillow cannot write back, harm nothing."""
    upright = np.asarray(to_rgb(Image.open(odd_exif)))
    assert upright.shape == (24, 16, 3)
    assert upright[0, -1, 0] > 200 > 50 > upright[-1, 0, 0]  # the first pixel of the file is the upper right one


def transparent_pictures():
    rgba = Image.fromarray(NOISE)
    palette = Image.fromarray(NOISE[:, :, 0]).convert("P")
    palette.info["transparency"] = bytes(range(256))
    grey = Image.fromarray(NOISE[:, :, 0] // 64)
    grey.info["transparency"] = 2
    colour = Image.fromarray(NOISE[:, :, :3] // 128)
    colour.info["transparency"] = (1, 0, 1)
    channels = [rgba, *(rgba.convert(mode) for mode in ("LA", "PA", "RGBa"))]
    return [*channels, palette, grey, colour]


@pytest.mark.parametrize("image", transparent_pictures(), ids=lambda image: image.mode)
def test_transparency_shows_the_background(image):
    """By channel, palette or named value: Pillow's own compositing of the whole, on white or the colour given."""
    for background, given in (((255, 255, 255), ()), ((0, 255, 0), ((0, 255, 0),))):
        canvas = Image.new("RGBA", image.size, (*background, 255))
        expected = np.asarray(Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB"))
        assert (expected != np.asarray(image.convert("RGBA").convert("RGB"))).any()
        np.testing.assert_array_equal(np.asarray(to_rgb(image, *given)), expected)


def test_alpha_by_hand():
    """Clear is white, opaque the colour, half is between."""
    picture = Image.fromarray(np.array([[[9, 9, 9, 0], [255, 0, 0, 255], [255, 0, 0, 128]]], np.uint8))
    assert np.asarray(to_rgb(picture)).tolist() == [[[255, 255, 255], [255, 0, 0], [255, 127, 127]]]


def test_the_picture_given_is_left_alone():
    """Flattening makes a new picture, of RGB too."""
    picture = Image.fromarray(NOISE[:, :, :3])
    flatten(picture).putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(picture), NOISE[:, :, :3])


def test_resizing_is_pillows_bicubic():
    """Both sides become S, with Pillow's antialiased bicubic on 8 bits."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 40, 3), dtype=np.uint8))
    expected = np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(to_pixels([picture], 28), expected[None])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA"])
def test_8_bit_modes_become_rgb(mode):
    """Grey, palette, 1-bit, alpha and CMYK are taken."""
    assert to_pixels([Image.new(mode, (5, 5))], 14).shape == (1, 14, 14, 3)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_more_than_8_bits_are_refused(mode):
    """They would be cut off without a word, and the defect with them."""
    with pytest.raises(ImageError, match=r"more than 8 bits.*jobs/score.py"):
        to_pixels([Image.new(mode, (5, 5))], 14)


@pytest.mark.parametrize("form", [".png", ".tiff"])
def test_colours_of_16_bits_are_refused(form):
    """Pillow would give their upper 8 bits as if there were no more; a pipeline scales them."""
    encoded = cv2.imencode(form, np.full((5, 5, 3), 300, np.uint16))[1].tobytes()
    with pytest.raises(ImageError, match="mode RGB;16"):
        to_rgb(Image.open(io.BytesIO(encoded)))


def test_a_side_that_is_too_long_is_refused():
    """Beyond the limit resizing would take gigabytes; at the limit the picture is taken."""
    assert to_pixels([Image.new("1", (MAX_SIDE_PX, 1))], 14).shape == (1, 14, 14, 3)
    with pytest.raises(ImageError, match="65536×1 pixels; at most 65535"):
        to_pixels([Image.new("1", (MAX_SIDE_PX + 1, 1))], 14)


@pytest.mark.parametrize("error", [struct.error("odd"), TypeError("odd"), AttributeError("odd"), MemoryError("odd")])
def test_whatever_pillow_raises_is_the_pictures(error, monkeypatch):
    """One odd picture is an ImageError with the error's class and text, whatever the error."""

    def fail(*_):
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(ImageError, match=f"cannot be decoded: {type(error).__name__}: odd"):
        to_rgb(Image.new("L", (5, 5)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 5, 5, 3), np.float32), "uint8.*got float32"),
        (np.zeros((5, 5, 3), np.uint8), r"got shape \(5, 5, 3\)"),
        (np.zeros((1, 5, 5, 4), np.uint8), r"got shape \(1, 5, 5, 4\)"),
        (np.zeros((1, 0, 5, 3), np.uint8), "no pixels"),
        (Image.new("RGB", (5, 5)), "put it into a list"),
        (["picture.png"], "expected PIL images"),
        ([Image.new("RGB", (0, 5))], "no pixels"),
    ],
)
def test_wrong_input_is_named(images, message):
    """The message says what was expected and what came."""
    with pytest.raises(ImageError, match=message):
        to_pixels(images, 14)


def test_a_truncated_file_is_refused():
    """Half a JPEG is an error, not half a picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    with pytest.raises(ImageError, match="cannot be decoded"):
        to_pixels([Image.open(io.BytesIO(buffer.getvalue()[:-1000]))], 14)


def test_torch_is_not_needed():
    """Decoding tasks import this module, and torch would cost them seconds and hundreds of megabytes."""
    code = "import sys, cops.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
