"""Right reasons by a file's own marks and lengths; files that would take for ever are not decoded."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.schema import Reason
from pipeline.structure import format_of, objection

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
MIB = 2**20


def saved(form: str, image: Image.Image = PICTURE, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def outcome(data: bytes) -> Reason | str:
    try:
        return decode_image(data, DecodeRules()).format
    except ImageRejected as rejected:
        return rejected.reason


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks beside its header."""
    whole, after_header = saved("PNG"), 8 + 25
    return whole[:after_header] + b"".join(chunk(*one) for one in chunks) + whole[after_header:]


@pytest.mark.parametrize(
    ("name", "head"), [(b"zTXt", b"key\0\0"), (b"iTXt", b"key\0\1\0\0\0"), (b"iCCP", b"profile\0\0")]
)
def test_notes_that_inflate_without_end_are_told(name: bytes, head: bytes) -> None:
    """2 MiB of notes, as a printer's colour profile has, do no harm; 17 MiB in a few KB are `too_many_bytes`."""
    small, large = (png_with((name, head + zlib.compress(bytes(size * MIB)))) for size in (2, 17))
    assert outcome(small) == "PNG"
    assert len(large) < 20_000
    assert outcome(large) == Reason.TOO_MANY_BYTES


def test_many_notes_are_bounded_together() -> None:
    """Five notes of 15 MiB: each within its bound, all together not."""
    note = b"key\0\0" + zlib.compress(bytes(15 * MIB))
    assert outcome(png_with(*[(b"zTXt", note)] * 5)) == Reason.TOO_MANY_BYTES


def test_a_png_of_countless_chunks_or_profiles_is_refused_at_once() -> None:
    """Each costs time and memory beyond its bytes; a picture of some thousand chunks is read."""
    assert outcome(png_with(*[(b"abCd", b"")] * 5000)) == "PNG"
    assert objection(png_with(*[(b"abCd", b"")] * (2**18 + 1))) is not None
    profile = b"p\0\0" + zlib.compress(b"")
    assert outcome(png_with((b"iCCP", profile), (b"iCCP", profile))) == Reason.CORRUPT


def jpeg_of_scans(more: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = saved("JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * more + whole[-2:]


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    """Each scan is a pass over the whole picture: a file of megabytes would be decoded for hours."""
    assert outcome(jpeg_of_scans(100)) == "JPEG"
    assert outcome(jpeg_of_scans(300)) == Reason.UNSUPPORTED


def test_scans_in_notes_and_behind_the_picture_do_not_count() -> None:
    """Thumbnails, and films that telephones append, hold marks of their own."""
    whole, marks = saved("JPEG"), b"\xff\xda" * 1000
    assert outcome(whole[:2] + b"\xff\xe5" + struct.pack(">H", len(marks) + 2) + marks + whole[2:]) == "JPEG"
    assert outcome(whole + marks) == "JPEG"


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257), (np.float32, 1 / 255)])
def test_tiles_far_larger_than_the_picture_are_refused(dtype: type, scale: float) -> None:
    """A tile is decoded whole: 16 pixels in a tile of 100 million pixels are too many."""
    out = io.BytesIO()
    tifffile.imwrite(out, (np.ones((4, 4)) * scale).astype(dtype), tile=(64, 64), compression="zlib")
    data = out.getvalue()
    assert outcome(data) == "TIFF"
    for tag in (322, 323):  # its width, its height
        found = data.index(struct.pack("<HHII", tag, 4, 1, 64))
        data = data[:found] + struct.pack("<HHII", tag, 4, 1, 20_000) + data[found + 12 :]
    assert outcome(data) == Reason.TOO_MANY_PIXELS


def damaged(data: bytes, at: int, to: bytes) -> bytes:
    return data[:at] + to + data[at + len(to) :]


def reframed(frame: int, bits: int) -> bytes:
    """A JPEG that says to be of another process."""
    whole = saved("JPEG")
    at = whole.index(b"\xff\xc0")
    return damaged(damaged(whole, at + 1, bytes([frame])), at + 4, bytes([bits]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (damaged(saved("PNG"), 8 + 8, b"\xff"), Reason.CORRUPT),
        (damaged(saved("GIF"), 13, b"\xff" * 2000), Reason.CORRUPT),
        (damaged(saved("TIFF"), 4, bytes(4)), Reason.CORRUPT),
        (damaged(saved("TIFF", compression="tiff_adobe_deflate"), 8, b"\xff" * 8), Reason.CORRUPT),
        (damaged(saved("BMP"), 14, b"\x13"), Reason.CORRUPT),
        (damaged(saved("WEBP"), 12, b"\xff" * 40), Reason.CORRUPT),
        (saved("JPEG")[:2] + b"\xff\xe0\0\2" + saved("JPEG")[-2:], Reason.CORRUPT),
        (damaged(saved("BMP"), 30, b"\x05"), Reason.UNSUPPORTED),
        (reframed(0xC3, 8), Reason.UNSUPPORTED),
        (reframed(0xC1, 12), Reason.UNSUPPORTED),
    ],
    ids=[
        "png",
        "gif",
        "tiff",
        "tiff's data",
        "bmp",
        "webp",
        "jpeg",
        "bmp that holds a png",
        "lossless jpeg",
        "jpeg of 12 bits",
    ],
)
def test_a_damaged_picture_is_no_other_kind_of_file(data: bytes, reason: Reason) -> None:
    """It begins as a picture does: `corrupt`, or `unsupported` where its header names a kind that is not read."""
    assert outcome(data) == reason


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
def test_three_bytes_tell_a_format(form: str) -> None:
    """Of a file cut within its first bytes, too, the format is known; of one byte it is not guessed."""
    assert format_of(saved(form)) == form
    assert format_of(saved(form)[:3]) == form
    assert outcome(saved(form)[:3]) == Reason.TRUNCATED
    assert outcome(saved(form)[:1]) == Reason.NOT_AN_IMAGE


def bigtiff(byteorder: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, np.ones((40, 40), np.uint16), bigtiff=True, byteorder=byteorder)
    return out.getvalue()


def test_a_bigtiff_that_is_cut_is_truncated() -> None:
    """Its directory and its strips are found by 64-bit numbers."""
    data = bigtiff("<")
    assert outcome(data) == "TIFF"
    assert {outcome(data[:left]) for left in range(8, len(data), 7)} == {Reason.TRUNCATED}


def test_a_big_endian_bigtiff_is_told_as_one() -> None:
    """Pillow does not know it: it is whole all the same, and no damaged file."""
    assert outcome(bigtiff(">")) == Reason.UNSUPPORTED
