"""TIFFs of float colours or 64-bit floats: Pillow does not know them, OpenCV decodes them, their tags are read here."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import TiffImagePlugin

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 262, 277
_OFFSETS, _SIZES = (273, 324), (279, 325)  # of strips, of tiles
_PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 338, 339
_SEPARATE_PLANES, _FLOAT = 2, 3
_FORMATS = {1: "unsigned", 2: "signed", 3: "float"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # what OpenCV decodes
_PHOTOMETRICS = {1: (0, 1), 3: (2,), 4: (2,)}
_HEADER_BYTES = {42: 8, 43: 16}  # of TIFF and BigTIFF


@dataclass(frozen=True)
class FloatTiff:
    """The first page of such a TIFF, as its tags describe it."""

    size: tuple[int, int]
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


def describe_tiff(data: bytes) -> str:
    """What a TIFF that nothing here reads says of itself, in words."""
    try:
        tags = _tags(data)
        bits = "+".join(str(depth) for depth in tags[_BITS][:8])
        kind = _FORMATS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "unsigned")
    except Exception:  # noqa: BLE001 -- it is refused anyway; this is about the words
        return "a TIFF whose header cannot be read"
    return f"a TIFF of {bits} bits, {kind}, a kind that is not read; store it as 8 or 16 bits, or as 32-bit float"


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
    offsets, sizes = (next(tags[tag] for tag in either if tag in tags) for either in (_OFFSETS, _SIZES))
    if 0 in offsets:  # a part that was never written
        return None
    return FloatTiff(
        size=(int(tags[_WIDTH]), int(tags[_HEIGHT])),
        channels=channels,
        bits=bits.pop(),
        zero_is_white=tags.get(_PHOTOMETRIC) == 0,
        extra_samples=(tags.get(_EXTRA_SAMPLES) or (0,))[0],
        end=max(offset + size for offset, size in zip(offsets, sizes, strict=True)),
    )
