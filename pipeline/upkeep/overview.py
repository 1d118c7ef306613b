"""Which runs an output holds: committed, going on, stopped, or left over. One LIST a folder, nothing for each image."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pipeline.claim import Holder, last_holder
from pipeline.errors import InputError
from pipeline.layout import TABLES, RunLayout, check_run_id
from pipeline.parts import rows_in_parts
from pipeline.runs import latest_record, read_record
from pipeline.storage import Root, open_root

Status = Literal["committed", "in progress", "stopped", "left over", "unreadable"]
_ASKED_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What is known of a run without opening its tables; None where nothing tells.

    Args:    at: when it was committed, or last gave a sign of life.   written: images in its parts, by their names.
             num_bytes: of its tables.   problem: why its record cannot be read.
    """

    run_id: str
    status: Status
    at: datetime.datetime | None = None
    model: str | None = None
    model_id: str | None = None
    planned: int | None = None
    scored: int | None = None
    quarantined: int | None = None
    skipped: int | None = None
    written: int | None = None
    images_per_s: float | None = None
    num_bytes: int | None = None
    holder: Holder | None = None
    problem: str | None = None


def overview(output: str) -> list[RunState]:
    """All runs, the newest last.

    Raises:  InputError: there is no run.
    """
    root = open_root(output)
    ids = run_ids(root)
    if not ids:
        raise InputError(
            f"{root.uri()}: no runs; expected runs/, scores/ or quarantine/ with some, as of jobs/score.py"
        )
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        states = list(threads.map(partial(_state, root), ids))
    never = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return sorted(states, key=lambda state: (state.at or never, state.run_id))


def state_of(output: str, run_id: str | None) -> RunState:
    """One run; the one committed last where no id is given.

    Raises:  InputError: there is none.
    """
    wanted, root = chosen_id(output, run_id), open_root(output)
    there = run_ids(root)
    if wanted not in there:
        known = f"; the last ones are {', '.join(there[-3:])}" if there else "; there is none at all"
        raise InputError(f"{root.uri()}: no run {wanted!r}{known}")
    return _state(root, wanted)


def chosen_id(output: str, run_id: str | None) -> str:
    """Raises:  InputError: it is no run id; or none is given, and no run is committed."""
    return str(latest_record(output)["run_id"]) if run_id is None else check_run_id(run_id, "run id")


def run_ids(root: Root) -> list[str]:
    """The ids of all runs that left anything in the folders. Other things in them are nobody's."""
    layout = RunLayout(root, "")
    found = set()
    for entry in layout.entries(root.join("runs")):
        is_record = not entry.is_folder and entry.name.endswith(".json")
        if is_record or entry.is_folder:
            found.add(entry.name.removesuffix(".json") if is_record else entry.name)
    for table in TABLES:
        folders = (entry for entry in layout.entries(root.join(table)) if entry.is_folder)
        found |= {entry.name.removeprefix("run_id=") for entry in folders if entry.name.startswith("run_id=")}
    return sorted(name for name in found if _is_run_id(name))


def _is_run_id(name: str) -> bool:
    try:
        return bool(check_run_id(name))
    except InputError:
        return False


def _state(root: Root, run_id: str) -> RunState:
    layout = RunLayout(root, run_id)
    try:
        record = read_record(layout)
        return _unfinished(layout) if record is None else _committed(layout, record)
    except InputError as error:
        return RunState(run_id=run_id, status="unreadable", problem=str(error))


def _committed(layout: RunLayout, record: Mapping[str, Any]) -> RunState:
    """Raises:  InputError: the record lacks something."""
    with expected_whole("record", layout.root.uri(layout.commit_path)):
        counts = {name: int(record["counts"][name]) for name in ("planned", "scored", "quarantined", "skipped")}
        return RunState(
            run_id=layout.run_id,
            status="committed",
            at=datetime.datetime.fromisoformat(record["committed_at"]).astimezone(datetime.UTC),
            model=str(record["model"]["name"]),
            model_id=str(record["model_id"]),
            planned=counts["planned"],
            scored=counts["scored"],
            quarantined=counts["quarantined"],
            skipped=counts["skipped"],
            images_per_s=float(record["images_per_s"]),
            num_bytes=sum(int(file["num_bytes"]) for file in record["files"]),
        )


@contextlib.contextmanager
def expected_whole(what: str, where: str) -> Iterator[None]:
    """While its fields are taken out.

    Raises:  InputError: in place of what a field raises that is missing, or of another type.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        raise InputError(f"{where}: expected a whole {what}; missing or of a wrong type: {exc!s:.200}") from exc


def _unfinished(layout: RunLayout) -> RunState:
    """Raises:  InputError: its plan cannot be read."""
    plan = _plan(layout)
    parts = [path for paths in layout.all_parts().values() for path in paths]
    holder = last_holder(layout)
    silent = datetime.timedelta(seconds=holder.silent_s) if holder else None
    lives = holder is not None and holder.lives
    # Parts are written after the plan: those without one were left by a discard that was cut short, say.
    status: Status = "in progress" if lives else "left over" if parts and not plan else "stopped"
    return RunState(
        run_id=layout.run_id,
        status=status,
        at=datetime.datetime.now(datetime.UTC) - silent if silent is not None else None,
        written=rows_in_parts(parts),
        holder=holder,
        **plan,
    )


def _plan(layout: RunLayout) -> dict[str, Any]:
    path = layout.work_path("plan.json")
    record = layout.read_json(path)
    if record is None:
        return {}
    with expected_whole("plan", layout.root.uri(path)):
        told, summary = record["identity"], record["summary"]
        names = {"model": str(told["model"]), "model_id": str(told["model_id"])}
        return names | {name: int(summary[name]) for name in ("planned", "skipped")}
