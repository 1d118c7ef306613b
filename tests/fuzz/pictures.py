"""Small real pictures of every format and kind that the pipeline reads, encoded by their usual writers."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

_ORIENTATION, _TURNED_RIGHT = 0x0112, 6
_ADOBE = b"\xff\xee\x00\x0eAdobe"


def _noise(height: int, width: int) -> np.ndarray:
    """Smooth colours with a little noise, so that every coder has something to do: (h, w, 4) of 16 bits."""
    y, x = np.mgrid[0:height, 0:width] / 8
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y), np.cos(x - y)], axis=-1)
    noise = np.random.default_rng(0).integers(0, 6000, (height, width, 4))
    return (30_000 + 25_000 * waves + noise).clip(0, 65_535).astype(np.uint16)


DEEP = _noise(20, 24)
RGBA = Image.fromarray((DEEP >> 8).astype(np.uint8))
RGB = RGBA.convert("RGB")
GREY = RGB.convert("L")
PALETTE = RGB.quantize(32)
BIT = GREY.convert("1")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.copy().save(out, form, **options)  # a picture keeps the settings that one format saved it by
    return out.getvalue()


def _several() -> dict[str, Any]:
    return {"save_all": True, "append_images": [RGB.rotate(90), RGB.rotate(180)]}


def _tiff(values: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, metadata=None, **options)
    return out.getvalue()


def _cv2(ending: str, values: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(ending, values, options)[1].tobytes()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED_RIGHT
    return exif


def _profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a note")
    info.add_text("Description", "a longer note " * 20, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", zip=True)
    return info


def _without_adobe(data: bytes) -> bytes:
    at = data.index(_ADOBE)
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]


def _bmp_rle8() -> bytes:
    """Runs of 4 and of 2 pixels, an end mark for each of 4 rows: no writer at hand makes these."""
    rows = b"".join(bytes([4, n, 2, n + 1, 0, 0]) for n in range(4)) + b"\0\1"
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, 6, 4, 1, 8, 1, len(rows), 0, 0, 256, 0)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + palette + rows


def _png() -> dict[str, bytes]:
    return {
        "rgb": saved(RGB, "PNG"), "grey": saved(GREY, "PNG"), "palette": saved(PALETTE, "PNG"),
        "clear palette": saved(PALETTE, "PNG", transparency=3), "rgba": saved(RGBA, "PNG"),
        "grey and alpha": saved(RGBA.convert("LA"), "PNG"), "bit": saved(BIT, "PNG"),
        "16-bit grey": _cv2(".png", DEEP[:, :, 0]), "16-bit rgba": _cv2(".png", DEEP),
        "notes": saved(RGB, "PNG", pnginfo=_texts(), icc_profile=_profile(), exif=_turned()),
        "animated": saved(RGB, "PNG", **_several()),
    }  # fmt: skip


def _jpeg() -> dict[str, bytes]:
    cmyk = saved(RGB.convert("CMYK"), "JPEG")
    return {
        "rgb": saved(RGB, "JPEG"), "fine": saved(RGB, "JPEG", subsampling=0, quality=95),
        "progressive": saved(RGB, "JPEG", progressive=True), "grey": saved(GREY, "JPEG"), "cmyk": cmyk,
        "cmyk without adobe": _without_adobe(cmyk), "restarts": saved(RGB, "JPEG", restart_marker_blocks=1),
        "notes": saved(RGB, "JPEG", exif=_turned(), icc_profile=_profile(), comment="a note"),
        "several": saved(RGB, "MPO", **_several()),
    }  # fmt: skip


def _others() -> dict[str, dict[str, bytes]]:
    return {
        "webp": {
            "lossy": saved(RGB, "WEBP"), "lossless": saved(RGB, "WEBP", lossless=True), "alpha": saved(RGBA, "WEBP"),
            "animated": saved(RGB, "WEBP", **_several()),
            "notes": saved(RGB, "WEBP", exif=_turned(), icc_profile=_profile()),
        },
        "bmp": {
            "rgb": saved(RGB, "BMP"), "rgba": saved(RGBA, "BMP"), "palette": saved(PALETTE, "BMP"),
            "bit": saved(BIT, "BMP"), "runs": _bmp_rle8(),
        },
        "gif": {
            "plain": saved(PALETTE, "GIF"), "clear": saved(PALETTE, "GIF", transparency=3),
            "animated": saved(RGB, "GIF", **_several()), "comment": saved(PALETTE, "GIF", comment=b"note " * 80),
            "straight": saved(PALETTE, "GIF", interlace=0),
        },
    }  # fmt: skip


def _tiffs() -> dict[str, bytes]:
    grey, colours = DEEP[:, :, 0], DEEP[:, :, :3]
    unit = (DEEP / 65_535).astype(np.float32)
    rgb = {"photometric": "rgb"}
    return {
        "plain": saved(RGB, "TIFF"), "lzw": saved(RGB, "TIFF", compression="tiff_lzw"),
        "deflate": saved(RGB, "TIFF", compression="tiff_adobe_deflate"), "palette": saved(PALETTE, "TIFF"),
        "packbits": saved(RGB, "TIFF", compression="packbits"), "jpeg": saved(RGB, "TIFF", compression="jpeg"),
        "fax": saved(BIT, "TIFF", compression="group4"), "rgba": saved(RGBA, "TIFF"),
        "cmyk": saved(RGB.convert("CMYK"), "TIFF"), "pages": saved(RGB, "TIFF", **_several()),
        "turned": saved(RGB, "TIFF", exif=_turned()), "tiles": _tiff(DEEP[:, :, 0].astype(np.uint8), tile=(16, 16)),
        "16-bit": _tiff(grey), "16-bit strips": _tiff(grey, rowsperstrip=4, compression="zlib"),
        "16-bit tiles": _tiff(colours, tile=(16, 16), **rgb),
        "16-bit alpha": _tiff(DEEP, extrasamples=["unassalpha"], **rgb),
        "signed": _tiff((grey.astype(np.int32) - 30_000).clip(-30_000, 30_000).astype(np.int16)),
        "float": _tiff(unit[:, :, 0]), "float colours": _tiff(unit[:, :, :3], **rgb),
        "64-bit float": _tiff(unit[:, :, 0].astype(np.float64), compression="zlib"), "big": _tiff(grey, bigtiff=True),
        "big-endian": _tiff(colours, byteorder=">", **rgb),
    }  # fmt: skip


def small_pictures() -> dict[str, dict[str, bytes]]:
    """By format, then by kind: 24×20 pixels, some hundred bytes to 4 KB."""
    return {"png": _png(), "jpeg": _jpeg(), "tiff": _tiffs(), **_others()}


def large_pictures() -> dict[str, dict[str, bytes]]:
    """1200×900 pixels, in one kind of each format."""
    large = Image.fromarray((_noise(900, 1200)[:, :, :3] >> 8).astype(np.uint8))
    made: dict[str, Callable[[], bytes]] = {
        "png": lambda: saved(large, "PNG", compress_level=1),
        "jpeg": lambda: saved(large, "JPEG", progressive=True),
        "tiff": lambda: saved(large, "TIFF", compression="tiff_lzw"),
        "webp": lambda: saved(large, "WEBP", method=0),
        "bmp": lambda: saved(large, "BMP"),
        "gif": lambda: saved(large, "GIF"),
    }
    return {form: {"large": make()} for form, make in made.items()}
