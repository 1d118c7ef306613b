"""Files that a reader must survive: broken, oversized, oddly coded or oddly named ones, with the outcome to expect."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from pipeline.samples.catalog import draw
from pipeline.samples.plan import Entry, Hostility, Outcome, Settings, encode, pictures, when_and_where

RGB8 = UInt8[np.ndarray, "h w 3"]

_OWN_PICTURES = 10**9  # the hostile files' pictures are numbered from here, so that they repeat no other
_EXIF_ORIENTATION, _TURNED_RIGHT = 0x0112, 6


@dataclass(frozen=True, kw_only=True)
class HostileKind:
    """One sort of hostile file."""

    kind: str
    what: str
    make: Callable[[RGB8], bytes]
    expected: Outcome = "scored"
    file: str = "{number}_{kind}.jpg"


def _saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _pil(picture: RGB8) -> Image.Image:
    return Image.fromarray(picture)


def _jpg(picture: RGB8) -> bytes:
    return encode(picture, ".jpg")


def _png(picture: RGB8) -> bytes:
    return encode(picture, ".png")


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _bomb(_: RGB8) -> bytes:
    """A PNG of 70 bytes whose header claims 60,000 × 60,000 pixels, 10.8 GB when decoded."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(64))) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _deep(picture: UInt8[np.ndarray, "h w *c"]) -> UInt16[np.ndarray, "h w *c"]:
    """The picture in 16 bits, its values using the full range."""
    return picture.astype(np.uint16) * 257


def _cv2_png(picture: UInt16[np.ndarray, "h w *c"]) -> bytes:
    done, data = cv2.imencode(".png", picture)
    assert done
    return data.tobytes()


def _palette(picture: RGB8) -> bytes:
    return _saved(_pil(picture).quantize(64), "PNG", transparency=0)


def _with_alpha(picture: RGB8) -> bytes:
    alpha = np.linspace(0, 255, picture.shape[0]).astype(np.uint8)[:, None].repeat(picture.shape[1], axis=1)
    return _saved(Image.fromarray(np.dstack([picture, alpha])), "PNG")


def _turned(picture: RGB8) -> bytes:
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _TURNED_RIGHT
    return _saved(_pil(np.rot90(picture)[: picture.shape[0] * 3 // 4]), "JPEG", quality=92, exif=exif)


def _pages(picture: RGB8, file_format: str) -> bytes:
    others = [_pil(np.ascontiguousarray(np.roll(picture, step, 0))) for step in (16, 32)]
    return _saved(_pil(picture), file_format, save_all=True, append_images=others)


def _grey(picture: RGB8) -> UInt8[np.ndarray, "h w"]:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8)


def _float_tiff(picture: RGB8) -> bytes:
    return _saved(Image.fromarray(_grey(picture).astype(np.float32) / np.float32(255)), "TIFF")


def _web_page(_: RGB8) -> bytes:
    return b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Service Unavailable</body></html>\n"


_Q: Outcome = "quarantined"
KINDS: tuple[HostileKind, ...] = (
    HostileKind(kind="truncated_jpeg", what="a JPEG cut in half", make=lambda p: _half(_jpg(p)), expected=_Q),
    HostileKind(kind="zero_byte", what="an empty file", make=lambda _: b"", expected=_Q),
    HostileKind(kind="cmyk_jpeg", what="a CMYK JPEG", make=lambda p: _saved(_pil(p).convert("CMYK"), "JPEG")),
    HostileKind(
        kind="grey16_png",
        what="a 16-bit grey PNG",
        file="{number}_{kind}.png",
        make=lambda p: _cv2_png(_deep(_grey(p))),
    ),
    HostileKind(
        kind="bomb_png",
        what="a small PNG that claims 60000×60000 px",
        file="{number}_{kind}.png",
        make=_bomb,
        expected=_Q,
    ),
    HostileKind(kind="exif_rotated", what="a JPEG that EXIF says to turn by 90°", make=_turned),
    HostileKind(kind="space_name", what="spaces in the name", file="{number} with  spaces .jpg", make=_jpg),
    HostileKind(
        kind="truncated_png",
        what="a PNG cut in half",
        file="{number}_{kind}.png",
        make=lambda p: _half(_png(p)),
        expected=_Q,
    ),
    HostileKind(kind="text_jpg", what="text named .jpg", make=lambda _: b"see the other folder\n" * 9, expected=_Q),
    HostileKind(kind="html_jpg", what="an HTML error page named .jpg", make=_web_page, expected=_Q),
    HostileKind(kind="palette_png", what="a palette PNG with transparency", file="{number}_{kind}.png", make=_palette),
    HostileKind(kind="alpha_png", what="a PNG with an alpha channel", file="{number}_{kind}.png", make=_with_alpha),
    HostileKind(
        kind="rgb16_png",
        what="a 16-bit colour PNG",
        file="{number}_{kind}.png",
        make=lambda p: _cv2_png(_deep(p[..., ::-1])),
    ),
    HostileKind(
        kind="grey16_tiff",
        what="a 16-bit grey TIFF",
        file="{number}_{kind}.tif",
        make=lambda p: _saved(Image.fromarray(_deep(_grey(p))), "TIFF"),
    ),
    HostileKind(
        kind="float32_tiff", what="a float32 TIFF with values from 0 to 1", file="{number}_{kind}.tif", make=_float_tiff
    ),
    HostileKind(
        kind="multipage_tiff",
        what="a TIFF of three pages",
        file="{number}_{kind}.tiff",
        make=lambda p: _pages(p, "TIFF"),
    ),
    HostileKind(
        kind="animated_gif", what="a GIF of three frames", file="{number}_{kind}.gif", make=lambda p: _pages(p, "GIF")
    ),
    HostileKind(
        kind="bit1_png",
        what="a 1-bit PNG",
        file="{number}_{kind}.png",
        make=lambda p: _saved(_pil(p).convert("1"), "PNG"),
    ),
    HostileKind(
        kind="one_pixel_png", what="a PNG of one pixel", file="{number}_{kind}.png", make=lambda p: _png(p[:1, :1])
    ),
    HostileKind(
        kind="wide_png",
        what="a PNG of 4000×3 px",
        file="{number}_{kind}.png",
        make=lambda p: _png(np.resize(p, (3, 4000, 3))),
    ),
    HostileKind(
        kind="webp", what="a WebP", file="{number}_{kind}.webp", make=lambda p: _saved(_pil(p), "WEBP", quality=90)
    ),
    HostileKind(kind="bmp", what="a BMP", file="{number}_{kind}.bmp", make=lambda p: _saved(_pil(p), "BMP")),
    HostileKind(kind="png_named_jpg", what="a PNG named .jpg", make=_png),
    HostileKind(
        kind="unicode_name",
        what="letters of several scripts in the name",
        file="{number}_Prüfling_検査_Ω.jpg",
        make=_jpg,
    ),
    HostileKind(kind="newline_name", what="a line feed in the name", file="{number}_line\nfeed.jpg", make=_jpg),
    HostileKind(kind="hash_name", what="'#' in the name, as in shard.tar#key", file="{number}#1_{kind}.jpg", make=_jpg),
    HostileKind(
        kind="percent_name", what="'%' in the name, as if it were URL-coded", file="{number}%2F%41_100%.jpg", make=_jpg
    ),
    HostileKind(
        kind="quote_name", what="quotes, comma and glob signs in the name", file="{number}_'a\",[b]*?.jpg", make=_jpg
    ),
)


def hostile_entry(settings: Settings, number: int) -> Entry:
    """Hostile file `number` of the archive: a function of the settings and the number alone."""
    sort = KINDS[number % len(KINDS)]
    names = settings.category_names
    category = names[number % len(names)]
    drawn = draw(category, None, seed=settings.seed, index=_OWN_PICTURES + number, size_px=settings.size).image
    captured, line = when_and_where(number)
    return Entry(
        name=f"{category}/good/" + sort.file.format(number=f"hostile{number:04d}", kind=sort.kind),
        image_bytes=sort.make(drawn if drawn.ndim == 3 else np.repeat(drawn[..., None], 3, axis=2)),
        category=category,
        label=None,
        defect=None,
        mask_png=None,
        line=line,
        captured=captured,
        index=number,
        hostility=Hostility(kind=sort.kind, what=sort.what, expected=sort.expected),
    )


def entries(settings: Settings, part: int) -> Iterator[Entry]:
    """The pictures of one part with the hostile files strewn in."""
    places: dict[int, list[int]] = {}
    for number in range(settings.hostile):
        places.setdefault((number + 1) * settings.count // (settings.hostile + 1), []).append(number)
    for item in pictures(settings, part):
        for number in places.get(item.index, []):
            yield hostile_entry(settings, number)
        yield item
