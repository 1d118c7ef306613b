"""Cut and damaged files: rejected, or the very same pixels; never half a picture, never another exception."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.schema import Reason

RULES = DecodeRules(max_pixels=10**6)
TOO_SHORT_TO_TELL = 3  # bytes


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """The C libraries write a line on stderr for every damage."""
    kept = os.dup(2)
    with contextlib.ExitStack() as stack:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        stack.callback(os.dup2, kept, 2)
        yield


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _tiff(values: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, metadata=None, **options)
    return out.getvalue()


def _pictures() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 65536, (16, 20, 3), dtype=np.uint16)
    image = Image.fromarray((noise >> 8).astype(np.uint8))
    blank = Image.new("RGB", (64, 64), "white")  # a cut of it, filled up with white, would look whole
    return {
        "png": _saved(image, "PNG"),
        "png blank": _saved(blank, "PNG"),
        "png palette": _saved(image.convert("P"), "PNG"),
        "png 16 bits": _saved(Image.fromarray(noise[:, :, 0]), "PNG"),
        "jpeg": _saved(image, "JPEG"),
        "jpeg blank": _saved(blank, "JPEG"),
        "jpeg progressive": _saved(image, "JPEG", progressive=True),
        "jpeg with restarts": _saved(image, "JPEG", restart_marker_blocks=1),
        "webp": _saved(image, "WEBP"),
        "webp lossless": _saved(image, "WEBP", lossless=True),
        "tiff": _saved(image, "TIFF"),
        "tiff lzw": _saved(image, "TIFF", compression="tiff_lzw"),
        "tiff deflate": _saved(blank, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": _saved(image, "TIFF", compression="jpeg"),
        "tiff group4": _saved(image.convert("1"), "TIFF", compression="group4"),
        "tiff 16 bits": _tiff(noise, photometric="rgb"),
        "tiff 16 bits strips": _tiff(noise[:, :, 0], rowsperstrip=4),
        "tiff 16 bits zlib": _tiff(noise[:, :, 0], compression="zlib"),
        "tiff 16 bits tiles": _tiff(noise, photometric="rgb", tile=(16, 16)),
        "tiff float": _tiff((noise[:, :, 0] / 65535).astype(np.float32)),
        "tiff float colours": _tiff((noise / 65535).astype(np.float32), photometric="rgb"),
        "tiff 64-bit float": _tiff((noise[:, :, 0] / 65535).astype(np.float64), compression="zlib", rowsperstrip=4),
        "bmp": _saved(image, "BMP"),
        "gif": _saved(image, "GIF"),
        "gif animated": _saved(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
    }


PICTURES = _pictures()
WHOLE = {name: np.asarray(decode_image(data, RULES).rgb) for name, data in PICTURES.items()}
named = st.sampled_from(sorted(PICTURES))


def outcome(data: bytes) -> np.ndarray | Reason:
    """The pixels or the reason; any other exception fails the test."""
    try:
        return np.asarray(decode_image(data, RULES).rgb)
    except ImageRejected as rejected:
        return rejected.reason


@settings(max_examples=400)
@given(named, st.data())
def test_a_cut_file_is_never_half_read(name: str, data: st.DataObject) -> None:
    """Cut anywhere, a picture decodes to the very same pixels or is `truncated`, whatever a decoder made of it."""
    whole = PICTURES[name]
    left = data.draw(st.integers(0, len(whole) - 1))
    found = outcome(whole[:left])
    if isinstance(found, Reason):
        too_short = Reason.NOT_AN_IMAGE if left else Reason.EMPTY
        assert found == (Reason.TRUNCATED if left >= TOO_SHORT_TO_TELL else too_short)
    else:
        np.testing.assert_array_equal(found, WHOLE[name])


@pytest.mark.parametrize("name", PICTURES)
def test_half_a_file_is_rejected(name: str) -> None:
    """With half of its bytes gone no format yields a picture (of an animation, half of its first frame's)."""
    whole = PICTURES[name]
    assert isinstance(outcome(whole[: len(whole) // (4 if "animated" in name else 2)]), Reason)


@pytest.mark.parametrize("name", PICTURES)
def test_the_last_bytes_count(name: str) -> None:
    """Cut by its last bytes, an end mark or an index among them, a file is whole or rejected."""
    for cut in range(1, 16):
        found = outcome(PICTURES[name][:-cut])
        assert isinstance(found, Reason) or np.array_equal(found, WHOLE[name])


@settings(max_examples=600)
@given(named, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=6))
def test_flipped_bits_raise_nothing_else(name: str, flips: list[tuple[float, int]]) -> None:
    """Whatever bits are wrong: a picture or a reason. (Only PNG has checksums to tell that pixels are wrong.)"""
    data = bytearray(PICTURES[name])
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    found = outcome(bytes(data))
    assert isinstance(found, Reason) or (found.dtype == np.uint8 and found.shape[2] == 3)


@settings(max_examples=200)
@given(st.sampled_from([name for name in sorted(PICTURES) if name.startswith("png")]), st.data())
def test_a_png_with_a_wrong_bit_never_shows_other_pixels(name: str, data: st.DataObject) -> None:
    """PNG's checksums are tested: one flipped bit is rejected, or changes nothing that is seen."""
    damaged = bytearray(PICTURES[name])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = outcome(bytes(damaged))
    assert isinstance(found, Reason) or np.array_equal(found, WHOLE[name])


@settings(max_examples=200)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"BM"]),
    st.binary(max_size=300),
)
def test_noise_is_a_reason_and_no_crash(head: bytes, noise: bytes) -> None:
    """Random bytes are no picture; under a format's signature they raise nothing but a rejection."""
    found = outcome(head + noise)
    assert isinstance(found, Reason) or (head and found.dtype == np.uint8)


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (lambda data: data[:-20], Reason.TRUNCATED, "ends before its last chunk"),
        (lambda data: data[:-1], Reason.TRUNCATED, "ends before its last chunk"),
        (lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:], Reason.CORRUPT, "IDAT' fails its checksum"),
    ],
)
def test_a_damaged_png_is_told_in_words(damage: Callable[[bytes], bytes], reason: Reason, words: str) -> None:
    """The end of the pixel data cut off, or a bit of them wrong."""
    with pytest.raises(ImageRejected, match=words) as caught:
        decode_image(damage(PICTURES["png"]), RULES)
    assert caught.value.reason == reason


def test_a_cut_webp_is_truncated() -> None:
    """Its first bytes tell how long it is."""
    for name in ("webp", "webp lossless"):
        assert outcome(PICTURES[name][:-20]) == Reason.TRUNCATED


def test_junk_after_the_picture_does_no_harm() -> None:
    """Cameras append what they like: the picture before it is whole."""
    for name in ("png", "jpeg", "webp", "gif", "bmp"):
        np.testing.assert_array_equal(outcome(PICTURES[name] + b"maker's notes" * 9), WHOLE[name])
