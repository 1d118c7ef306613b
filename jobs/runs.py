"""Look after the runs of an output: `python jobs/runs.py list | show | verify | discard --output URI`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.exits import INTERRUPTED, fail, stop_on_sigterm
from jobs.logs import log_to_stderr


@dataclass(frozen=True, kw_only=True)
class List:
    """All runs of an output, the newest last: committed, going on, stopped, or left over."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    json: bool = False
    """For machines."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """One run: counts, settings, model, why images are in quarantine, seconds per stage, files."""

    run_id: tyro.conf.Positional[str | None] = None
    """The run. Default: the one committed last."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    json: bool = False
    """For machines, with the whole record."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read a committed run again, every byte of it, and hold it against its record: files, sizes, checksums, columns,
    rows, sums, each image once. Exit codes: 0 it is as recorded; 1 it is not; 2 wrong use.
    """

    run_id: tyro.conf.Positional[str | None] = None
    """The run. Default: the one committed last."""

    all_runs: Annotated[bool, tyro.conf.arg(name="all")] = False
    """Every committed run."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    json: bool = False
    """For machines."""


@dataclass(frozen=True, kw_only=True)
class Discard:
    """Remove a run, committed or not, so that its id can be used again; refused while a process works on it."""

    run_id: tyro.conf.Positional[str]
    """The run."""

    strays: bool = False
    """Keep the run; remove what lies in its folders and is not in its record."""

    yes: bool = False
    """Do not ask."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Discard, tyro.conf.subcommand("discard")]
)


def main(command: List | Show | Verify | Discard) -> int:
    from pipeline.failures import as_run_errors  # noqa: PLC0415 -- imports Ray

    log_to_stderr()
    stop_on_sigterm()
    does = {List: list_runs, Show: show, Verify: verify, Discard: discard}
    try:
        with as_run_errors("The same command may be given again"):
            return does[type(command)](command)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command may be given again", file=sys.stderr)
        return INTERRUPTED
