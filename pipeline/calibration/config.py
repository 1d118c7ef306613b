"""What a calibration is asked to do; jobs/calibrate.py makes its flags from these fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.calibration.columns import OWN
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
        if self.min_images < 1:
            raise InputError(f"--min-images: expected 1 or more, got {self.min_images}")
        if taken := [name for name in self.by if name.lower() in OWN]:
            raise InputError(
                f"--by: expected other columns than {', '.join(taken)}: the table of thresholds has its own of that "
                "name, so images would have to be scored with the column under another one"
            )
        self._check_maps()

    def _check_maps(self) -> None:
        needed = self.least_images(self.pixel_rate) if self.pixel_rule == "images" else self.min_images
        if self.pixel_rule != "none" and self.max_map_images < needed:
            raise InputError(
                f"--max-map-images: expected {needed:,} or more, for --min-images and --pixel-rate "
                f"{self.pixel_rate:g}; got {self.max_map_images:,}"
            )

    def least_images(self, rate: float) -> int:
        """With fewer normal images there is no threshold at this rate."""
        return max(self.min_images, images_for_rate(rate))


def images_for_rate(rate: float) -> int:
    """With fewer images no threshold holds the rate: even the highest score is exceeded too often."""
    return math.ceil(1 / rate - 1e-9) - 1
