"""Thresholds from committed scores of normal images: `python jobs/calibrate.py --output URI --image-rate 0.01`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.exits import DONE, INTERRUPTED, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.calibration.config import CalibrateConfig, PixelRule

Repeatable = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find thresholds for images and for pixels on scores that are committed, category by category, without inference.

    All chosen images are taken as normal, and a threshold is set so that at most the target share of such images
    reaches it; or, with --labels, where F1 is highest. docs/calibration.md says how, and what the intervals mean.

    Exit codes: 0 done; 1 failed; 2 wrong use; 130 stopped by Ctrl-C or SIGTERM.
    """

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    run_id: Repeatable = ()
    """A committed run; may be given again. Default: the one committed last."""

    where: str | None = None
    """Which of its images, as a condition of SQL: "defect = 'good' AND line = 'a'". Default: all."""

    by: str = "category"
    """Columns that thresholds are told apart by: category,line."""

    image_rate: float = 0.01
    """Target share of normal images that are labelled anomalous."""

    pixel_rule: PixelRule = "images"
    """What the pixel threshold holds: `images`, the share of normal images with any pixel in their mask; `pixels`, the
    share of pixels; `none`: no pixel threshold."""

    pixel_rate: float = 0.01
    """Target share for the pixel rule."""

    min_images: int = 100
    """Groups of fewer images take the pooled threshold; so do those of too few for the rate and, with --labels, those
    with fewer than 10 of a kind."""

    max_map_images: int = 10_000
    """Of a group's maps, so many at most are rebuilt for the pixel threshold, drawn at random."""

    labels: str | None = None
    """A column with 0 (normal) and 1 (anomalous): the threshold where F1 is highest. Where there is a column mask_uri,
    the pixel threshold is found in the same way."""

    save: str | None = None
    """Where the table goes, as FILE.parquet. Default: thresholds/ in the output, with the date and time in its name."""

    def config(self) -> CalibrateConfig:
        """Raises:  InputError: options that cannot be meant."""
        return CalibrateConfig(
            output=self.output,
            run_ids=self.run_id,
            where=self.where,
            by=tuple(name.strip() for name in self.by.split(",") if name.strip()),
            image_rate=self.image_rate,
            pixel_rate=self.pixel_rate,
            pixel_rule=self.pixel_rule,
            min_images=self.min_images,
            max_map_images=self.max_map_images,
            labels=self.labels,
        )


def main(options: Options) -> int:
    log_to_stderr()
    stop_on_sigterm()
    try:
        config = options.config()
        from pipeline.calibration import output  # noqa: PLC0415 -- Ray takes seconds: after the options are known good

        print(output.calibrate_and_write(config, save=options.save).text)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; nothing is written", file=sys.stderr)
        return INTERRUPTED
    return DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
