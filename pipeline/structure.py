"""What an encoded picture's own marks and lengths say, without decoding it: its format, its end, what it would cost.

A decoder's error tells that a picture is bad, not whether it was cut, damaged, or of a kind that is not read; these do.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator

from pipeline.schema import Reason
from pipeline.tiff import TIFF_SIGNATURES, describe_tiff, tiff_ends_early

Verdict = tuple[Reason, str]

_SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",), "PNG": (b"\x89PNG\r\n\x1a\n",), "GIF": (b"GIF87a", b"GIF89a"), "BMP": (b"BM",),
    "TIFF": TIFF_SIGNATURES, "WEBP": (b"RIFF",),
}  # fmt: skip
_LEAST_TO_TELL = 3  # bytes of a signature that a cut file may consist of

_PNG_CHUNKS = 2**18  # 1 KB each in a PNG of 256 MiB; writers take 8 KB and more
# A progressive JPEG has some ten scans. Each is a pass over all blocks, even if it is 50 bytes long: 6 ms at 16 million
# pixels, so that a file of 256 MiB could take a day.
_JPEG_SCANS = 200
_JPEG_MARK = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_JPEG_SCAN, _JPEG_END, _JPEG_ALONE = 0xDA, 0xD9, (0x01, 0xD8)
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_FRAMES_READ = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # baseline, extended, progressive; the latter two arithmetic
_BMP_COMPRESSIONS_READ = (0, 1, 2, 3)
_BMP_HEADER_BYTES = 54
_GIF_EXTENSION, _GIF_FRAME = 0x21, 0x2C
_RIFF_HEADER_BYTES = 8


def format_of(data: bytes) -> str | None:
    """The format that the first bytes speak of, even if there are only some of them."""
    for form, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            is_one = form != "WEBP" or b"WEBP".startswith(data[8:12])
            return form if is_one else None
        if len(data) >= _LEAST_TO_TELL and any(signature.startswith(data) for signature in signatures):
            return form
    return None


def objection(data: bytes) -> Verdict | None:
    """Why a file should not be decoded at all: a PNG that is not whole, or one that would take for ever."""
    form = format_of(data)
    if form == "PNG":
        return _png_objection(data)
    if form == "JPEG" and data.count(b"\xff\xda") > _JPEG_SCANS:  # notes and what follows the picture may hold some
        scans = sum(mark == _JPEG_SCAN for mark, _ in _jpeg_marks(data))
        if scans > _JPEG_SCANS:
            return Reason.UNSUPPORTED, f"a JPEG of {scans} scans; at most {_JPEG_SCANS}"
    return None


def verdict(data: bytes, words: str | None) -> Verdict:
    """Why a file that a decoder refused is bad.

    Args:    words: the decoder's own; None where it could not make anything of the header.
    """
    form = format_of(data)
    if form is None or (form == "BMP" and _is_text(data)):
        return Reason.NOT_AN_IMAGE, _what_lies_there(data)
    if _ENDS_EARLY[form](data):
        return Reason.TRUNCATED, f"a {form} that ends before its picture does" + (f": {words}" if words else "")
    if told := describe_tiff(data) if form == "TIFF" and words is None else _kind_not_read(form, data):
        return Reason.UNSUPPORTED, told
    return Reason.CORRUPT, words or f"a {form} whose header cannot be read"


def _what_lies_there(data: bytes) -> str:
    if data[:512].lstrip()[:1] == b"<":
        return "it is an HTML or XML page, not a picture"
    if _is_text(data):
        return "it is text, not a picture"
    return f"no picture of a known kind ({', '.join(_SIGNATURES)}); it begins with {data[:8].hex(' ')}"


def _is_text(data: bytes) -> bool:
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:512])


def _kind_not_read(form: str, data: bytes) -> str | None:
    """A kind of JPEG or BMP that is not read, in words."""
    if form == "BMP" and (compression := _little(data, 30, 4)) not in _BMP_COMPRESSIONS_READ:
        return f"a BMP of compression {compression}, a kind that is not read"
    if form == "JPEG":
        frame, at = next(((mark, at) for mark, at in _jpeg_marks(data) if mark in _JPEG_FRAMES), (0, 0))
        bits = data[at + 4] if frame else 8
        if bits != 8 or (frame and frame not in _JPEG_FRAMES_READ):
            return f"a JPEG of {bits} bits, process {frame - 0xC0}, a kind that is not read"
    return None


def _png_objection(data: bytes) -> Verdict | None:
    """Pillow decodes a PNG whose data fail their checksum, up to where they end: so each chunk's is tested here."""
    view, at, name = memoryview(data), len(_SIGNATURES["PNG"][0]), b""
    seen: Counter[bytes] = Counter()
    while name != b"IEND":
        name = bytes(view[at + 4 : at + 8])
        end = at + 8 + int.from_bytes(view[at : at + 4])  # a chunk is its length 4, name 4, content, checksum 4
        if len(view) < end + 4:
            return Reason.TRUNCATED, "a PNG that ends before its last chunk does"
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
            return Reason.CORRUPT, f"a PNG whose chunk {name!r} fails its checksum"
        at = end + 4
        seen[name] += 1
        if seen[b"iCCP"] > 1 or seen.total() > _PNG_CHUNKS:  # each profile costs what it inflates to, each chunk 100 B
            return Reason.CORRUPT, f"a PNG of more than one colour profile, or of more than {_PNG_CHUNKS} chunks"
    return None


def _jpeg_marks(data: bytes) -> Iterator[tuple[int, int]]:
    """(mark, where it stands) of each segment, up to the end mark; what a cut or damaged file has of them."""
    at = 2
    while found := _JPEG_MARK.search(data, at):
        mark, at = found[1][0], found.end()
        yield mark, found.start()
        if mark == _JPEG_END:
            return
        if mark not in _JPEG_ALONE:
            at += int.from_bytes(data[at : at + 2])


def _jpeg_ends_early(data: bytes) -> bool:
    return _JPEG_END not in (mark for mark, _ in _jpeg_marks(data))


def _gif_ends_early(data: bytes) -> bool:
    """Whether its blocks run out before the end of its first frame."""
    at = 13 + _palette_bytes(data, 10)  # signature 6, size 4, flags 1, background 1, aspect 1
    while at < len(data):
        kind = data[at]
        if kind not in (_GIF_EXTENSION, _GIF_FRAME):  # its end mark, or no block at all
            return False
        at += 2 if kind == _GIF_EXTENSION else 11 + _palette_bytes(data, at + 9)  # place, size, flags, code size
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if kind == _GIF_FRAME:
            return at > len(data)
    return True


def _palette_bytes(data: bytes, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _bmp_ends_early(data: bytes) -> bool:
    """By the length that it gives, or by that of its rows, where they are not compressed."""
    if len(data) < max(_BMP_HEADER_BYTES, _little(data, 2, 4)):
        return True
    width, bits = _little(data, 18, 4), _little(data, 28, 2)
    height = abs(int.from_bytes(data[22:26], "little", signed=True))
    if _little(data, 14, 4) < 40 or _little(data, 30, 4) not in (0, 3):
        return False
    return _little(data, 10, 4) + (width * bits + 31) // 32 * 4 * height > len(data)


def _webp_ends_early(data: bytes) -> bool:
    return len(data) < _RIFF_HEADER_BYTES + _little(data, 4, 4)


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


_ENDS_EARLY = {
    "JPEG": _jpeg_ends_early,
    "PNG": lambda data: len(data) < len(_SIGNATURES["PNG"][0]),  # `_png_objection` tells the rest
    "GIF": _gif_ends_early,
    "BMP": _bmp_ends_early,
    "TIFF": tiff_ends_early,
    "WEBP": _webp_ends_early,
}
