"""What a calibration is asked to do; jobs/calibrate.py makes its flags from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import InputError
from pipeline.storage import refuse_credentials

PixelRule = Literal["images", "pixels", "none"]


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """One run of jobs/calibrate.py. Raises InputError where a value cannot be meant.

    Args:    where: a condition of SQL on columns of the scores.   by: the columns that groups are told by.
             max_map_images: of each group; of more, so many are drawn for the threshold of pixels.
             labels: a column of 0 and 1; None where all chosen images are normal.
    """

    output: str = "out/"
    run_ids: tuple[str, ...] = ()
    where: str | None = None
    by: tuple[str, ...] = ("category",)
    image_rate: float = 0.01
    pixel_rate: float = 0.01
    pixel_rule: PixelRule = "images"
    min_images: int = 100
    max_map_images: int = 10_000
    labels: str | None = None

    def __post_init__(self) -> None:
        refuse_credentials(self.output)
        for name, rate in (("--image-rate", self.image_rate), ("--pixel-rate", self.pixel_rate)):
            if not 0 < rate < 1:
                raise InputError(f"{name}: expected a share above 0 and below 1, such as 0.01 for 1 %; got {rate}")
        for name, count in (("--min-images", self.min_images), ("--max-map-images", self.max_map_images)):
            if count < 1:
                raise InputError(f"{name}: expected 1 or more, got {count}")
