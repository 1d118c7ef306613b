"""Files that a reader must survive: broken, oversized, oddly coded or oddly named ones, with the outcome to expect."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from pipeline.samples import bombs
from pipeline.samples.bombs import saved
from pipeline.samples.catalog import draw
from pipeline.samples.plan import Entry, Hostility, Settings, encode, pictures, when_and_where

RGB8 = UInt8[np.ndarray, "h w 3"]

_OWN_PICTURES = 10**9  # the hostile files' pictures are numbered from here, so that they repeat no other
_EXIF_ORIENTATION, _TURNED_RIGHT = 0x0112, 6
_ADOBE_MARK = b"\xff\xee\0\x0eAdobe"


@dataclass(frozen=True, kw_only=True)
class HostileKind:
    """One sort of hostile file; scored, or quarantined for a reason."""

    kind: str
    what: str
    make: Callable[[RGB8], bytes]
    reason: str | None = None
    file: str


def _kind(
    kind: str, what: str, make: Callable[[RGB8], bytes], reason: str | None = None, *, file: str = "{number}_{kind}.jpg"
) -> HostileKind:
    ending = kind.rpartition("_")[2]
    name = file.replace(".jpg", f".{ending}") if ending in ("png", "tiff", "gif", "webp", "bmp") else file
    return HostileKind(kind=kind, what=what, make=make, reason=reason, file=name)


def _pil(picture: RGB8) -> Image.Image:
    return Image.fromarray(picture)


def _jpg(picture: RGB8) -> bytes:
    return encode(picture, ".jpg")


def _png(picture: RGB8) -> bytes:
    return encode(picture, ".png")


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _deep(picture: UInt8[np.ndarray, "h w *c"]) -> UInt16[np.ndarray, "h w *c"]:
    """The picture in 16 bits, its values using the full range."""
    return picture.astype(np.uint16) * 257


def _cv2_png(picture: UInt16[np.ndarray, "h w *c"]) -> bytes:
    done, data = cv2.imencode(".png", picture)
    assert done
    return data.tobytes()


def _palette(picture: RGB8, file_format: str = "PNG") -> bytes:
    return saved(_pil(picture).quantize(64), file_format, transparency=0)


def _with_alpha(picture: RGB8) -> bytes:
    alpha = np.linspace(0, 255, picture.shape[0]).astype(np.uint8)[:, None].repeat(picture.shape[1], axis=1)
    return saved(Image.fromarray(np.dstack([picture, alpha])), "PNG")


def _cmyk(picture: RGB8) -> bytes:
    return saved(_pil(picture).convert("CMYK"), "JPEG")


def _cmyk_without_mark(picture: RGB8) -> bytes:
    data = _cmyk(picture)
    at = data.index(_ADOBE_MARK)
    return data[:at] + data[at + 16 :]


def _turned(picture: RGB8) -> bytes:
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _TURNED_RIGHT
    return saved(_pil(np.rot90(picture)[: picture.shape[0] * 3 // 4]), "JPEG", quality=92, exif=exif)


def _pages(picture: RGB8, file_format: str) -> bytes:
    others = [_pil(np.ascontiguousarray(np.roll(picture, step, 0))) for step in (16, 32)]
    return saved(_pil(picture), file_format, save_all=True, append_images=others)


def _grey(picture: RGB8) -> UInt8[np.ndarray, "h w"]:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8)


def _float_tiff(picture: RGB8, white: float = 1.0) -> bytes:
    return saved(Image.fromarray(_grey(picture).astype(np.float32) * np.float32(white / 255)), "TIFF")


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _web_page(_: RGB8) -> bytes:
    return b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Service Unavailable</body></html>\n"


def _of(make: Callable[[], bytes]) -> Callable[[RGB8], bytes]:
    return lambda _: make()


def _as(file_format: str, **options: object) -> Callable[[RGB8], bytes]:
    return lambda picture: saved(_pil(picture), file_format, **options)


_EXIF_OF_NONSENSE = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff\xff"
_CUT, _NONE, _PIXELS, _NOTES = "truncated", "not_an_image", "too_many_pixels", "too_many_bytes"
KINDS: tuple[HostileKind, ...] = (
    _kind("truncated_jpeg", "a JPEG cut in half", lambda p: _half(_jpg(p)), _CUT),
    _kind("zero_byte", "an empty file", lambda _: b"", "empty"),
    _kind("cmyk_jpeg", "a CMYK JPEG", _cmyk),
    _kind("grey16_png", "a 16-bit grey PNG", lambda p: _cv2_png(_deep(_grey(p)))),
    _kind("bomb_png", "a small PNG that claims 60000×60000 px", _of(bombs.png_bomb), _PIXELS),
    _kind("exif_rotated", "a JPEG that EXIF says to turn by 90°", _turned),
    _kind("space_name", "spaces in the name", _jpg, file="{number} with  spaces .jpg"),
    _kind("truncated_png", "a PNG cut in half", lambda p: _half(_png(p)), _CUT),
    _kind("text_jpg", "text named .jpg", lambda _: b"see the other folder\n" * 9, _NONE),
    _kind("html_jpg", "an HTML error page named .jpg", _web_page, _NONE),
    _kind("palette_png", "a palette PNG with transparency", _palette),
    _kind("alpha_png", "a PNG with an alpha channel", _with_alpha),
    _kind("rgb16_png", "a 16-bit colour PNG", lambda p: _cv2_png(_deep(p[..., ::-1]))),
    _kind("grey16_tiff", "a 16-bit grey TIFF", lambda p: saved(Image.fromarray(_deep(_grey(p))), "TIFF")),
    _kind("float32_tiff", "a float32 TIFF with values from 0 to 1", _float_tiff),
    _kind("multipage_tiff", "a TIFF of three pages", lambda p: _pages(p, "TIFF")),
    _kind("animated_gif", "a GIF of three frames", lambda p: _pages(p, "GIF")),
    _kind("bit1_png", "a 1-bit PNG", lambda p: saved(_pil(p).convert("1"), "PNG")),
    _kind("one_pixel_png", "a PNG of one pixel", lambda p: _png(p[:1, :1])),
    _kind("wide_png", "a PNG of 4000×3 px", lambda p: _png(np.resize(p, (3, 4000, 3)))),
    _kind("webp", "a WebP", _as("WEBP", quality=90)),
    _kind("bmp", "a BMP", _as("BMP")),
    _kind("png_named_jpg", "a PNG named .jpg", _png),
    _kind("unicode_name", "letters of several scripts in the name", _jpg, file="{number}_Prüfling_検査_Ω.jpg"),
    _kind("newline_name", "a line feed in the name", _jpg, file="{number}_line\nfeed.jpg"),
    _kind("hash_name", "'#' in the name, as in shard.tar#key", _jpg, file="{number}#1_{kind}.jpg"),
    _kind("percent_name", "'%' in the name, as if it were URL-coded", _jpg, file="{number}%2F%41_100%.jpg"),
    _kind("quote_name", "quotes, comma and glob signs in the name", _jpg, file="{number}_'a\",[b]*?.jpg"),
    _kind("long_name", "a name of 250 bytes, as long as a disk takes it", _jpg, file="{number}_" + "x" * 234 + ".jpg"),
    _kind("truncated_tiff", "a TIFF cut in half", lambda p: _half(_as("TIFF", compression="tiff_lzw")(p)), _CUT),
    _kind("truncated_webp", "a WebP cut in half", lambda p: _half(_as("WEBP")(p)), _CUT),
    _kind("truncated_gif", "a GIF cut in half", lambda p: _half(_as("GIF")(p)), _CUT),
    _kind("truncated_bmp", "a BMP cut in half", lambda p: _half(_as("BMP")(p)), _CUT),
    _kind("header_jpeg", "the first 40 bytes of a JPEG", lambda p: _jpg(p)[:40], _CUT),
    _kind("wrong_bit_png", "a PNG with a wrong bit in its pixels", lambda p: _flipped(_png(p), 100), "corrupt"),
    _kind("wrong_header_png", "a PNG with a wrong bit in its header", lambda p: _flipped(_png(p), 17), "corrupt"),
    _kind("noise_jpg", "random bytes", lambda _: np.random.default_rng(0).bytes(999), _NONE),
    _kind("pdf_jpg", "a PDF named .jpg", lambda _: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", _NONE),
    _kind("bomb_jpeg", "a JPEG that claims 60000×60000 px", _of(bombs.jpeg_bomb), _PIXELS),
    _kind("bomb_webp", "a WebP that claims 16383×16383 px", _of(bombs.webp_bomb), _PIXELS),
    _kind("bomb_bmp", "a BMP that claims 60000×60000 px", _of(bombs.bmp_bomb), _PIXELS),
    _kind("bomb_gif", "a GIF that claims 60000×60000 px", _of(bombs.gif_bomb), _PIXELS),
    _kind("bomb_tiff", "a TIFF that claims 60000×60000 px", _of(bombs.tiff_bomb), _PIXELS),
    _kind("tile_bomb_tiff", "16×16 px in a tile of 32768×32768", _of(bombs.tiff_tile_bomb), _PIXELS),
    _kind("strip_bomb_tiff", "16×16 px in a strip of 64 MiB, deflated", _of(bombs.tiff_strip_bomb)),
    _kind("ztxt_bomb_png", "a text that inflates to 64 MiB", lambda _: bombs.note_bomb(b"zTXt"), _NOTES),
    _kind("itxt_bomb_png", "an international text that does", lambda _: bombs.note_bomb(b"iTXt"), _NOTES),
    _kind("iccp_bomb_png", "a colour profile that does", lambda _: bombs.note_bomb(b"iCCP"), _NOTES),
    _kind("scan_bomb_jpeg", "a JPEG of a thousand scans", _of(bombs.scan_bomb), "unsupported"),
    _kind("frames_gif", "a GIF of 300 frames", lambda _: bombs.frames("GIF")),
    _kind("pages_tiff", "a TIFF of 300 pages", lambda _: bombs.frames("TIFF")),
    _kind("animated_webp", "a WebP of three frames", lambda p: _pages(p, "WEBP")),
    _kind("animated_png", "a PNG of three frames", lambda p: _pages(p, "PNG")),
    _kind("one_pixel_jpeg", "a JPEG of one pixel", lambda p: _jpg(p[:1, :1])),
    _kind("longest_png", "a PNG of 60000×10 px", lambda p: _png(np.resize(p, (10, 60_000, 3)))),
    _kind("too_long_png", "a PNG of 70000×1 px", lambda p: _png(np.resize(p, (1, 70_000, 3))), _PIXELS),
    _kind("beyond_1_tiff", "a float TIFF with values to 255", lambda p: _float_tiff(p, 255.0), "value_range"),
    _kind("nan_tiff", "a float TIFF that holds NaN", lambda p: _float_tiff(p, np.nan), "value_range"),
    _kind("cmyk_bare_jpeg", "a CMYK JPEG without Adobe's mark", _cmyk_without_mark),
    _kind("palette_gif", "a palette GIF with transparency", lambda p: _palette(p, "GIF")),
    _kind("broken_exif", "a JPEG whose EXIF is nonsense", _as("JPEG", exif=_EXIF_OF_NONSENSE)),
    _kind("giant_notes_jpeg", "a JPEG with 3 MB of notes", lambda p: bombs.giant_jpeg_notes(_jpg(p))),
    _kind("giant_notes_png", "a PNG with 3 MB of text", lambda p: bombs.giant_png_notes(_png(p))),
    _kind("junk_behind", "a JPEG with a film behind it", lambda p: _jpg(p) + b"\xff\xda" * 5000),
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
        hostility=Hostility(
            kind=sort.kind, what=sort.what, expected="quarantined" if sort.reason else "scored", reason=sort.reason
        ),
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
