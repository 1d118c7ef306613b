"""Encoded pictures become RGB as shown: every format and mode, upright, on the recorded background."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from cops import images
from pipeline.decode import ENDINGS, DecodeRules, ImageRejected, decode_image, decode_to_side, resize
from pipeline.errors import InputError
from pipeline.schema import Reason

Encode = Callable[..., bytes]  # the `encode_image` fixture

RULES = DecodeRules()
GREEN = DecodeRules(alpha_background="#00ff00")
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [128, 128, 128], [255, 255, 255]]], np.uint8)
LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("BMP", {}),
    ("GIF", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "packbits"}),
]


def pixels(data: bytes, rules: DecodeRules = RULES) -> np.ndarray:
    return np.asarray(decode_image(data, rules).rgb)


def rejected(data: bytes, rules: DecodeRules = RULES) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_image(data, rules)
    return caught.value


@pytest.mark.parametrize(("form", "options"), LOSSLESS)
def test_lossless_formats_give_the_very_pixels(encode_image: Encode, form: str, options: dict[str, Any]) -> None:
    """What was saved without loss is read without loss, and the format is told."""
    picture = decode_image(encode_image(COLOURS, form, **options), RULES)
    assert picture.format == form
    np.testing.assert_array_equal(np.asarray(picture.rgb), COLOURS)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg_is_read_within_its_loss(encode_image: Encode, options: dict[str, Any]) -> None:
    """A smooth picture comes back from JPEG, baseline or progressive, within a few grey levels."""
    smooth = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 48, 3))
    picture = decode_image(encode_image(np.ascontiguousarray(smooth), "JPEG", quality=95, **options), RULES)
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    assert np.abs(np.asarray(picture.rgb).astype(int) - smooth).max() <= 4


# The six pixels of a 2×3 picture as they are stored, for each way in which it may have been turned.
UPRIGHT = np.array([[10, 50, 90], [130, 170, 210]], np.uint8)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(encode_image: Encode, form: str, orientation: int) -> None:
    """A picture stored turned or mirrored is shown upright, whatever the format: TIFF decoders turn it themselves."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode_image(np.ascontiguousarray(STORED[orientation]), form, exif=exif, **options)
    np.testing.assert_array_equal(pixels(data)[:, :, 0], UPRIGHT)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_orientation_is_applied_once_at_any_depth(orientation: int, dtype: type) -> None:
    """Deep TIFFs, which another library decodes, are upright just as 8-bit ones are."""
    scale = {np.uint8: 1, np.uint16: 257, np.float32: np.float32(1 / 255)}[dtype]
    stored, out = np.ascontiguousarray(STORED[orientation]).astype(dtype) * dtype(scale), io.BytesIO()
    tifffile.imwrite(out, stored, extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(pixels(out.getvalue())[:, :, 0], UPRIGHT)


def test_jpeg_orientation_swaps_the_sides(encode_image: Encode) -> None:
    """A camera's portrait, stored lying, has its height and width as shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encode_image(Image.new("RGB", (32, 16)), "JPEG", exif=exif), RULES).rgb.size == (16, 32)


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_is_no_reason_to_refuse(encode_image: Encode, exif: bytes) -> None:
    """A whole picture with broken notes is read as it lies."""
    np.testing.assert_array_equal(pixels(encode_image(UPRIGHT, "PNG", exif=exif))[:, :, 0], UPRIGHT)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_mean_upright(encode_image: Encode, orientation: int) -> None:
    """EXIF knows 1 to 8; any other number changes nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encode_image(UPRIGHT, "PNG", exif=exif))[:, :, 0], UPRIGHT)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_on_the_recorded_colour(encode_image: Encode, form: str) -> None:
    """Clear shows the background, opaque the colour, half of each: 0.5 of 255 red on green."""
    rgba = np.array([[[9, 9, 9, 0], [255, 0, 0, 255], [255, 0, 0, 128]]], np.uint8)
    data = encode_image(rgba, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert pixels(data, GREEN).tolist() == [[[0, 255, 0], [255, 0, 0], [128, 127, 0]]]
    assert pixels(data).tolist()[0][0] == [255, 255, 255]


def test_grey_with_alpha_is_composited(encode_image: Encode) -> None:
    """Grey pictures have transparency, too."""
    image = Image.new("LA", (2, 1))
    image.putdata([(7, 0), (7, 255)])
    assert pixels(encode_image(image), GREEN).tolist() == [[[0, 255, 0], [7, 7, 7]]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_colours_and_transparency(encode_image: Encode, form: str) -> None:
    """A palette's entries become its colours; its clear entry becomes the background."""
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 1, 2, 3])
    image.putdata([0, 1, 2])
    assert pixels(encode_image(image, form)).tolist() == [[[255, 0, 0], [0, 0, 255], [1, 2, 3]]]
    assert pixels(encode_image(image, form, transparency=1), GREEN).tolist()[0][1] == [0, 255, 0]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(encode_image: Encode, form: str) -> None:
    """One bit a pixel becomes 0 and 255."""
    data = encode_image(Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1"), form)
    assert pixels(data).tolist() == [[[0] * 3, [255] * 3, [0] * 3]]


def test_cmyk_becomes_rgb(encode_image: Encode) -> None:
    """No ink is white, all black ink is black, cyan has no red; in TIFF, where no loss blurs it."""
    image = Image.new("CMYK", (3, 1))
    image.putdata([(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0)])
    picture = decode_image(encode_image(image, "TIFF"), RULES)
    assert picture.mode == "CMYK"
    assert np.asarray(picture.rgb).tolist() == [[[255] * 3, [0] * 3, [0, 255, 255]]]


def test_cmyk_jpeg_is_not_inverted(encode_image: Encode) -> None:
    """A CMYK JPEG without ink is white paper, not black."""
    assert pixels(encode_image(Image.new("CMYK", (8, 8)), "JPEG")).min() >= 250


def test_a_colour_profile_changes_nothing(encode_image: Encode) -> None:
    """Pixel values are the file's own, with or without a profile beside them."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(pixels(encode_image(COLOURS, "PNG", icc_profile=profile)), COLOURS)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames_is_taken(encode_image: Encode, form: str) -> None:
    """Animated or multi-page: the first page, the others count for nothing."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode_image(first, form, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
    assert (pixels(data) == [255, 0, 0]).all()


def test_names_do_not_matter_and_endings_are_known() -> None:
    """Every format that is read has an ending under which folders are searched."""
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} <= set(ENDINGS)


def test_a_bomb_is_refused_by_its_header(encode_image: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture above the pixel limit is refused before any pixel is decoded; one at the limit is read."""
    data = encode_image(Image.new("1", (5000, 4000)))
    assert len(data) < 10_000
    assert decode_image(data, DecodeRules(max_pixels=20_000_000)).rgb.size == (5000, 4000)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    told = rejected(data, DecodeRules(max_pixels=19_999_999))
    assert told.reason == Reason.TOO_MANY_PIXELS
    assert str(told) == "5000×4000 pixels; at most 19999999 (--max-pixels)"


def test_a_side_that_is_too_long_is_refused(encode_image: Encode) -> None:
    """A line of few pixels in all may be too long to resize: refused by its header; JPEG's longest is read."""
    told = rejected(encode_image(Image.new("1", (65_536, 1))))
    assert told.reason == Reason.TOO_MANY_PIXELS
    assert str(told) == "65536×1 pixels; at most 65535 on the longer side"
    assert rejected(encode_image(Image.new("1", (1, 65_536)))).reason == Reason.TOO_MANY_PIXELS
    picture, square = decode_to_side(encode_image(Image.new("1", (65_535, 1), 1)), RULES, 8)
    assert (picture.rgb.size, square.shape, square.min()) == ((65_535, 1), (8, 8, 3), 255)


def test_decoding_to_a_side_is_decoding_and_resizing(encode_image: Encode) -> None:
    """The model's input is the resized picture, and the picture is the same."""
    data = encode_image(COLOURS)
    picture, square = decode_to_side(data, RULES, 5)
    np.testing.assert_array_equal(np.asarray(picture.rgb), COLOURS)
    np.testing.assert_array_equal(square, resize(Image.fromarray(COLOURS), 5))
    assert picture.size == picture.rgb.size


@pytest.mark.parametrize(("side", "decoded"), [(20, (80, 60)), (30, (80, 60)), (40, (160, 120)), (90, (320, 240))])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_may_be_decoded_at_a_fraction(
    side: int, decoded: tuple[int, int], orientation: int, encode_image: Encode
) -> None:
    """At least twice the model's side on both; the size told is the whole one, turned; off unless it is asked for."""
    x, y = np.meshgrid(np.linspace(0, 6, 320), np.linspace(0, 5, 240))
    smooth = (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode_image(smooth, "JPEG", quality=95, exif=exif)
    scaled, square = decode_to_side(data, DecodeRules(scaled_jpeg=True), side)
    whole, expected = decode_to_side(data, RULES, side)
    assert scaled.size == whole.size == whole.rgb.size == ((320, 240) if orientation == 1 else (240, 320))
    assert sorted(scaled.rgb.size) == sorted(decoded)
    assert np.abs(square.astype(int) - expected).max() <= 4
    assert decode_image(data, DecodeRules(scaled_jpeg=True)).rgb.size == whole.size


@pytest.mark.parametrize(
    ("error", "reason"), [(MemoryError(), Reason.OUT_OF_MEMORY), (RuntimeError("odd"), Reason.CORRUPT)]
)
def test_what_cannot_be_resized_is_rejected(
    encode_image: Encode, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Reason
) -> None:
    """Resizing stands under the same guard as decoding: the row is bad, the run goes on."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(ImageRejected) as caught:
        decode_to_side(encode_image(COLOURS), RULES, 5)
    assert caught.value.reason == reason


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "CMYK", "1"])
def test_single_pictures_and_archives_see_the_same(encode_image: Encode, mode: str, orientation: int) -> None:
    """`python -m cops` and the pipeline make the same pixels of a file, turned and transparent ones included."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA") if mode in ("RGBA", "LA") else Image.fromarray(noise[:, :, :3])
    data = encode_image(image.convert(mode), "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(np.asarray(images.to_rgb(opened)), pixels(data))


def test_too_many_bytes_are_refused(encode_image: Encode) -> None:
    """An encoded picture of one byte above the limit is refused."""
    data = encode_image(COLOURS)
    assert rejected(data, DecodeRules(max_bytes=len(data) - 1)).reason == Reason.TOO_MANY_BYTES
    np.testing.assert_array_equal(pixels(data, DecodeRules(max_bytes=len(data))), COLOURS)


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (b"", Reason.EMPTY, "no bytes"),
        (b"<html><body>404", Reason.NOT_AN_IMAGE, "HTML"),
        (b"  <?xml version='1.0'?><svg/>", Reason.NOT_AN_IMAGE, "XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", Reason.NOT_AN_IMAGE, "text"),
        (b"%PDF-1.7\n\x00\xff\xfe\x01", Reason.NOT_AN_IMAGE, "begins with 25 50 44 46"),
        (bytes(64), Reason.NOT_AN_IMAGE, "begins with 00 00"),
        (b"MM\0*" + bytes(40), Reason.CORRUPT, "header cannot be read"),
        (b"BMW is no bitmap", Reason.NOT_AN_IMAGE, "text"),
        (b"RIFF\x10\0\0\0WAVEfmt \1\0\0\0", Reason.NOT_AN_IMAGE, "begins with 52 49 46 46"),
    ],
)
def test_what_is_no_picture_is_told_in_words(data: bytes, reason: Reason, words: str) -> None:
    """The message says what lies there in place of a picture."""
    told = rejected(data)
    assert told.reason == reason
    assert words in str(told)


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "PCX", "EPS"])
def test_other_formats_are_not_opened(encode_image: Encode, form: str) -> None:
    """Decoders beyond the six formats (Ghostscript among them) are never reached."""
    assert rejected(encode_image(Image.new("RGB", (16, 16)), form)).reason == Reason.NOT_AN_IMAGE


def test_resize_is_the_models_square(encode_image: Encode) -> None:
    """Side × side × 3, a constant stays constant, and a picture of that size is not touched."""
    np.testing.assert_array_equal(resize(Image.new("RGB", (7, 3), "red"), 4), np.full((4, 4, 3), [255, 0, 0]))
    square = COLOURS[:2, :2]
    np.testing.assert_array_equal(resize(Image.fromarray(square), 2), square)


@pytest.mark.parametrize(
    "rules",
    [{"alpha_background": "white"}, {"alpha_background": "#ffff"}, {"alpha_background": "#gggggg"}]
    + [{"bit_depth_range": text} for text in ("", "5", "5:5", "9:1", "a:b", "0:nan", "0:inf", "1:2:3")]
    + [{"max_pixels": 0}, {"max_bytes": 0}],
)
def test_rules_that_cannot_be_meant_are_refused(rules: dict[str, Any]) -> None:
    """Wrong rules are found before the run begins, not at the first picture."""
    with pytest.raises(InputError):
        DecodeRules(**rules)
