"""The one commit that replaces a run's rows in an Iceberg table, and what its snapshots tell of runs."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import BooleanExpression, EqualTo, Reference
from pyiceberg.expressions.literals import literal
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of

from pipeline.errors import InputError, RunError
from pipeline.iceberg.catalog import within
from pipeline.iceberg.columns import RUN_ID
from pipeline.store_errors import describe

_RUN, _OUTPUT, _DIGEST, _COMMIT = "cops.run-id", "cops.output", "cops.digest", "cops.commit"  # of a snapshot's summary
_TRIES = 5

log = logging.getLogger(__name__)


class CommitUnknownError(RunError):
    """The catalog did not say whether a commit was made: its files may be in the table, now or soon."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What of a run is to be in a table: its rows, a digest of them, and the output that they come from."""

    run_id: str
    output: str
    digest: str
    rows: int

    @property
    def told(self) -> dict[str, str]:
        return {_RUN: self.run_id, _OUTPUT: self.output, _DIGEST: self.digest}


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """The snapshot that put a run's rows there, None where there never were any; and whether it was made just now."""

    snapshot: Snapshot | None
    is_new: bool


def snapshot_of(table: Table, content: Content) -> Snapshot | None:
    """The snapshot by which the table came to have this very content; None where it has other rows, or lost them."""
    last = _last_of(table, content.run_id)
    if last is None or _told(last).get(_DIGEST) != content.digest:
        return None
    return last if bool(files_of(table, content.run_id)) == bool(content.rows) else None


def require_ours(table: Table, run_id: str, output: str, where: str) -> None:
    """Raises:  InputError: the table has a run of this id that another output was published with."""
    last = _last_of(table, run_id)
    other = _told(last).get(_OUTPUT, output) if last else output
    if other != output and files_of(table, run_id):
        raise InputError(
            f"{where}: has a run {run_id!r} already, from {other}; this one is in {output}. Give one of them another "
            "id, publish into another table, or delete its rows there"
        )


def files_of(table: Table, run_id: str) -> list[DataFile]:
    """The data files that hold a run's rows, by the table's metadata alone.

    Raises:  RunError: one may hold rows of other runs, too.
    """
    found = [task.file for task in table.scan(_of_run(run_id)).plan_files()]
    for file in found:
        if file.spec_id != table.spec().spec_id:
            raise RunError(f"{file.file_path} is of a time when the table was not partitioned by run_id: rewrite it")
    return found


def replace(load: Callable[[], Table], content: Content, files: Sequence[DataFile]) -> Replaced:
    """Put these files in the place of what the table has of the run, in one snapshot.

    Args:    load: gives the table as it is now.
    Raises:  RunError: others change the run's rows again and again.   CommitUnknownError: as it says.
             Whatever `load` raises. But for CommitUnknownError the files are in no snapshot.
    """
    mine = uuid.uuid4().hex
    for tries_left in reversed(range(_TRIES)):
        table = load()
        if made := _made(table, mine):  # the last try came through, whatever the catalog said of it
            return Replaced(snapshot=made, is_new=True)
        there, old = snapshot_of(table, content), files_of(table, content.run_id)
        if there or not (old or files):
            return Replaced(snapshot=there, is_new=False)
        try:
            within(partial(_commit, table, content.told | {_COMMIT: mine}, content.run_id, old, files))
        except (CommitFailedException, ValidationException) as exc:  # certainly not made
            if not tries_left:
                raise RunError(f"other processes change this run in the table all the time: {describe(exc)}") from exc
            log.info("run %s: another process changed it in the table meanwhile; again", content.run_id)
        except Exception as exc:  # noqa: BLE001 -- each catalog's client has errors of its own
            return Replaced(snapshot=_made_after_all(load, mine, exc), is_new=True)
        else:
            return Replaced(snapshot=_made(table, mine), is_new=True)
        time.sleep(random.uniform(0.1, 1.0))  # noqa: S311 -- so that two do not meet again
    raise AssertionError("unreachable")


def _commit(table: Table, told: dict[str, str], run_id: str, old: Sequence[DataFile], new: Sequence[DataFile]) -> None:
    transaction = table.transaction()
    with transaction.update_snapshot(snapshot_properties=told).overwrite() as snapshot:
        # So that pyiceberg, when it tries again on top of another's commit, looks whether that was of the same run.
        # Nothing else does: an `append` would put a run there twice.
        snapshot.delete_by_predicate(_of_run(run_id))
        if not old:  # readers that follow a table (Spark, Flink) take appended snapshots alone
            snapshot._operation = Operation.APPEND
        for file in old:
            snapshot.delete_data_file(file)
        for file in new:
            snapshot.append_data_file(file)
    transaction.commit_transaction()


def _made_after_all(load: Callable[[], Table], mine: str, exc: Exception) -> Snapshot:
    """The snapshot of a commit whose answer was lost.

    Raises:  CommitUnknownError: there is none, yet.
    """
    if made := _made(load(), mine):
        return made
    raise CommitUnknownError(f"it is not known whether the commit was made: {describe(exc)}") from None


def _made(table: Table, mine: str) -> Snapshot | None:
    return next((one for one in table.snapshots() if _told(one).get(_COMMIT) == mine), None)


def _last_of(table: Table, run_id: str) -> Snapshot | None:
    """The snapshot that last changed a run's rows, as far as we did it and its snapshot has not expired."""
    lineage = ancestors_of(table.current_snapshot(), table.metadata)
    return next((one for one in lineage if _told(one).get(_RUN) == run_id), None)


def _told(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary else {}


def _of_run(run_id: str) -> BooleanExpression:
    return EqualTo(term=Reference(RUN_ID.name), value=literal(run_id))
