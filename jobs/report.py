"""One page on a run or a night: `python jobs/report.py --output URI [--run-id R …] [--label-set L]`."""

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

Repeatable = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Report on a committed run, or on the runs of one night, as one HTML page that needs no network and no script:
    yield and anomaly rates, the top anomalies and borderline images with their maps, scores against the calibration,
    drift against the trailing runs, quarantine, throughput, what changed. docs/report.md says how to read it.

    Exit codes: 0 done; 1 failed; 2 wrong use; 130 stopped by Ctrl-C or SIGTERM.
    """

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    run_id: Repeatable = ()
    """The run; given again, several runs of one model as one night. Default: the one committed last."""

    label_set: str | None = None
    """Labels and masks that jobs/label.py made. Default: the run's own."""

    thresholds: str | None = None
    """The table from jobs/calibrate.py to draw scores against. Default: the one that the labels were made by."""

    trailing: int = 14
    """Earlier committed runs of the same model to compare with."""

    compare_with: str | None = None
    """Of these, the ones of such names: line-a-*. Default: all but evaluations and calibration sets."""

    by: str = "category"
    """Columns that images are grouped by: category,line."""

    top: int = 24
    """Anomalies to show, the highest scores first."""

    borderline: int = 12
    """Images to show that are nearest to their threshold."""

    save: str | None = None
    """Where the page goes. Default: reports/ in the output, named by the run."""

    pictures: bool = True
    """Pictures and maps; without, figures alone: where pictures may not leave, or cannot be read."""


def main(options: Options) -> int:
    from pipeline.failures import as_run_errors  # noqa: PLC0415 -- Ray takes a second: after the options are known
    from pipeline.report.config import ReportConfig  # noqa: PLC0415
    from pipeline.report.output import report_and_write  # noqa: PLC0415

    log_to_stderr()
    stop_on_sigterm()
    given = vars(options) | {"run_ids": options.run_id}
    given["by"] = tuple(name.strip() for name in options.by.split(","))
    del given["run_id"]
    try:
        with as_run_errors("The same command may be given again", what="the report stopped"):
            print(report_and_write(ReportConfig(**given)))
            return DONE
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command may be given again", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
