"""Flags that every job which decodes pictures has."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.decode import DecodeRules


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How pictures are decoded; part of the record."""

    bit_depth_range: str | None = DecodeRules.bit_depth_range
    """LO:HI, what is black and white in 16-bit and float images. Default: the full range of the bit depth."""

    alpha_background: str = DecodeRules.alpha_background
    """The colour behind transparent pixels."""

    max_pixels: int = DecodeRules.max_pixels
    """Larger images are not used."""

    max_bytes: int = DecodeRules.max_bytes
    """Larger files are not used."""

    scaled_jpeg: bool = DecodeRules.scaled_jpeg
    """Decode large JPEGs at a half, quarter or eighth of their size, at least twice the model's side. Faster, and
    scores change a little: docs/performance.md says by how much."""

    def rules(self) -> DecodeRules:
        """Raises:  InputError: a flag that cannot be meant."""
        return DecodeRules(**asdict(self))
