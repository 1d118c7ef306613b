"""A labelled image's pixels and mask at the model's side; what is wrong with either is named and not used."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from pipeline.datasets.items import LabelledImage
from pipeline.decode import DecodeRules, ImageRejected, decode_image, resize
from pipeline.read import fetch
from pipeline.request import Fetched, Request

Problem = Literal[
    "unreadable_image",
    "unreadable_mask",
    "mask_of_another_size",
    "empty_mask",
    "mask_of_a_normal_image",
    "no_mask",
    "mask_lost_in_resizing",
]
_HALF = 127  # of 8 bits


@dataclass(frozen=True)
class Example:
    """An image as the model sees it."""

    item: LabelledImage
    pixels: npt.NDArray[np.uint8]
    """(S, S, 3), RGB."""
    mask: npt.NDArray[np.bool_] | None
    """(S, S), True where anomalous; all False for a normal image; None where nobody marked what is anomalous."""
    content_hash: str
    """SHA-256 of the image's and the mask's encoded bytes."""


@dataclass(frozen=True)
class Flawed:
    """An image that cannot be used as it is labelled."""

    item: LabelledImage
    problem: Problem
    message: str


@dataclass(frozen=True)
class Encoded:
    """An image and its mask as they lie there, or why they could not be read."""

    item: LabelledImage
    image: Fetched
    mask: Fetched | None

    @property
    def content_hash(self) -> str | None:
        """SHA-256 of the image's and the mask's bytes; None where they could not be read."""
        files = [self.image] if self.mask is None else [self.image, self.mask]
        content = hashlib.sha256()
        for file in files:
            if not isinstance(file, bytes):
                return None
            content.update(file)
        return content.hexdigest()


def read_encoded(items: Sequence[LabelledImage], rules: DecodeRules) -> list[Encoded]:
    """The files of images and masks. A normal image's mask is read only to see that it is empty.

    Raises:  StoreError: the store does not answer, or refuses our credentials.
    """
    of_images = [Request("file", item.image_path or item.image_uri) for item in items]
    of_masks = [Request("file", item.mask_path or item.mask_uri) for item in items if item.mask_uri]
    images = fetch(of_images, max_bytes=rules.max_bytes)
    masks = iter(fetch(of_masks, max_bytes=rules.max_bytes))
    return [
        Encoded(item, image, next(masks) if item.mask_uri else None) for item, image in zip(items, images, strict=True)
    ]


def decode_example(encoded: Encoded, rules: DecodeRules, side: int) -> Example | Flawed:
    """An image with its mask at the model's side, or what is wrong with one of them."""
    item, mask = encoded.item, encoded.mask
    try:
        rgb = decode_image(_bytes(encoded.image), rules).rgb
    except ImageRejected as exc:
        return Flawed(item, "unreadable_image", str(exc))
    marked = mask_at_side(item, mask, rules, size=rgb.size, side=side)
    if isinstance(marked, Flawed):
        return marked
    return Example(item, resize(rgb, side), marked, encoded.content_hash or "")


def binary_mask(data: bytes, rules: DecodeRules) -> npt.NDArray[np.bool_]:
    """An encoded mask as (height, width) booleans.

    What is not black is anomalous, whatever its grey (VisA's numbers are kinds of defects, nearly black). In JPEG,
    which smears edges into all greys, it is what is brighter than half (Kvasir). What is transparent is black, and of
    more than 8 bits every number from 1 on is white, whatever the rules say of images.

    Raises:  ImageRejected: it cannot be decoded.
    """
    decoded = decode_image(data, dataclasses.replace(rules, alpha_background="#000000", bit_depth_range="0:1"))
    red, green, blue = decoded.rgb.split()
    brightest = np.asarray(ImageChops.lighter(ImageChops.lighter(red, green), blue))  # a tenth of NumPy's time
    marked: npt.NDArray[np.bool_] = brightest > (_HALF if decoded.format == "JPEG" else 0)
    return marked


def resize_mask(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """(h, w) to (side, side): bilinear with antialias, anomalous where more than half, as the published code has it."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)
    resized: npt.NDArray[np.bool_] = np.asarray(grey) > _HALF
    return resized


def mask_at_side(
    item: LabelledImage, mask: Fetched | None, rules: DecodeRules, *, size: tuple[int, int], side: int
) -> npt.NDArray[np.bool_] | Flawed | None:
    """An image's mask at the model's side, from its file's bytes; as `Example.mask` where there is no file.

    Args:    size: of the image as shown, (width, height).
    """
    if mask is None:
        return None if item.label else np.zeros((side, side), bool)
    try:
        whole = binary_mask(_bytes(mask), rules)
    except ImageRejected as exc:
        return Flawed(item, "unreadable_mask", str(exc))
    if flaw := _flaw(item, size, whole):
        return flaw
    resized = resize_mask(whole, side)
    if item.label == 1 and not resized.any():
        told = f"what the mask marks is too small to be seen at {side}×{side} pixels"
        return Flawed(item, "mask_lost_in_resizing", told)
    return resized


def _bytes(found: Fetched) -> bytes:
    """Raises:  ImageRejected: the file could not be read."""
    if isinstance(found, ImageRejected):
        raise found
    return found


def _flaw(item: LabelledImage, size: tuple[int, int], mask: npt.NDArray[np.bool_]) -> Flawed | None:
    width, height = size
    if mask.shape != (height, width):
        told = f"the mask has {mask.shape[1]}×{mask.shape[0]} pixels, the image {width}×{height}"
        return Flawed(item, "mask_of_another_size", told)
    if item.label == 1 and not mask.any():
        return Flawed(item, "empty_mask", "an anomalous image whose mask marks nothing")
    if item.label == 0 and mask.any():
        return Flawed(item, "mask_of_a_normal_image", f"a normal image whose mask marks {int(mask.sum())} pixels")
    return None
