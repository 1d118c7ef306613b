"""Encoded bytes to uint8 RGB at the model's side, by rules that the run record keeps.

Pillow decodes; pictures deeper than 8 bits a channel, which Pillow clips or cuts, go through OpenCV and are
scaled by the bit depth's full range (or `--bit-depth-range`). One picture that cannot be decoded is a row with
a reason, never an exception beyond `decode_image`'s own `ImageRejected`.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from cops.images import MAX_SIDE_PX, TURNED, flatten, orientation_of, strips, upright
from pipeline.errors import InputError
from pipeline.schema import Reason
from pipeline.structure import objection, verdict
from pipeline.tiff import TIFF_SIGNATURES, FloatTiff, read_float_tiff, tile_size

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # it writes a line on stderr for every bad TIFF

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ENDINGS = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.init()  # registers every plugin; `formats=` below chooses among them
Image.MAX_IMAGE_PIXELS = None  # ours is checked before any pixel is decoded, and says so in the table

PILLOWS_FLOAT_TIFF = "L;32F"  # the one kind of float TIFF that Pillow reads
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_EXTRA_SAMPLES, _TIFF_SAMPLE_FORMAT = 258, 262, 284, 338, 339
_SIGNED, _FLOAT, _SEPARATE_PLANES = 2, 3, 2
_ALPHAS = {1: "premultiplied", 2: "straight"}
_PNG_HEADER = slice(12, 16)  # after signature 8 and chunk length 4
_PNG_BIT_DEPTH_AT = 24  # signature 8, chunk length 4, "IHDR" 4, width 4, height 4
_PNG_COLOUR_AT, _PNG_GREY_ALPHA = 25, 4

PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # of a note or a colour profile, inflated; those of printers take some 2 MiB
_PILLOWS_LIMITS = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY")

_SCALED_LEAST = 2  # times the model's side, so that what it sees is still an average of several pixels

# What decoding one picture takes beside its encoded bytes, at its peak; measured at 3000×3000. Animated lossless WebP
# takes 19.3, still WebP 16 to 18, 16-bit colours with alpha 16.3, progressive JPEG up to 12.1, most others 5 to 9.
PEAK_BYTES_PER_PIXEL = 20

RGB = npt.NDArray[np.uint8]


class ImageRejected(Exception):  # noqa: N818 -- a verdict on one picture, not a failure of the program
    """This picture goes to quarantine: why, as a code and in words."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class DecodeRules:
    """Every rule that changes pixels, and the bounds that keep memory in bounds; part of the run record."""

    max_pixels: int = 100_000_000  # 300 MB as RGB
    max_bytes: int = 256 * 2**20  # of one encoded picture
    bit_depth_range: str | None = None
    alpha_background: str = "#ffffff"
    scaled_jpeg: bool = False  # decode a large JPEG at a half, quarter or eighth, at least twice the model's side

    def __post_init__(self) -> None:
        _ = self.value_range, self.background
        if min(self.max_pixels, self.max_bytes) < 1:
            raise InputError("--max-pixels and --max-bytes: expected 1 or more")

    def record(self) -> dict[str, Any]:
        """What a run keeps of them: a rule that came later only where it is used, so that older runs stay alike."""
        told = asdict(self)
        if not self.scaled_jpeg:
            del told["scaled_jpeg"]
        return told

    @property
    def value_range(self) -> tuple[float, float] | None:
        """`LO:HI` as numbers: what becomes black and what becomes white."""
        if self.bit_depth_range is None:
            return None
        try:
            low, high = (float(part) for part in self.bit_depth_range.split(":"))
        except ValueError as exc:
            raise InputError(f"--bit-depth-range: expected LO:HI such as 0:4095, got {self.bit_depth_range!r}") from exc
        if not (np.isfinite([low, high]).all() and low < high):
            raise InputError(f"--bit-depth-range: LO must be below HI, got {self.bit_depth_range!r}")
        return low, high

    @property
    def background(self) -> tuple[int, int, int]:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.alpha_background):
            raise InputError(f"--alpha-background: expected a colour such as #ffffff, got {self.alpha_background!r}")
        red, green, blue = bytes.fromhex(self.alpha_background[1:])
        return red, green, blue


@dataclass(frozen=True)
class Decoded:
    """A picture as shown: EXIF orientation applied, RGB. `mode` is the file's own.

    `rgb` has the full `size`, but for a JPEG that was decoded at a fraction of it on purpose.
    """

    rgb: Image.Image
    format: str
    mode: str
    size: tuple[int, int]


def decode_image(data: bytes, rules: DecodeRules) -> Decoded:
    """The picture in full size, uint8 RGB.

    Raises:  ImageRejected: it cannot be shown whole and unclipped; with the reason.
    """
    with _row_guard(data):
        return _decode(data, rules)


def decode_to_side(data: bytes, rules: DecodeRules, side: int) -> tuple[Decoded, RGB]:
    """The picture, and as the model's input; in full size, but for a large JPEG where the rules say `scaled_jpeg`.

    Raises:  ImageRejected: as `decode_image`, or it cannot be resized.
    """
    with _row_guard(data):
        picture = _decode(data, rules, least_px=_SCALED_LEAST * side if rules.scaled_jpeg else None)
        return picture, resize(picture.rgb, side)


@contextmanager
def _row_guard(data: bytes) -> Iterator[None]:
    """Whatever a picture does to a decoder becomes its `ImageRejected`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata: the picture counts
        try:
            yield
        except ImageRejected:
            raise
        except UnidentifiedImageError as exc:
            raise ImageRejected(*verdict(data, None)) from exc
        except MemoryError as exc:
            raise ImageRejected(Reason.OUT_OF_MEMORY, "decoding it ran out of memory") from exc
        except Exception as exc:  # the row guard of the whole pipeline
            text = f"{type(exc).__name__}: {exc}"[:300]
            if any(limit in text for limit in _PILLOWS_LIMITS):
                raise ImageRejected(Reason.TOO_MANY_BYTES, "a PNG whose notes are too long once inflated") from exc
            raise ImageRejected(*verdict(data, text)) from exc


def _check_bytes(data: bytes, rules: DecodeRules) -> None:
    if not data:
        raise ImageRejected(Reason.EMPTY, "the file has no bytes")
    if len(data) > rules.max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{len(data)} bytes; at most {rules.max_bytes} (--max-bytes)")


def resize(rgb: Image.Image, side: int) -> RGB:
    """The model's input: (side, side, 3), bicubic with antialias on 8-bit pixels, aspect not kept."""
    if rgb.size != (side, side):
        rgb = rgb.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(rgb)


def _decode(data: bytes, rules: DecodeRules, *, least_px: int | None = None) -> Decoded:
    """Args:    least_px: libjpeg may scale a JPEG down, to no less than that on both sides."""
    _check_bytes(data, rules)
    if data[:4] in TIFF_SIGNATURES and (tiff := read_float_tiff(data)) and tiff.mode != PILLOWS_FLOAT_TIFF:
        return _decode_float_tiff(data, tiff, rules)
    if refused := objection(data):
        raise ImageRejected(*refused)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(image.size, rules)
        full_size = image.size
        is_scaled = bool(least_px and image.format == "JPEG" and image.draft(None, (least_px, least_px)))
        form, mode, depth = str(image.format), image.mode, _depth(image, data)
        if form == "TIFF":
            _check_size(tile_size(image.tag_v2), rules)  # type: ignore[attr-defined]  # decoded whole
        image.load()  # whole or an error: OpenCV below would fill the rest of a cut file with black
        orientation = orientation_of(image)
        clear = _clear_value(image)
        is_packed = depth is not None and 8 < depth.bits < 16  # 12 bits: OpenCV would move them to the top of 16
        packed = np.asarray(image) if is_packed else None
        rgb = flatten(image, rules.background) if depth is None else None
        image.close()  # its pixels, before there are others
    if rgb is None:
        assert depth is not None
        if form == "PNG" and data[_PNG_COLOUR_AT] == _PNG_GREY_ALPHA:
            mode = "LA"  # Pillow opens it as RGBA
        mode = mode if mode[0] in "IF" else f"{mode};{depth.bits}"
        rgb = _deep_rgb(_deep_pixels(data) if packed is None else packed, depth, rules, clear)
    shown = upright(rgb, orientation)
    turned_size = full_size[::-1] if orientation in TURNED else full_size
    return Decoded(shown, form, mode, turned_size if is_scaled else shown.size)


def _decode_float_tiff(data: bytes, tiff: FloatTiff, rules: DecodeRules) -> Decoded:
    width, height = tiff.size
    for size in (tiff.size, tiff.tile_size):
        _check_size(size, rules)
    taken = 2 * tiff.bytes_per_pixel + 4  # OpenCV holds a strip beside the numbers, and one strip may be all of them
    if width * height * taken > PEAK_BYTES_PER_PIXEL * rules.max_pixels:
        most = PEAK_BYTES_PER_PIXEL * rules.max_pixels // taken
        message = f"{width}×{height} pixels of {tiff.mode}; at most {most} (--max-pixels {rules.max_pixels})"
        raise ImageRejected(Reason.TOO_MANY_PIXELS, message)
    if tiff.end > len(data):  # OpenCV would fill the rest with black
        raise ImageRejected(Reason.TRUNCATED, f"a TIFF that ends {tiff.end - len(data)} bytes before its picture does")
    values = _deep_pixels(data)  # upright: OpenCV turns TIFFs
    if sorted(values.shape[:2]) != sorted(tiff.size) or values.size != width * height * tiff.channels:
        raise ImageRejected(Reason.CORRUPT, f"a TIFF of {width}×{height} pixels that decodes to {values.shape}")
    alpha = _ALPHAS.get(tiff.extra_samples, "none")
    depth = _Depth(tiff.bits, "float", zero_is_white=tiff.zero_is_white, alpha=alpha)
    rgb = _deep_rgb(values, depth, rules)
    return Decoded(rgb, "TIFF", tiff.mode, rgb.size)


def _check_size(size: tuple[int, int], rules: DecodeRules) -> None:
    width, height = size
    found = f"{width}×{height} pixels; at most"
    if width * height > rules.max_pixels:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{found} {rules.max_pixels} (--max-pixels)")
    if max(width, height) > MAX_SIDE_PX:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{found} {MAX_SIDE_PX} on the longer side")


@dataclass(frozen=True)
class _Depth:
    """How numbers are stored in a picture deeper than 8 bits, or with negative ones."""

    bits: int
    kind: str  # "unsigned", "signed", "float"
    zero_is_white: bool = False
    alpha: str = "straight"  # what a channel beyond the colours is: "straight", "premultiplied", "none"

    @property
    def full_range(self) -> tuple[float, float]:
        if self.kind == "float":
            return 0.0, 1.0
        low = -(2 ** (self.bits - 1)) if self.kind == "signed" else 0
        return float(low), float(low + 2**self.bits - 1)


def _depth(image: Image.Image, data: bytes) -> _Depth | None:
    """None for 8 bits and fewer a channel, counted from 0."""
    if image.format == "PNG":
        if data[_PNG_HEADER] != b"IHDR":
            raise ImageRejected(Reason.CORRUPT, "a PNG that does not begin with its header")
        return _Depth(16, "unsigned") if data[_PNG_BIT_DEPTH_AT] == 16 else None
    if image.format != "TIFF":
        return None
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = max(tags.get(_TIFF_BITS, (1,)))
    sample_format = (tags.get(_TIFF_SAMPLE_FORMAT) or (1,))[0]
    if bits <= 8 and sample_format != _SIGNED:
        return None
    if tags.get(_TIFF_PLANES) == _SEPARATE_PLANES and len(image.getbands()) > 1:  # OpenCV mixes them up
        raise ImageRejected(Reason.UNSUPPORTED, f"a TIFF of {bits} bits whose colours are stored one after the other")
    kind = {_SIGNED: "signed", _FLOAT: "float"}.get(sample_format, "unsigned")
    alpha = _ALPHAS.get((tags.get(_TIFF_EXTRA_SAMPLES) or (0,))[0], "none")
    return _Depth(bits, kind, zero_is_white=tags.get(_TIFF_PHOTOMETRIC) == 0, alpha=alpha)


def _deep_pixels(data: bytes) -> npt.NDArray[np.generic]:
    """The first page's own numbers, (h, w) or (h, w, channels) in RGB order."""
    import cv2  # noqa: PLC0415 -- 60 MB of memory in each worker, for the archives that need it

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ImageRejected(*verdict(data, "a picture of more than 8 bits a channel that OpenCV cannot decode"))
    if values.ndim == 3 and values.shape[2] == 4:
        blue = values[:, :, 0].copy()
        values[:, :, 0], values[:, :, 2] = values[:, :, 2], blue
    return values[:, :, ::-1] if values.ndim == 3 and values.shape[2] == 3 else values


def _clear_value(image: Image.Image) -> int | None:
    """A grey PNG may name one value as transparent, which OpenCV heeds in colour pictures only."""
    clear = image.info.get("transparency")
    return clear if image.format == "PNG" and len(image.getbands()) == 1 and isinstance(clear, int) else None


def _deep_rgb(
    values: npt.NDArray[np.generic], depth: _Depth, rules: DecodeRules, clear: int | None = None
) -> Image.Image:
    """(h, w[, c]) numbers of any depth as RGB. In strips of rows: their arithmetic takes 60 bytes a pixel.

    Args:    clear: the value of grey that shows the background.
    """
    if depth.kind == "float":
        _check_float(values, rules)
    height, width = values.shape[:2]
    rgb = Image.new("RGB", (width, height))
    for top, bottom in strips((width, height)):
        strip = _with_alpha(values[top:bottom], clear)
        rgb.paste(Image.fromarray(_scale(strip, depth, rules)), (0, top))
    return rgb


def _with_alpha(values: npt.NDArray[np.generic], clear: int | None) -> npt.NDArray[np.generic]:
    if clear is None or values.ndim != 2:
        return values
    alpha = np.where(values == clear, np.uint16(0), np.iinfo(np.uint16).max)
    return np.dstack([values, alpha.astype(np.uint16)])


def _scale(values: npt.NDArray[np.generic], depth: _Depth, rules: DecodeRules) -> RGB:
    """(h, w[, c]) numbers of any depth to (h, w, 3) uint8: LO is 0, HI is 255, rounded; alpha composited."""
    low, high = rules.value_range or depth.full_range
    exact: Any = np.float64 if depth.bits == 64 else np.float32
    unit = ((values.astype(exact) - exact(low)) / exact(high - low)).astype(np.float32)
    unit = 1 - unit if depth.zero_is_white else unit
    channels = unit if unit.ndim == 3 else unit[:, :, None]
    if channels.shape[2] in (2, 4):
        top = depth.full_range[1]
        alpha = np.clip(values[:, :, -1:].astype(np.float32) / np.float32(top), 0, 1)
        alpha = np.ones_like(alpha) if depth.alpha == "none" else alpha
        share = np.ones_like(alpha) if depth.alpha == "premultiplied" else alpha
        background = np.asarray(rules.background, np.float32) / 255
        channels = np.clip(channels[:, :, :-1], 0, 1) * share + background * (1 - alpha)
    elif channels.shape[2] not in (1, 3):
        raise ImageRejected(Reason.UNSUPPORTED, f"{channels.shape[2]} channels of {depth.bits} bits; expected 1 to 4")
    eight_bit = np.rint(np.clip(channels, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(eight_bit, (*eight_bit.shape[:2], 3)))


def _check_float(values: npt.NDArray[np.generic], rules: DecodeRules) -> None:
    low, high = float(np.min(values)), float(np.max(values))
    if not np.isfinite([low, high]).all():
        raise ImageRejected(Reason.VALUE_RANGE, "a float picture that holds NaN or infinity")
    if rules.value_range is None and (low < 0 or high > 1):
        message = f"a float picture with values from {low:g} to {high:g}; say what is black and white by "
        raise ImageRejected(Reason.VALUE_RANGE, message + "--bit-depth-range LO:HI")
