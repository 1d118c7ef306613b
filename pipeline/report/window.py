"""Which runs a report is of, and which it is held against: earlier ones of the same model, and no others."""

from __future__ import annotations

import datetime
import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

from pipeline.config import DatasetName
from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.runs import read_record, record_of
from pipeline.storage import Root, open_root, redact

Record = Mapping[str, Any]
_READ_AT_ONCE = 8


@dataclass(frozen=True, order=True)
class RunMark:
    """A committed run, in the order of the commits; `is_evaluation` where it is of a labelled dataset."""

    committed_at: str
    run_id: str
    model_id: str
    is_evaluation: bool = False


@dataclass(frozen=True, kw_only=True)
class Window:
    """Runs, the oldest first.

    Args:    now: what is reported.   before: the trailing runs, of the same model.   others: runs among these of
             another model.   previous: for each of `now` the run committed last before it, of whichever model.
             left_out: runs of the model that were committed before, and are no nights to compare with.
             unreadable: what is wrong with records that could not be read, and so are in none of these.
             trailing: as many of `before` were asked for.   of_names: only such of certain names.
    """

    now: tuple[Record, ...]
    before: tuple[Record, ...] = ()
    others: tuple[RunMark, ...] = ()
    previous: tuple[Record | None, ...] = ()
    left_out: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    trailing: int = 0
    of_names: bool = False

    @property
    def model_id(self) -> str:
        return str(self.now[0]["model_id"])

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Of what is reported."""
        return tuple(str(record["run_id"]) for record in self.now)

    @property
    def before_ids(self) -> tuple[str, ...]:
        return tuple(str(record["run_id"]) for record in self.before)

    @property
    def nothing_before(self) -> str:
        """Why there are no trailing runs."""
        if not self.trailing:
            return "Compared with no earlier run, as --trailing 0 asks"
        return "No earlier run of this model" + (" of these names" if self.of_names else "")


def find_window(
    output: str,
    run_ids: Sequence[str],
    trailing: int,
    *,
    compare_with: str | None = None,
    left_out: Collection[str] = (),
) -> Window:
    """The runs that are reported, and as many earlier ones of their model.

    Args:    compare_with: a pattern of the names of earlier runs; None: all but evaluations and those in `left_out`.
    Raises:  InputError: no run is committed, or not this one; or the runs are of several models.
    """
    root = open_root(output)
    marks, unreadable = _marks(root)
    if not run_ids:
        if not marks:
            raise InputError(f"{redact(output)}: no committed run; expected runs/<run_id>.json")
        run_ids = [marks[-1].run_id]
    now = sorted((_whole(root, run_id) for run_id in dict.fromkeys(run_ids)), key=_place)
    models = {str(record["model_id"]) for record in now}
    if len(models) > 1:
        told = ", ".join(f"{record['run_id']} ({record['model_id']})" for record in now)
        raise InputError(f"--run-id: scores of different models are not comparable, so not in one report: {told}")
    nights = [mark for mark in marks if _is_compared(mark, compare_with, left_out)]
    earlier = [mark for mark in nights if _place_of(mark) < _place(now[0])]
    chosen = [mark for mark in earlier if mark.model_id in models][-trailing:] if trailing else []
    since = chosen[0] if chosen else RunMark("~" if earlier else "", "", "")
    skipped = [mark for mark in marks if since < mark and _place_of(mark) < _place(now[0]) and mark not in earlier]
    return Window(
        now=tuple(now),
        before=tuple(_whole(root, mark.run_id) for mark in chosen),
        others=tuple(mark for mark in earlier if mark > since and mark.model_id not in models),
        previous=tuple(_previous(root, nights, record) for record in now),
        left_out=tuple(mark.run_id for mark in skipped if mark.model_id in models) if compare_with is None else (),
        unreadable=tuple(unreadable),
        trailing=trailing,
        of_names=compare_with is not None,
    )


def _is_compared(mark: RunMark, compare_with: str | None, left_out: Collection[str]) -> bool:
    if compare_with is not None:
        return fnmatch.fnmatchcase(mark.run_id, compare_with)
    return not mark.is_evaluation and mark.run_id not in left_out


def _previous(root: Root, nights: Sequence[RunMark], record: Record) -> Record | None:
    earlier = [mark for mark in nights if _place_of(mark) < _place(record)]
    return _whole(root, earlier[-1].run_id) if earlier else None


def committed_at(record: Record) -> datetime.datetime:
    """Raises:  InputError: the record says no time."""
    try:
        at = datetime.datetime.fromisoformat(str(record["committed_at"]))
    except ValueError as exc:
        raise InputError(f"the record of run {record['run_id']!r}: expected a time in committed_at: {exc}") from exc
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)


def _place_of(mark: RunMark) -> tuple[str, str]:
    return mark.committed_at, mark.run_id


def _place(record: Record) -> tuple[str, str]:
    return str(record["committed_at"]), str(record["run_id"])


def _whole(root: Root, run_id: str) -> Record:
    """Raises:  InputError: there is no such record, or it lacks what a report is made of."""
    record = record_of(RunLayout(root, run_id))
    for name, kind in (("counts", dict), ("config", dict), ("model", dict), ("model_id", str)):
        if not isinstance(record.get(name), kind):
            raise InputError(f"{root.uri()}: the record of run {run_id!r} is damaged: it lacks {name}")
    numbers = {**record["counts"], "images_per_s": record.get("images_per_s")}
    if odd := [name for name, value in numbers.items() if value is not None and not _is_count(value)]:
        raise InputError(f"{root.uri()}: the record of run {run_id!r} is damaged: expected numbers in {', '.join(odd)}")
    committed_at(record)
    return record


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


def _marks(root: Root) -> tuple[list[RunMark], list[str]]:
    """Every committed run, and what is wrong with records that tell of none."""
    paths = RunLayout(root, "").list_files(root.join("runs"), ".json")
    names = [path.rpartition("/")[2].removesuffix(".json") for path in paths]
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        found = list(threads.map(lambda name: _mark(root, name), names))
    return sorted(one for one in found if isinstance(one, RunMark)), [one for one in found if isinstance(one, str)]


def _mark(root: Root, run_id: str) -> RunMark | str | None:
    try:
        record = read_record(RunLayout(root, run_id))
    except InputError as exc:
        return str(exc)
    if record is None:
        return None
    config = record.get("config")
    of_a_dataset = isinstance(config, Mapping) and config.get("format") in get_args(DatasetName)
    return RunMark(record["committed_at"], run_id, str(record.get("model_id")), is_evaluation=of_a_dataset)
