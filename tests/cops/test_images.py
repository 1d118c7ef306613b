"""Pictures to pixels: what is accepted, what is refused and how that reads."""

import io

import numpy as np
import pytest
from PIL import Image

from cops.errors import ImageError
from cops.images import to_pixels, to_rgb


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
    """They would be cut off at 255 without a word, and the defect with them."""
    with pytest.raises(ImageError, match="cut off every value above 255"):
        to_pixels([Image.new(mode, (5, 5))], 14)


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
