"""Removing runs: whole, in an order that no reader notices, refused while somebody works on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_making import (
    bad_row,
    commit_run,
    files_below,
    leave_claim,
    leave_plan,
    make_run,
    put,
    record_of,
    score_row,
)  # fmt: skip

import pipeline
from pipeline import claim
from pipeline.attempt import has_plan, require_no_parts
from pipeline.claim import take_claim
from pipeline.errors import ClaimError, InputError, StoreError
from pipeline.layout import RunLayout
from pipeline.storage import Root
from pipeline.upkeep import discard
from pipeline.upkeep.discard import find_removal, remove
from pipeline.upkeep.overview import state_of
from pipeline.upkeep.text import removal_text
from pipeline.upkeep.verify import verify


def drop(layout: RunLayout, *, only_strays: bool = False) -> None:
    remove(find_removal(layout.root.path, layout.run_id, only_strays=only_strays))


def test_a_committed_run_goes_whole(layout: RunLayout) -> None:
    """Record, contact sheet, both tables; another run of the output is as it was, and the id is free."""
    make_run(RunLayout(layout.root, "r2"))
    others = files_below(layout.root.path)
    make_run(layout)
    Path(layout.contact_sheet_path).write_bytes(b"png")
    told = removal_text(find_removal(layout.root.path, "r1"))
    assert "runs/r1.json" in told
    assert "runs/r1.png" in told
    assert "3 files of its tables" in told
    drop(layout)
    assert files_below(layout.root.path) == others
    assert not Path(layout.table_dir("scores")).exists()
    assert not Path(layout.work_dir).exists()
    require_no_parts(layout)
    assert verify(layout.root.path, "r2").is_sound


def test_a_run_in_a_store_goes_whole(memory_root: Root) -> None:
    """Not on a disk alone."""
    layout = RunLayout(memory_root, "r1")
    make_run(layout)
    leave_plan(layout)
    remove(find_removal(memory_root.fs.unstrip_protocol(memory_root.path), "r1"))
    assert memory_root.fs.find(memory_root.path) == []


def test_a_stopped_run_goes_whole(layout: RunLayout) -> None:
    """Parts, plan and claims of a run that was not committed; half-written files of a killed writer, too."""
    leave_plan(layout)
    leave_claim(layout, silent_s=9, released=True)
    part = put(layout, "scores", [score_row("a")])
    (part.parent / f".{part.name}.0000.tmp").write_bytes(b"half")
    drop(layout)
    assert files_below(layout.root.path) == set()


@pytest.mark.parametrize("text", ["{", '{"format": "cops-run/1", "run_id": "r1", "files": [{"path": "../../x"}]}'])
def test_a_run_whose_record_cannot_be_read_goes_whole(layout: RunLayout, tmp_path: Path, text: str) -> None:
    """What is removed are the run's own folders, whatever its record names."""
    make_run(layout)
    (tmp_path / "x").write_text("not ours")
    Path(layout.commit_path).write_text(text)
    drop(layout)
    assert files_below(tmp_path) == {"x"}


def test_a_run_that_somebody_works_on_stays(layout: RunLayout) -> None:
    """Refused before anything is touched."""
    make_run(layout)
    before = files_below(layout.root.path)
    with take_claim(layout), pytest.raises(ClaimError, match="being worked on"):
        drop(layout)
    assert before <= files_below(layout.root.path)
    assert pipeline.open_run(layout.root.path, "r1").scores.count_rows() == 3


def test_a_process_that_wakes_up_writes_no_more(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was silent for long and is taken over: its claim is lost while the discard goes on."""
    make_run(layout)
    leave_claim(layout, silent_s=9, released=True)
    lost: list[bool] = []
    really = discard.remove_tree

    def watched(fs: Any, path: str) -> None:
        if path == layout.table_dir("scores"):
            with pytest.raises(ClaimError, match="taken over"):
                claim.require_claim(layout, 1)
            lost.append(True)
        really(fs, path)

    monkeypatch.setattr(discard, "remove_tree", watched)
    drop(layout)
    assert lost == [True]


def test_a_run_that_is_committed_meanwhile_stays(layout: RunLayout) -> None:
    """While the question waited for its answer, another process finished the run: that was not what was agreed to."""
    leave_plan(layout)
    removal = find_removal(layout.root.path, "r1")
    make_run(layout)
    with pytest.raises(ClaimError, match="committed or discarded meanwhile"):
        remove(removal)
    assert pipeline.open_run(layout.root.path, "r1").scores.count_rows() == 3


def test_an_outputs_name_is_no_pattern(memory_root: Root) -> None:
    """A bucket's folder may be called `out[12]`: what goes is in it, and not in `out1`."""
    for name in ("out[12]", "out1", "out2"):
        make_run(RunLayout(Root(memory_root.fs, memory_root.join(name)), "r1"))
    odd = memory_root.join("out[12]")
    remove(find_removal(memory_root.fs.unstrip_protocol(odd), "r1"))
    left = memory_root.fs.find(memory_root.path)
    assert [path for path in left if path.startswith(odd)] == []
    assert len(left) == 2 * 4


class Killed(BaseException):
    """As SIGKILL in the middle, as far as the files tell."""


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    really, asked = discard.remove_tree, iter(range(100))

    def dies(fs: Any, path: str) -> None:
        if next(asked) == number:
            raise Killed
        really(fs, path)

    monkeypatch.setattr(discard, "remove_tree", dies)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "make", [make_run, lambda layout: (leave_plan(layout), put(layout, "scores", [score_row("a")]))]
)
def test_a_discard_cut_short_leaves_no_half_run(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, number: int, make: Callable[[RunLayout], Any]
) -> None:
    """Wherever it is killed: a committed run is whole or not there for readers; nothing resumes what is left of it; the
    same discard goes on, and the id is free.
    """
    make(layout)
    with monkeypatch.context() as patch:
        kill_at(patch, number)
        with pytest.raises(Killed):
            drop(layout)
    is_whole = Path(layout.commit_path).exists()
    assert is_whole == (number == 0 and make is make_run)
    if is_whole:
        assert verify(layout.root.path, "r1").is_sound
    elif not has_plan(layout) and any(layout.all_parts().values()):
        with pytest.raises(InputError, match=r"`jobs/runs\.py discard r1` removes them"):
            require_no_parts(layout)
        assert state_of(layout.root.path, "r1").status == "left over"
    drop(layout)
    assert files_below(layout.root.path) == set()


def test_strays_go_and_the_run_stays(layout: RunLayout) -> None:
    """Late writers' parts, half-written files, and the work folder of a run that was killed after its commit."""
    make_run(layout)
    before = files_below(layout.root.path)
    late = put(layout, "quarantine", [bad_row("late")])
    (late.parent / ".x.tmp").write_bytes(b"half")
    leave_plan(layout)
    removal = find_removal(layout.root.path, "r1", only_strays=True)
    told = removal_text(removal)
    assert told.startswith("To be removed for good, beside what the record of run r1 names: 2 files (")
    assert late.name in told
    assert "runs/r1/" in told
    remove(removal)
    assert files_below(layout.root.path) == before
    assert find_removal(layout.root.path, "r1", only_strays=True).is_empty
    assert verify(layout.root.path, "r1").is_sound


def test_strays_of_a_run_without_record_are_not_known(layout: RunLayout) -> None:
    """Its parts are its ledger; none of them is a stray."""
    put(layout, "scores", [score_row("a")])
    with pytest.raises(InputError, match="has no record"):
        find_removal(layout.root.path, "r1", only_strays=True)


def test_who_might_miss_it_is_told(layout: RunLayout) -> None:
    """Later incremental runs of the same model, which left images out; earlier ones and other models do not."""
    make_run(layout)
    counts = record_of(layout)["counts"] | {"skipped": 3}
    for run_id, fields in {
        "later": {},
        "earlier": {"committed_at": "2026-01-01T00:00:00+00:00"},
        "other": {"model_id": "x"},
        "whole": {"counts": counts | {"skipped": 0}},
    }.items():
        commit_run(
            RunLayout(layout.root, run_id), **{"counts": counts, "committed_at": "2026-01-09T00:00:00+00:00"} | fields
        )
    leave_plan(RunLayout(layout.root, "going"), skipped=1)
    removal = find_removal(layout.root.path, "r1")
    assert removal.dependents == ("going", "later")
    assert "may be scored in this run alone: going, later" in removal_text(removal)


def test_a_folder_that_is_a_link_is_left_alone(layout: RunLayout, tmp_path: Path) -> None:
    """What it leads to may be anybody's; nothing is removed, the record neither."""
    make_run(layout)
    elsewhere = tmp_path / "elsewhere"
    Path(layout.table_dir("scores")).rename(elsewhere)
    Path(layout.table_dir("scores")).symlink_to(elsewhere)
    before = files_below(tmp_path)
    with pytest.raises(InputError, match="it is a link"):
        drop(layout)
    assert files_below(tmp_path) == before


def test_what_does_not_go_is_an_error(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that says nothing and removes nothing is not believed."""
    make_run(layout)
    removal = find_removal(layout.root.path, "r1")
    monkeypatch.setattr(discard, "remove_tree", lambda fs, path: None)
    with pytest.raises(StoreError, match=r"runs/r1\.json was to be removed, and is still there"):
        remove(removal)
