"""Pictures to the square of 8-bit RGB pixels that the model sees. Without torch: pipelines decode with it, too."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cops.errors import ImageError

Images = Sequence[Image.Image] | UInt8[np.ndarray, "b h w 3"]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
MAX_SIDE_PX = 65_535  # JPEG's own limit; Pillow's table for resizing 99,000,000×1 px would take gigabytes
STRIP_PX = 2**18  # what is converted at once: 16 MB of float32, and small beside any picture that matters

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_TELL_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # where Pillow looks for it
_DEEP_STORAGE = (";16B", ";16L", ";16N")  # of colours; ";16" alone is 5 or 6 bits each


def to_pixels(images: Images, size: int) -> UInt8[np.ndarray, "b s s 3"]:
    """Pictures resized to size×size, aspect not kept: bicubic with antialias, on 8-bit pixels.

    Args:    images: PIL images of any size and 8-bit mode, or uint8 (B, H, W, 3) RGB.   size: side, px.
    Raises:  ImageError: a picture has more than 8 bits, no pixels, or is damaged; or an array is of the wrong kind.
    """
    images = as_batch(images)
    if isinstance(images, np.ndarray):
        if images.shape[1:3] == (size, size):
            return images
        images = [Image.fromarray(image) for image in images]
    squares = [_to_square(image, size) for image in images]
    return np.stack(squares) if squares else np.empty((0, size, size, 3), dtype=np.uint8)


def as_batch(images: Images) -> list[Image.Image] | UInt8[np.ndarray, "b h w 3"]:
    """The pictures as something that has a length and can be sliced.

    Raises:  ImageError: it is a single picture, or an array of the wrong kind.
    """
    if isinstance(images, np.ndarray):
        _check_array(images)
        return images
    if isinstance(images, Image.Image):
        raise ImageError("expected a list of pictures, got a single one; put it into a list")
    return list(images)


def to_rgb(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """The picture as shown: upright, by its EXIF orientation, in RGB, and where it is transparent on the background.

    Raises:  ImageError: its pixels have more than 8 bits a channel, it is too long, or it cannot be decoded.
    """
    if not isinstance(image, Image.Image):
        raise ImageError(f"expected PIL images or one uint8 array (B, H, W, 3), got a list with {type(image)}")
    if deep := _deep_storage(image):
        raise ImageError(
            f"the picture has mode {deep}, more than 8 bits a channel: converting it to RGB would cut off what goes "
            "beyond. Scale it to 8 bits first, as jobs/score.py does"
        )
    if max(image.size) > MAX_SIDE_PX:
        raise ImageError(f"{image.width}×{image.height} pixels; at most {MAX_SIDE_PX} on the longer side")
    try:
        image.load()
        return upright(flatten(image, background), orientation_of(image))
    except Exception as exc:  # the row guard: whatever a broken picture does to Pillow is this picture's
        raise ImageError(f"the picture cannot be decoded: {type(exc).__name__}: {exc}") from exc


def flatten(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """A new picture of 8-bit RGB; what is transparent, by a channel, a palette or a named value, shows the background.

    Strips of rows keep it at 4 bytes a pixel beside the picture itself.
    """
    if not {"A", "a"} & set(image.getbands()) and "transparency" not in image.info:
        return image.convert("RGB")
    flat = Image.new("RGB", image.size)
    for top, bottom in strips(image.size):
        rgba = image.crop((0, top, image.width, bottom)).convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        flat.paste(Image.alpha_composite(canvas, rgba).convert("RGB"), (0, top))
    return flat


def strips(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First row and the one after the last of each strip of a (width, height) picture; `STRIP_PX` or one row each."""
    width, height = size
    rows = max(1, STRIP_PX // max(1, width))
    for top in range(0, height, rows):
        yield top, min(height, top + rows)


def orientation_of(image: Image.Image) -> int:
    """1 (as it lies) to 8, by EXIF's tag alone. Ask a loaded picture: a TIFF turns itself while it is loaded."""
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 -- broken EXIF says nothing about orientation, and the picture is whole
        return 1
    return orientation if orientation in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as its EXIF orientation says; the turned one says nothing of it any more."""
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    turned.info = {key: value for key, value in image.info.items() if key not in _TELL_ORIENTATION}
    return turned


def _to_square(image: Image.Image, size: int) -> UInt8[np.ndarray, "s s 3"]:
    rgb = to_rgb(image)
    if 0 in rgb.size:
        raise ImageError(f"the picture has no pixels: width {rgb.width}, height {rgb.height}")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(rgb)


def _deep_storage(image: Image.Image) -> str | None:
    """The mode of a picture with more than 8 bits a channel; of colours, Pillow tells it until it has loaded them."""
    if image.mode.startswith(("I", "F")):
        return image.mode
    for tile in getattr(image, "tile", ()):
        storage = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
        if isinstance(storage, str) and storage.endswith(_DEEP_STORAGE):
            return storage
    return None


def _check_array(images: np.ndarray) -> None:
    expected = "expected a uint8 array of shape (B, H, W, 3)"
    if images.dtype != np.uint8:
        raise ImageError(f"{expected}, got {images.dtype}. Scale it to 0–255 first")
    if images.ndim != 4 or images.shape[3] != 3:
        raise ImageError(f"{expected}, got shape {images.shape}")
    if len(images) and 0 in images.shape:
        raise ImageError(f"{expected}, got no pixels: shape {images.shape}")
