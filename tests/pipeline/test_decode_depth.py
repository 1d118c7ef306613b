"""More than 8 bits a channel: scaled by the full range of the depth or a given one, never cut off at 255."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.schema import Reason

RULES = DecodeRules()
GREEN = DecodeRules(alpha_background="#00ff00")
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6  # PNG's colour types


def tiff(values: Any, dtype: type, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, np.array(values, dtype), **options)
    return out.getvalue()


def png16(values: Any, kind: int, *extra: tuple[bytes, bytes], first: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG of 16 bits by the format's own rules, chunk by chunk."""
    rows = np.array(values, ">u2")  # (h, w, channels)
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, kind, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [*first, (b"IHDR", header), *extra, (b"IDAT", packed), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def shown(data: bytes, rules: DecodeRules = RULES) -> list[Any]:
    """The first row, as one number a pixel where all channels agree."""
    row = np.asarray(decode_image(data, rules).rgb)[0].tolist()
    return [pixel[0] if len(set(pixel)) == 1 else tuple(pixel) for pixel in row]


def rejected(data: bytes, rules: DecodeRules = RULES) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_image(data, rules)
    return caught.value


# 65535 = 255 × 257, so v becomes round(v / 257): 300 → 1.17, 32896 = 128 × 257, 65406 → 254.498, 65407 → 254.502.
GREYS = [0, 255, 300, 32896, 65406, 65407, 65535]
AS_SHOWN = [0, 1, 1, 128, 254, 255, 255]


@pytest.mark.parametrize(
    "make",
    [
        lambda: png16([[[grey] for grey in GREYS]], GREY),
        lambda: tiff([GREYS], np.uint16),
        lambda: tiff([GREYS], np.uint16, byteorder=">"),
        lambda: tiff([GREYS], np.uint16, compression="zlib"),
        lambda: tiff([GREYS], np.uint16, compression="zlib", predictor=True),
        lambda: tiff([GREYS], np.uint16, bigtiff=True),
        lambda: tiff([[GREYS], [[0] * 7]], np.uint16, photometric="minisblack"),
    ],
    ids=["png", "tiff", "big-endian", "zlib", "predictor", "bigtiff", "two pages"],
)
def test_16_bit_grey_keeps_its_whole_range(make: Callable[[], bytes]) -> None:
    """Values above 255 are not clipped to white; 0 is black and 65535 white."""
    assert shown(make()) == AS_SHOWN


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=40))
def test_16_bit_keeps_order(values: list[int]) -> None:
    """What is brighter in the file is never darker as shown, and each value is its rounded 255th share."""
    assert shown(tiff([values], np.uint16)) == [round(value / 257) for value in values]


def test_16_bit_tiles_are_put_together() -> None:
    """A tiled TIFF of 16 bits is one picture."""
    values = np.arange(40 * 40).reshape(40, 40) * 40
    picture = decode_image(tiff(values, np.uint16, tile=(16, 16)), RULES)
    np.testing.assert_array_equal(np.asarray(picture.rgb)[:, :, 0], np.rint(values / 257))


def test_16_bit_colours_keep_their_order() -> None:
    """Red stays red: the deep decoder's blue-green-red order is undone."""
    colours, expected = [[[300, 32896, 65535], [65535, 0, 257]]], [(1, 128, 255), (255, 0, 1)]
    assert shown(png16(colours, RGB)) == expected
    assert shown(tiff(colours, np.uint16, photometric="rgb")) == expected


def test_the_mode_tells_the_depth() -> None:
    """The table's mode says that 16 bits were there."""
    assert decode_image(png16([[[1, 2, 3]]], RGB), RULES).mode == "RGB;16"
    assert decode_image(png16([[[1, 2]]], GREY_ALPHA), RULES).mode == "LA;16"
    assert decode_image(tiff([[1]], np.uint16), RULES).mode == "I;16"


# Clear, half clear (32896 of 65535: 0.50196), opaque: red 65535 on green.
CLEAR_HALF_OPAQUE = [[[65535, 0, 0, 0], [65535, 0, 0, 32896], [65535, 0, 0, 65535]]]


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_16_bit_alpha_is_composited(form: str) -> None:
    """Alpha of 16 bits works as that of 8 bits does."""
    as_tiff = tiff(CLEAR_HALF_OPAQUE, np.uint16, photometric="rgb", extrasamples=["unassalpha"])
    data = png16(CLEAR_HALF_OPAQUE, RGB_ALPHA) if form == "png" else as_tiff
    assert shown(data, GREEN) == [(0, 255, 0), (128, 127, 0), (255, 0, 0)]


def test_premultiplied_alpha_is_not_multiplied_again() -> None:
    """TIFF's associated alpha: the colours hold it already."""
    values = [[[0, 0, 0, 0], [32896, 0, 0, 32896]]]
    data = tiff(values, np.uint16, photometric="rgb", extrasamples=["assocalpha"])
    assert shown(data, GREEN) == [(0, 255, 0), (128, 127, 0)]


def test_a_fourth_channel_of_unknown_meaning_is_no_alpha() -> None:
    """A TIFF's extra sample that is not said to be alpha hides nothing, at 16 bits as at 8."""
    for dtype, high in ((np.uint8, 255), (np.uint16, 65535)):
        data = tiff([[[high, 0, 0, 0]]], dtype, photometric="rgb", extrasamples=["unspecified"])
        assert shown(data, GREEN) == [(255, 0, 0)]


def test_16_bit_grey_with_alpha() -> None:
    """Grey and alpha of 16 bits: the grey stays, the clear part is background."""
    assert shown(png16([[[300, 65535], [300, 0]]], GREY_ALPHA), GREEN) == [1, (0, 255, 0)]


@pytest.mark.parametrize(("kind", "values"), [(GREY, [[[5], [300]]]), (RGB, [[[5, 5, 5], [300, 300, 300]]])])
def test_a_transparent_value_of_16_bits_is_background(kind: int, values: list[Any]) -> None:
    """PNG may name one value as transparent; it is, in grey as in colour."""
    named = struct.pack(">H", 5) * len(values[0][0])
    assert shown(png16(values, kind, (b"tRNS", named)), GREEN) == [(0, 255, 0), 1]


def test_a_png_whose_header_is_not_first_is_refused() -> None:
    """Its depth could not be told, and 16 bits read as 8 would be cut off."""
    data = png16([[[0], [65535]]], GREY, first=((b"tEXt", b"a\0b"),))
    assert rejected(data).reason == Reason.CORRUPT


def test_colours_stored_plane_by_plane_are_refused() -> None:
    """16-bit colours in separate planes, which the decoder would mix up, are refused; 8-bit ones are read."""
    values = [[[10, 20]], [[30, 40]], [[50, 60]]]
    data = tiff(values, np.uint16, photometric="rgb", planarconfig="separate")
    assert rejected(data).reason == Reason.UNSUPPORTED
    assert shown(tiff(values, np.uint8, photometric="rgb", planarconfig="separate")) == [(10, 30, 50), (20, 40, 60)]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.int8, [-128, 0, 127]),
        (np.int16, [-32768, 0, 32767]),
        (np.uint32, [0, 2**31, 2**32 - 1]),
        (np.int32, [-(2**31), 0, 2**31 - 1]),
        (np.float32, [0.0, 0.5, 1.0]),
    ],
)
def test_the_full_range_of_each_type(dtype: type, values: list[Any]) -> None:
    """The least value of a type is black, the greatest white, the middle grey."""
    assert shown(tiff([values], dtype)) == [0, 128, 255]


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0)])
def test_zero_may_be_white(dtype: type, high: float) -> None:
    """X-ray TIFFs often store white as 0: they are shown as they are meant."""
    assert shown(tiff([[0, high]], dtype, photometric="miniswhite")) == [255, 0]


def test_12_bit_values_use_their_own_range() -> None:
    """A camera's packed 12 bits: 4095 is white, 2048 the middle."""
    packed = bytes.fromhex("000FFF800000")  # 0, 4095, 2048, 0
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<I", 14) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert shown(data) == [0, 255, 128, 0]


def test_a_given_range_sets_black_and_white() -> None:
    """LO becomes 0, HI 255, what lies beyond is the end itself; 8-bit pictures do not heed it."""
    rules = DecodeRules(bit_depth_range="100:4195")
    assert shown(tiff([[0, 100, 1126, 4195, 65535]], np.uint16), rules) == [0, 0, 64, 255, 255]
    assert shown(tiff([[-100, 0, 100]], np.int16), DecodeRules(bit_depth_range="-100:100")) == [0, 128, 255]
    assert shown(tiff([[-1, 0.5, 2]], np.float32), DecodeRules(bit_depth_range="-1:2")) == [0, 128, 255]
    assert shown(tiff([[0, 128, 255]], np.uint8), rules) == [0, 128, 255]


@given(st.integers(-40000, 60000), st.integers(1, 60000), st.integers(0, 65535))
def test_any_range_is_linear(low: int, span: int, value: int) -> None:
    """A value's place between LO and HI is its place between 0 and 255."""
    rules = DecodeRules(bit_depth_range=f"{low}:{low + span}")
    expected = np.clip((value - low) / span, 0, 1) * 255
    assert abs(shown(tiff([[value, 0]], np.uint16), rules)[0] - expected) <= 0.51


@pytest.mark.parametrize("values", [[-0.01, 1.0], [0.0, 255.0], [0.0, 1.0001]])
def test_floats_beyond_0_and_1_need_a_range(values: list[float]) -> None:
    """Whether 255.0 is white is not guessed: the message asks."""
    told = rejected(tiff([values], np.float32))
    assert told.reason == Reason.VALUE_RANGE
    assert "--bit-depth-range" in str(told)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rules", [RULES, DecodeRules(bit_depth_range="0:2")])
def test_what_is_no_number_is_refused(value: float, rules: DecodeRules) -> None:
    """NaN and infinity have no grey level, whatever the range."""
    assert rejected(tiff([[0, value]], np.float32), rules).reason == Reason.VALUE_RANGE


FLOATS = [[[0.0, 0.5, 1.0], [1.0, 0.0, 0.25]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}]
)
def test_float_colours(dtype: type, options: dict[str, Any]) -> None:
    """Kinds that Pillow does not know: the same scale as of float grey."""
    data = tiff(FLOATS, dtype, photometric="rgb", **options)
    assert shown(data) == [(0, 128, 255), (255, 0, 64)]
    assert decode_image(data, RULES).mode == f"RGB;{np.dtype(dtype).itemsize * 8}F"


def test_float_alpha_and_64_bit_grey() -> None:
    """Alpha is composited; 64 bits keep the rules of 32: a range where values are beyond 0 and 1."""
    values = [[[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]]]
    assert shown(tiff(values, np.float32, photometric="rgb", extrasamples=["unassalpha"]), GREEN) == [
        (0, 255, 0),
        (255, 0, 0),
    ]
    assert shown(tiff([[0.0, 0.2, 1.0]], np.float64)) == [0, 51, 255]
    assert rejected(tiff([[0.0, 2.0]], np.float64)).reason == Reason.VALUE_RANGE
    assert shown(tiff([[0.0, 2.0]], np.float64), DecodeRules(bit_depth_range="0:4")) == [0, 128]
    far = tiff([[1e9, 1e9 + 85, 1e9 + 170]], np.float64)
    assert shown(far, DecodeRules(bit_depth_range="1000000000:1000000255")) == [0, 85, 170]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_float_colours_are_turned(orientation: int) -> None:
    """As Pillow turns a picture of 8 bits."""
    values = np.random.default_rng(0).integers(0, 256, (3, 5, 3))
    tag = [(274, "H", 1, orientation, True)]
    eight_bit = decode_image(tiff(values, np.uint8, photometric="rgb", extratags=tag), RULES).rgb
    found = decode_image(tiff(values / 255, np.float32, photometric="rgb", extratags=tag), RULES).rgb
    np.testing.assert_array_equal(np.asarray(found), np.asarray(eight_bit))


def test_float_colours_are_bounded() -> None:
    """A picture whose numbers take more memory than a task reserves is refused."""
    data = tiff(FLOATS, np.float64, photometric="rgb")
    assert decode_image(data, DecodeRules(max_pixels=6)).mode == "RGB;64F"
    assert rejected(data, DecodeRules(max_pixels=5)).reason == Reason.TOO_MANY_PIXELS
    assert rejected(data, DecodeRules(max_pixels=1)).reason == Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize(
    "data",
    [
        tiff([[0.0, 1.0]], np.float16),
        tiff(np.zeros((3, 2, 2)), np.float32, photometric="rgb", planarconfig="separate"),
        tiff(np.zeros((2, 2, 4)), np.float32, photometric="minisblack", planarconfig="contig"),
        tiff(np.zeros((2, 2, 4)), np.float32, photometric="separated"),
        tiff([[[0.0, 1.0]]], np.float32, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
    ],
    ids=["half", "planes", "four bands", "CMYK", "grey with alpha"],
)
def test_other_floats_are_refused_in_words(data: bytes) -> None:
    """A float TIFF of a kind that is not read says so."""
    told = rejected(data)
    assert told.reason == Reason.UNSUPPORTED
    assert "float" in str(told)
