"""What a TIFF's tags say: of floats that Pillow does not know and OpenCV decodes, of its tiles, of its end."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import TiffImagePlugin

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two of BigTIFF
_BIG_ENDIAN_BIGTIFF = TIFF_SIGNATURES[3]  # Pillow takes it for a TIFF of another version
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 262, 277
_ESSENTIAL = (_WIDTH, _HEIGHT, 259, _PHOTOMETRIC)  # and the compression
_OFFSETS, _SIZES = (273, 324), (279, 325)  # of strips, of tiles
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
_SEPARATE_PLANES, _FLOAT = 2, 3
_FORMATS = {1: "unsigned", 2: "signed", 3: "float"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # what OpenCV decodes
_PHOTOMETRICS = {1: (0, 1), 3: (2,), 4: (2,)}
_HEADER_BYTES = {42: 8, 43: 16}  # of TIFF and BigTIFF
_BIG = 43
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class FloatTiff:
    """The first page of such a TIFF, as its tags describe it."""

    size: tuple[int, int]
    tile_size: tuple[int, int]
    channels: int
    bits: int
    zero_is_white: bool
    extra_samples: int
    end: int
    """Where the last byte of the picture should be."""

    @property
    def bytes_per_pixel(self) -> int:
        return self.channels * self.bits // 8

    @property
    def mode(self) -> str:
        return f"{_MODES[self.channels]};{self.bits}F"


def read_float_tiff(data: bytes) -> FloatTiff | None:
    """What a TIFF of 1, 3 or 4 interleaved channels of floats says of itself; None for anything else."""
    try:
        return _described(_tags(data))
    except Exception:  # noqa: BLE001 -- whatever is wrong with the header, it is no such TIFF
        return None


def tile_size(tags: Any) -> tuple[int, int]:
    """Width and height of its tiles, which may be far larger than the picture; (1, 1) where it has none."""
    return int(tags.get(_TILE_WIDTH, 1)), int(tags.get(_TILE_HEIGHT, 1))


def describe_tiff(data: bytes) -> str | None:
    """What a TIFF that nothing here reads says of itself, in words; None where its header cannot be read."""
    if data.startswith(_BIG_ENDIAN_BIGTIFF):
        return "a big-endian BigTIFF, a kind that is not read; store it as a little-endian one"
    try:
        tags = _tags(data)
        width, height, compression, photometric = (int(tags[tag]) for tag in _ESSENTIAL)
        bits = "+".join(str(int(depth)) for depth in tags[_BITS][:8])
        kind = _FORMATS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "unsigned")
    except Exception:  # noqa: BLE001 -- it is refused anyway; this is about the words
        return None
    told = f"{width}×{height} pixels of {bits} bits, {kind}, compression {compression}, photometric {photometric}"
    return f"a TIFF of {told}, a kind that is not read; plain RGB or grey of 8 or 16 bits, or 32-bit float, is"


def tiff_ends_early(data: bytes) -> bool:
    """Whether its first directory, a value in it, or a strip or tile lies beyond the file's end."""
    order: Any = "little" if data[:2] == b"II" else "big"
    big = int.from_bytes(data[2:4], order) == _BIG
    word, counted, entry_bytes = (8, 8, 20) if big else (4, 2, 12)

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    first = number(word, word)
    if len(data) >= 2 * word and first < 2 * word:  # within the header: no place at all
        return False
    start, entries = first + counted, number(first, counted)
    if max(2 * word, start + entries * entry_bytes) > len(data):
        return True
    for at in range(start, start + entries * entry_bytes, entry_bytes):
        size = _TYPE_BYTES.get(number(at + 2, 2), 0) * number(at + 4, word)
        if size > word and number(at + 4 + word, word) + size > len(data):
            return True
    try:
        return _picture_end(_tags(data)) > len(data)
    except Exception:  # noqa: BLE001 -- damaged in other ways
        return False


def _tags(data: bytes) -> Any:
    version = int.from_bytes(data[2:4], "little" if data[:2] == b"II" else "big")
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: _HEADER_BYTES[version]])
    stream = io.BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _described(tags: Any) -> FloatTiff | None:
    channels, bits, kinds = int(tags.get(_SAMPLES, 1)), set(tags[_BITS]), set(tags[_SAMPLE_FORMAT])
    if kinds != {_FLOAT} or bits not in ({32}, {64}) or tags[_PHOTOMETRIC] not in _PHOTOMETRICS.get(channels, ()):
        return None
    if channels > 1 and tags.get(_PLANES) == _SEPARATE_PLANES:
        return None
    if 0 in _one_of(tags, _OFFSETS):  # a part that was never written
        return None
    return FloatTiff(
        size=(int(tags[_WIDTH]), int(tags[_HEIGHT])),
        tile_size=tile_size(tags),
        channels=channels,
        bits=bits.pop(),
        zero_is_white=tags.get(_PHOTOMETRIC) == 0,
        extra_samples=(tags.get(_EXTRA_SAMPLES) or (0,))[0],
        end=_picture_end(tags),
    )


def _picture_end(tags: Any) -> int:
    pieces = zip(_one_of(tags, _OFFSETS), _one_of(tags, _SIZES), strict=True)
    return max(int(offset) + int(size) for offset, size in pieces)


def _one_of(tags: Any, either: tuple[int, int]) -> tuple[int, ...]:
    found: tuple[int, ...] = next(tags[tag] for tag in either if tag in tags)
    return found
