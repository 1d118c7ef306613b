"""Look after the runs of an output: `python jobs/runs.py list | show | verify | publish | discard --output URI`."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.exits import DONE, FAILED, INTERRUPTED, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline import publication
from pipeline.errors import InputError
from pipeline.iceberg.address import TableAddress
from pipeline.runs import records
from pipeline.upkeep import details, overview, text
from pipeline.upkeep import discard as discarding
from pipeline.upkeep import verify as verifying

RunId = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_ID")]
MaybeRunId = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN_ID]")]


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

    run_id: MaybeRunId = None
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

    run_id: MaybeRunId = None
    """The run. Default: the one committed last."""

    all_runs: Annotated[bool, tyro.conf.arg(name="all")] = False
    """Every committed run."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    json: bool = False
    """For machines."""


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Have Iceberg tables hold a committed run, as jobs/score.py --table does: its rows there are replaced in one step,
    or left as they are where they are the same. docs/iceberg.md.
    """

    table: str
    """iceberg://CATALOG/namespace.table for the scores, and beside it table_quarantine."""

    run_id: MaybeRunId = None
    """The run. Default: the one committed last."""

    all_runs: Annotated[bool, tyro.conf.arg(name="all")] = False
    """Every committed run, the oldest first."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""


@dataclass(frozen=True, kw_only=True)
class Discard:
    """Remove a run, committed or not, so that its id can be used again; refused while a process works on it."""

    run_id: RunId
    """The run."""

    strays: bool = False
    """Keep the run; remove what lies in its folders and is not in its record."""

    table: str | None = None
    """Remove its rows from the Iceberg tables that it was published into, first. Else they stay there."""

    yes: bool = False
    """Do not ask."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Publish, tyro.conf.subcommand("publish")]
    | Annotated[Discard, tyro.conf.subcommand("discard")]
)


def main(command: List | Show | Verify | Publish | Discard) -> int:
    from pipeline.failures import as_run_errors  # noqa: PLC0415 -- Ray takes a second: after the options are known

    log_to_stderr()
    stop_on_sigterm()
    try:
        with as_run_errors("The same command may be given again", what=f"{type(command).__name__.lower()} stopped"):
            return _do(command)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command may be given again", file=sys.stderr)
        return INTERRUPTED


def _do(command: List | Show | Verify | Publish | Discard) -> int:
    match command:
        case List():
            return list_runs(command)
        case Show():
            return show(command)
        case Verify():
            return verify(command)
        case Publish():
            return publish(command)
        case Discard():
            return discard(command)


def list_runs(command: List) -> int:
    states = overview.overview(command.output)
    print(text.as_json([asdict(state) for state in states]) if command.json else text.runs_table(states, _width()))
    return DONE


def show(command: Show) -> int:
    found = details.details(command.output, command.run_id)
    told = {
        "state": asdict(found.state),
        "record": found.record,
        "reasons": found.reasons,
        "label_sets": found.label_sets,
    }
    print(text.as_json(told) if command.json else text.details_text(found))
    return DONE


def verify(command: Verify) -> int:
    if command.all_runs and command.run_id is not None:
        raise InputError(f"expected a run or --all, got both: {command.run_id!r}")
    if command.all_runs:
        found = verifying.verify_all(command.output)
    else:
        found = iter([verifying.verify(command.output, command.run_id)])
    done = []
    for one in found:
        done.append(one)
        if not command.json:
            print(text.verification_text(one), flush=True)
    if command.json:
        print(text.as_json([asdict(one) | {"is_sound": one.is_sound} for one in done]))
    return DONE if all(one.is_sound for one in done) else FAILED


def publish(command: Publish) -> int:
    if command.all_runs and command.run_id is not None:
        raise InputError(f"expected a run or --all, got both: {command.run_id!r}")
    wanted: list[str | None] = [command.run_id]
    if command.all_runs:
        committed = sorted(records(command.output), key=lambda record: str(record["committed_at"]))
        wanted = [record["run_id"] for record in committed]
    for run_id in wanted:
        for table in reversed(publication.publish(command.output, run_id, command.table)):
            print(f"{table.run_id}: {publication.published_text(table)}", flush=True)
    return DONE


def discard(command: Discard) -> int:
    if command.strays and command.table:
        raise InputError("--strays keeps the run, --table removes its rows: give one of them")
    removal = discarding.find_removal(command.output, command.run_id, only_strays=command.strays)
    if removal.is_empty:
        print(f"Nothing lies in the folders of run {command.run_id} but what its record names: nothing to do.")
        return DONE
    print(text.removal_text(removal), flush=True)
    if command.table:
        print(f"  its rows in {TableAddress.parse(command.table).uri()} and in the quarantine beside it", flush=True)
    if not command.yes and not _agreed():
        print("Nothing is removed.")
        return DONE
    discarding.remove(removal, first=partial(_retract, command))
    kept = "its record and what that names are kept" if command.strays else "its id can be used again"
    print(f"Removed; {kept}.")
    return DONE


def _retract(command: Discard) -> None:
    if command.table:
        for table in publication.retract(command.output, command.run_id, command.table):
            print(f"{table.table}: {publication.rows_text(table.rows)} removed", flush=True)


def _agreed() -> bool:
    """Raises:  InputError: there is nobody to ask."""
    if not sys.stdin.isatty():
        raise InputError("nothing is removed: there is no terminal to ask on. Give --yes to remove it unasked")
    try:
        return input("Remove it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False


def _width() -> int | None:
    """Of the terminal; what goes into a file or a pipe is not cut to any width, unless COLUMNS gives one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Command)))
