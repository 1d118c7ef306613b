"""Pictures to the square of 8-bit RGB pixels that the model sees."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from cops.errors import ImageError

Images = Sequence[Image.Image] | UInt8[np.ndarray, "b h w 3"]


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


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture upright, by its EXIF orientation, and in RGB. Alpha is dropped: composite it before, if it matters.

    Raises:  ImageError: its pixels have more than 8 bits, or cannot be decoded.
    """
    if not isinstance(image, Image.Image):
        raise ImageError(f"expected PIL images or one uint8 array (B, H, W, 3), got a list with {type(image)}")
    if image.mode.startswith(("I", "F")):
        raise ImageError(
            f"the picture has mode {image.mode}, more than 8 bits a pixel: converting it to RGB would cut off every "
            "value above 255. Scale it to 8 bits first"
        )
    try:
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as exc:
        raise ImageError(f"the picture cannot be decoded: {exc}") from exc


def _to_square(image: Image.Image, size: int) -> UInt8[np.ndarray, "s s 3"]:
    rgb = to_rgb(image)
    if 0 in rgb.size:
        raise ImageError(f"the picture has no pixels: width {rgb.width}, height {rgb.height}")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(rgb)


def _check_array(images: np.ndarray) -> None:
    expected = "expected a uint8 array of shape (B, H, W, 3)"
    if images.dtype != np.uint8:
        raise ImageError(f"{expected}, got {images.dtype}. Scale it to 0–255 first")
    if images.ndim != 4 or images.shape[3] != 3:
        raise ImageError(f"{expected}, got shape {images.shape}")
    if len(images) and 0 in images.shape:
        raise ImageError(f"{expected}, got no pixels: shape {images.shape}")
