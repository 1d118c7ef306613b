"""Small files that would take gigabytes, or hours, if they were believed: in every format, by size, notes or count."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_MIB = 2**20
_SIDE = 60_000  # px: 10.8 GB as RGB
_WEBP_MOST = (1 << 14) - 1
_DEFLATE = 8
_PNG_HEADER_END = 8 + 25


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _speck(mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), 128 if mode in "LP" else (128, 128, 128))


def chunk(name: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks behind its header."""
    return data[:_PNG_HEADER_END] + b"".join(chunks) + data[_PNG_HEADER_END:]


def _zeros(mib: int) -> bytes:
    """So many MiB of zeros, deflated to a thousandth."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(_MIB)) for _ in range(mib)) + packer.flush()


def png_bomb() -> bytes:
    """70 bytes that claim 60,000 × 60,000 pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def jpeg_bomb() -> bytes:
    data = saved(_speck(), "JPEG")
    frame = data.index(b"\xff\xc0")
    return _patched(data, frame + 5, struct.pack(">HH", _SIDE, _SIDE))


def gif_bomb() -> bytes:
    return _patched(saved(_speck("P"), "GIF"), 6, struct.pack("<HH", _SIDE, _SIDE))


def bmp_bomb() -> bytes:
    return _patched(saved(_speck(), "BMP"), 18, struct.pack("<ii", _SIDE, _SIDE))


def webp_bomb() -> bytes:
    """The largest that the format has: 268 million pixels."""
    data = saved(_speck(), "WEBP", lossless=True)
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") | (_WEBP_MOST - 1) | (_WEBP_MOST - 1) << 14
    return _patched(data, at, bits.to_bytes(4, "little"))


def tiff_bomb() -> bytes:
    return _tiff({256: _SIDE, 257: _SIDE, 278: _SIDE}, _zeros(1))


def tiff_tile_bomb() -> bytes:
    """16×16 pixels in one tile of 32,768×32,768."""
    return _tiff({256: 16, 257: 16, 322: 2**15, 323: 2**15}, _zeros(8))


def tiff_strip_bomb() -> bytes:
    """16×16 pixels in a strip that inflates to 64 MiB: only its first 256 bytes are needed."""
    return _tiff({256: 16, 257: 16, 278: 16}, _zeros(64))


def _tiff(tags: dict[int, int], body: bytes) -> bytes:
    """A grey TIFF with one deflated strip, or tile."""
    places = (324, 325) if 322 in tags else (273, 279)
    tags = tags | {258: 8, 259: _DEFLATE, 262: 1, 277: 1, places[0]: 8, places[1]: len(body)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def note_bomb(name: bytes) -> bytes:
    """A PNG whose text or colour profile inflates to 64 MiB."""
    heads = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}
    return png_with(saved(_speck(), "PNG"), chunk(name, heads[name] + _zeros(64)))


def scan_bomb() -> bytes:
    """A progressive JPEG of a thousand scans, each of them a pass over the whole picture."""
    data = saved(_speck(), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * 1000 + data[-2:]


def frames(file_format: str, count: int = 300) -> bytes:
    """So many frames or pages, of which the first counts."""
    levels = [Image.fromarray(np.full((16, 16), level % 256, np.uint8)) for level in range(count)]
    return saved(levels[0], file_format, save_all=True, append_images=levels[1:])


def giant_jpeg_notes(data: bytes) -> bytes:
    """3 MB of comments and camera's notes before the picture."""
    body = bytes(65_000)
    segments = b"".join(
        b"\xff" + mark + struct.pack(">H", len(body) + 2) + body for mark in (b"\xfe", b"\xed", b"\xe5")
    )
    return data[:2] + segments * 16 + data[2:]


def giant_png_notes(data: bytes) -> bytes:
    """3 MB of text, as it is."""
    return png_with(data, chunk(b"tEXt", b"Comment\0" + b"a" * (3 * _MIB)))


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]
