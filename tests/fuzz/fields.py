"""Damage that knows a format: its chunks, segments, tags and length fields, with checksums made right again."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable
from functools import cache

Damage = Callable[[bytes, random.Random], bytes]
_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8, 16: 8}  # of TIFF's values, bytes
_LARGE = (60_000, 65_535)  # px a side: above 65,535 JPEG and GIF cannot go


def extremes(size: int, length: int) -> list[int]:
    """Numbers of so many bytes at which lengths and offsets go wrong; `length` is the file's."""
    top = 2 ** (8 * size)
    found = [0, 1, 2, top // 2 - 1, top // 2, top - 1, top - 2, length, length - 1, length + 1, length * 2, 65_536]
    return [value % top for value in found]


def _replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# PNG: a chunk is (name, content).


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    framed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png_chunk_order(data: bytes, rng: random.Random) -> bytes:
    """A chunk more, a chunk less, or one elsewhere."""
    chunks = _chunks(data)
    if not chunks:
        return data
    moved = chunks.pop(rng.randrange(len(chunks)))
    for _ in range(rng.choice([0, 1, 2, 30])):
        chunks.insert(rng.randint(0, len(chunks)), moved)
    return _png(chunks)


def png_chunk_content(data: bytes, rng: random.Random) -> bytes:
    """Wrong bytes under a right checksum."""
    chunks = _chunks(data)
    if not chunks:
        return data
    at = rng.randrange(len(chunks))
    name, body = chunks[at]
    if body:
        body = _replaced(body, rng.randrange(len(body)), rng.randbytes(rng.choice([1, 1, 4])))
    chunks[at] = (rng.choice([name, name, name, b"tRNS", b"PLTE", b"zTXt", b"iCCP", b"acTL", b"eXIf"]), body)
    return _png(chunks)


def png_bomb(data: bytes, rng: random.Random) -> bytes:
    """Notes, a profile, or the picture itself that inflate to 1 to 32 MiB."""
    chunks = _chunks(data)
    packed = _packed_zeros(2 ** rng.randint(20, 25))
    heads = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"p\0\0", b"IDAT": b""}
    name = rng.choice(list(heads))
    return _png([*chunks[:1], (name, heads[name] + packed), *chunks[1:]])


@cache
def _packed_zeros(size: int) -> bytes:
    return zlib.compress(bytes(size))


def png_header(data: bytes, rng: random.Random) -> bytes:
    chunks = _chunks(data)
    if not chunks or len(chunks[0][1]) != 13:
        return data
    width, height, bits, kind, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    width, height = (rng.choice([side, side, *extremes(4, side), 3000]) for side in (width, height))
    bits, kind = rng.choice([bits, 1, 2, 4, 8, 16, 3]), rng.choice([kind, 0, 2, 3, 4, 6, 1])
    rest[2] = rng.choice([rest[2], 1])
    return _png([(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, *rest)), *chunks[1:]])


# JPEG


def _segments(data: bytes) -> list[tuple[int, int]]:
    """(place, length) of each segment up to the first scan's data."""
    at, found = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF:
        size = 2 + int.from_bytes(data[at + 2 : at + 4])
        found.append((at, size))
        if data[at + 1] == 0xDA:
            break
        at += size
    return found


def jpeg_segment(data: bytes, rng: random.Random) -> bytes:
    """A segment of another length, kind or content, one more or one less."""
    found = _segments(data)
    if not found:
        return data
    at, size = rng.choice(found)
    how = rng.randrange(5)
    if how == 0:
        return _replaced(data, at + 2, struct.pack(">H", rng.choice(extremes(2, size))))
    if how == 1:
        return _replaced(
            data, at + 1, bytes([rng.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xD9, 0xDA, 0xDD, 0xE1, 0xFE])])
        )
    if how == 2:
        return data[: at + size] + data[at : at + size] * rng.choice([1, 3, 300]) + data[at + size :]
    if how == 3:
        return data[:at] + data[at + size :]
    return _replaced(data, at + 4 + rng.randrange(max(1, size - 4)), rng.randbytes(1))


def jpeg_scans(data: bytes, rng: random.Random) -> bytes:
    """The last scan again and again."""
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * rng.choice([1, 20, 250]) + data[-2:] if last > 0 else data


# TIFF


def _tiff_entries(data: bytes) -> tuple[str, list[int]]:
    """(byte order, places of the first directory's entries) of a TIFF; not of a BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8 or 42 not in data[2:4]:
        return order, []
    first = struct.unpack(order + "I", data[4:8])[0]
    if first + 2 > len(data):
        return order, []
    count = struct.unpack(order + "H", data[first : first + 2])[0]
    return order, [at for at in range(first + 2, first + 2 + 12 * count, 12) if at + 12 <= len(data)]


def tiff_entry(data: bytes, rng: random.Random) -> bytes:
    """A tag, its type, its count or its value becomes another."""
    order, places = _tiff_entries(data)
    if not places:
        return data
    at = rng.choice(places)
    how = rng.randrange(4)
    if how == 0:
        return _replaced(
            data, at, struct.pack(order + "H", rng.choice([256, 258, 259, 277, 278, 279, 284, 317, 322, 325, 338]))
        )
    if how == 1:
        return _replaced(data, at + 2, struct.pack(order + "H", rng.choice([*_TYPES, 0, 99])))
    value = rng.choice([*extremes(4, len(data)), *range(9), 32_773, 32_946, 50_000])
    return _replaced(data, at + (4 if how == 2 else 8), struct.pack(order + "I", value))


def tiff_tiles(data: bytes, rng: random.Random) -> bytes:
    """Strips become tiles of some other size."""
    order, places = _tiff_entries(data)
    for at in places:
        tag = struct.unpack(order + "H", data[at : at + 2])[0]
        if (now := {273: 324, 279: 325, 278: 322, 282: 323, 322: 322, 323: 323}.get(tag)) and rng.random() < 0.9:
            data = _replaced(data, at, struct.pack(order + "H", now))
            if now in (322, 323):
                value = rng.choice([16, 48, 1024, 8192, 65_536, 2**31])
                data = _replaced(data, at + 2, struct.pack(order + "HII", 4, 1, value))
    return data


# WebP, GIF, BMP


def riff_chunk(data: bytes, rng: random.Random) -> bytes:
    """A length or a name inside a WebP, or its whole length."""
    found = [match.start() for match in re.finditer(rb"RIFF|VP8[LX ]|ALPH|ANIM|ANMF|EXIF|ICCP", data)]
    if not found:
        return data
    at = rng.choice(found)
    if rng.random() < 0.3:
        return _replaced(data, at, rng.choice([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANMF", b"EXIF", b"ABCD"]))
    return _replaced(data, at + 4, struct.pack("<I", rng.choice(extremes(4, len(data)))))


def gif_block(data: bytes, rng: random.Random) -> bytes:
    """The sizes of the screen or of a frame, a palette's flags, the code size, or a block's length."""
    frame = data.find(b",", 13)
    places = [6, 8, 10, frame + 1, frame + 3, frame + 5, frame + 7, frame + 9, frame + 10, frame + 11]
    at = rng.choice(places if frame > 0 else places[:3])
    return _replaced(data, at, struct.pack("<H", rng.choice(extremes(2, len(data))))[: rng.choice([1, 2])])


def bmp_header(data: bytes, rng: random.Random) -> bytes:
    """One field of the header: length, offset, sides, planes, bits, compression, colours, masks."""
    at, size = rng.choice(
        [(2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4), (54, 4)]
    )
    value = rng.choice([*extremes(size, len(data)), 4, 8, 16, 24, 32, 12, 40, 108, 124, 3, 5, 3000])
    return _replaced(data, at, (value % 2 ** (8 * size)).to_bytes(size, "little"))


# Shards and tables

_TAR_SIZES = [
    b"77777777777\0",
    b"00000000000\0",
    b"-0000000001\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\x80" + bytes(11),
]
_TAR_NAMES = [b"a/1.jpg".ljust(100, b"\0"), b"\xff" * 100, b"../../etc/x.png".ljust(100, b"\0"), bytes(100)]
_TAR_FIELDS = (  # place, bytes, values: the size, the kind, the name, a sparse member's map
    (124, 12, _TAR_SIZES),
    (156, 1, [bytes([kind]) for kind in b"0123456789LKSxgVNM\0"]),
    (0, 100, _TAR_NAMES),
    (386, 24, [b"00000000000\00077777777777", b"99999999999\00077777777777"]),
)


def tar_header(data: bytes, rng: random.Random) -> bytes:
    """A header's field becomes another under a right checksum."""
    places = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not places:
        return data
    at = rng.choice(places)
    header = bytearray(data[at : at + 512])
    field, size, values = rng.choice(_TAR_FIELDS)
    header[field : field + size] = rng.choice(values)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return _replaced(data, at, bytes(header))


def parquet_footer(data: bytes, rng: random.Random) -> bytes:
    """The footer's length, or bytes of the footer: of its schema, its counts and its offsets."""
    if len(data) < 12:
        return data
    size = int.from_bytes(data[-8:-4], "little")
    if rng.random() < 0.2:
        return _replaced(data, len(data) - 8, struct.pack("<I", rng.choice(extremes(4, len(data)))))
    at = len(data) - 8 - rng.randint(1, max(1, min(size, len(data) - 8)))
    return _replaced(data, at, rng.choice([rng.randbytes(1), rng.randbytes(4), b"\xff" * 5, b"\0\0"]))


def safetensors_header(data: bytes, rng: random.Random) -> bytes:
    """A number of the JSON header becomes another; the length before it is made right again."""
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size]
    found = list(re.finditer(rb"-?\d+(\.\d+)?", header))
    if not found:
        return data
    one = rng.choice(found)
    new = rng.choice(
        [b"0", b"1", b"-1", b"2", b"7", b"100000", b"4294967296", b"99999999999999999999", b"1e400", b"null", b'"x"']
    )
    header = header[: one.start()] + new + header[one.end() :]
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


DAMAGES: dict[str, tuple[Damage, ...]] = {
    "png": (png_chunk_order, png_chunk_content, png_chunk_content, png_header, png_bomb),
    "jpeg": (jpeg_segment, jpeg_segment, jpeg_segment, jpeg_scans),
    "tiff": (tiff_entry, tiff_entry, tiff_entry, tiff_tiles),
    "webp": (riff_chunk,),
    "gif": (gif_block,),
    "bmp": (bmp_header,),
    "tar": (tar_header,),
    "parquet": (parquet_footer,),
    "parquet manifest": (parquet_footer,),
    "thresholds": (parquet_footer,),
    "checkpoint": (safetensors_header,),
}


def too_large(form: str, data: bytes, rng: random.Random) -> bytes:
    """The same file, its header telling of billions of pixels."""
    width, height = rng.choice(_LARGE), rng.choice(_LARGE)
    if form == "png":
        chunks = _chunks(data)
        return _png([(b"IHDR", struct.pack(">II", width, height) + chunks[0][1][8:]), *chunks[1:]])
    if form == "jpeg":
        at = next(at for at, _ in _segments(data) if 0xC0 <= data[at + 1] <= 0xC2)
        return _replaced(data, at + 5, struct.pack(">HH", height, width))
    if form == "gif":
        return _replaced(data, 6, struct.pack("<HH", width, height))
    if form == "bmp":
        return _replaced(data, 18, struct.pack("<ii", width, height))
    if form == "webp":
        return _webp_too_large(data)
    return _tiff_too_large(data, width, height)


def _webp_too_large(data: bytes) -> bytes:
    """14 bits a side is all that it has: 268 million pixels."""
    extended, lossless, lossy = (data.find(name) for name in (b"VP8X", b"VP8L", b"VP8 "))
    if extended > 0:
        data = _replaced(data, extended + 12, b"\xfe\x3f\0\xfe\x3f\0")
    if b"ANIM" in data:  # its frames may be smaller
        return data
    if lossless > 0:
        bits = int.from_bytes(data[lossless + 9 : lossless + 13], "little") | (2**28 - 1)
        return _replaced(data, lossless + 9, bits.to_bytes(4, "little"))
    return _replaced(data, lossy + 14, b"\xff\x3f\xff\x3f")


def _tiff_too_large(data: bytes, width: int, height: int) -> bytes:
    if 43 in data[2:4]:  # BigTIFF, as tifffile writes it: tags 256 and 257 as 64-bit numbers of 4 or 8 bytes
        for tag, side in ((256, width), (257, height)):
            at = data.index(struct.pack("<HHQ", tag, 4, 1))
            data = _replaced(data, at + 12, struct.pack("<Q", side))
        return data
    order, places = _tiff_entries(data)
    for at in places:
        tag = struct.unpack(order + "H", data[at : at + 2])[0]
        if tag in (256, 257):
            data = _replaced(data, at + 2, struct.pack(order + "HII", 4, 1, width if tag == 256 else height))
    return data
