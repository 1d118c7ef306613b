"""New labels for a committed run, without inference: `python jobs/label.py --output URI --thresholds URI`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.exits import DONE, INTERRUPTED, fail, stop_on_sigterm
from jobs.logs import log_to_stderr


@dataclass(frozen=True, kw_only=True)
class Options:
    """Label a committed run anew: its scores and maps stay as they are; labels, masks and regions under other
    thresholds become a label set beside it, committed at once. `pipeline.open_run`, the views and the report take it by
    its name.

    Exit codes: 0 done; 1 failed, and the same command goes on; 2 wrong use; 130 stopped by Ctrl-C or SIGTERM.
    """

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    run_id: str | None = None
    """The run. Default: the one committed last."""

    label_set: str | None = None
    """The name of the new labels. Default: made of the thresholds, so that the same ones give the same name."""

    thresholds: str | None = None
    """A table from jobs/calibrate.py; refused where it is of another model than the run."""

    image_threshold: float | None = None
    """One threshold for all images, in place of a table."""

    pixel_threshold: float | None = None
    """One threshold for all pixels, in place of a table."""


def main(options: Options) -> int:
    log_to_stderr()
    stop_on_sigterm()
    try:
        from pipeline import labelling  # noqa: PLC0415 -- Ray takes seconds: not for --help

        print(labelling.as_text(labelling.label_run(labelling.LabelConfig(**vars(options)))))
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
