"""Removing a run, so that its id can be used again; or what lies in its folders and is none of it.

The order is what keeps readers safe: without its record a run does not exist, so that goes first. A discard that was
cut short leaves a run without record and plan, which nothing resumes, and which can be discarded again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.claim import take_claim
from pipeline.errors import ClaimError, InputError, StoreError
from pipeline.label_sets import label_sets_dir, names, records_dir
from pipeline.layout import TABLES, Entry, RunLayout
from pipeline.runs import record_of
from pipeline.storage import remove_tree
from pipeline.store_errors import with_patience
from pipeline.upkeep.label_checks import label_entries
from pipeline.upkeep.overview import RunState, overview, state_of
from pipeline.upkeep.verify import strays


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What a discard would remove, found without changing anything.

    Args:    entries: files in the tables' folders, only the strays where these alone are wanted.
             has_record, has_work, has_sheet: whether there is a record, a work folder, and a contact sheet.
             label_sets: their names.   dependents: ids of incremental runs that left out what this one may hold.
    """

    layout: RunLayout
    state: RunState
    only_strays: bool
    entries: tuple[Entry, ...]
    has_record: bool
    has_work: bool
    has_sheet: bool
    label_sets: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self.only_strays and not self.entries and not self.has_work


def find_removal(output: str, run_id: str, *, only_strays: bool = False) -> Removal:
    """Raises:  InputError: there is no such run; strays are wanted of one that is not committed; or a folder of it is a
    link, and what it leads to is not ours to remove.
    """
    state = state_of(output, run_id)
    layout = RunLayout.at(output, run_id)
    _refuse_links(layout)
    beside = {entry.path for entry in layout.entries(layout.root.join("runs"))}
    if only_strays:
        found, others = strays(layout, record_of(layout)), []
    else:
        found = [entry for table in TABLES for entry in layout.entries(layout.table_dir(table))]
        found += label_entries(layout)
        others = overview(output)
    return Removal(
        layout=layout,
        state=state,
        only_strays=only_strays,
        entries=tuple(found),
        has_record=layout.commit_path in beside,
        has_work=layout.work_dir in beside,
        has_sheet=layout.contact_sheet_path in beside,
        label_sets=() if only_strays else tuple(names(layout)),
        dependents=tuple(other.run_id for other in others if _may_need(other, state)),
    )


def remove(removal: Removal, *, first: Callable[[], None] | None = None) -> None:
    """Remove what was found. May be done again where it was cut short.

    Args:    first: done before anything is removed, once nobody else can work on the run.
    Raises:  ClaimError: a process works on the run, or did since the removal was found.
             StoreError: the store does not answer.
    """
    layout = removal.layout
    with take_claim(layout) as claim:
        if layout.root.fs.exists(layout.commit_path) != removal.has_record:
            raise ClaimError(f"run {layout.run_id!r} was committed or discarded meanwhile: look at it again")
        if first is not None:
            first()
            claim.check()
        if removal.only_strays:
            for entry in removal.entries:
                _remove(layout, entry.path)
        else:
            _remove(layout, layout.commit_path)
            _remove(layout, layout.work_path("plan.json"))
            claim.check()
            _remove(layout, records_dir(layout))
            _remove(layout, label_sets_dir(layout))
            for table in TABLES:
                _remove(layout, layout.table_dir(table))
            _remove(layout, layout.contact_sheet_path)
        claim.check()
        claim.stop_renewing()
        _remove(layout, layout.work_dir)


def _may_need(other: RunState, gone: RunState) -> bool:
    """Whether an incremental run left out images because `gone`, or another run before it, had scored them."""
    if other.run_id == gone.run_id or not other.skipped or other.model_id != gone.model_id:
        return False
    return gone.at is None or other.at is None or other.at > gone.at


def _remove(layout: RunLayout, path: str) -> None:
    """A file or a folder with what is in it, if it is there.

    Raises:  StoreError: it is there still.
    """

    def gone() -> bool:
        remove_tree(layout.root.fs, path)
        return not layout.root.fs.exists(path)

    if not with_patience(gone, layout.root.uri(path)):
        raise StoreError(f"{layout.root.uri(path)} was to be removed, and is still there")


def _refuse_links(layout: RunLayout) -> None:
    if not layout.root.is_local:
        return
    ours = (layout.work_dir, label_sets_dir(layout), records_dir(layout))
    for path in (*(layout.table_dir(table) for table in TABLES), *ours):
        if Path(path).is_symlink():
            raise InputError(
                f"{path}: expected a folder of the run, it is a link; remove it, and what it leads to, by hand"
            )
