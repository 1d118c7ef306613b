"""What is told of all runs, whatever state they are in."""

import datetime
from pathlib import Path

import pytest
from run_making import NOW, bad_row, commit_run, leave_claim, leave_plan, make_run, put, record_of, score_row

from pipeline.claim import take_claim
from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.storage import Root
from pipeline.upkeep.overview import RunState, overview, run_ids, state_of
from pipeline.upkeep.text import note_on, runs_table


def only(layout: RunLayout) -> RunState:
    (state,) = overview(layout.root.path)
    return state


def test_a_committed_run(layout: RunLayout) -> None:
    """What its record says, and the size of its tables."""
    make_run(layout)
    state = only(layout)
    assert (state.status, state.at, state.model) == ("committed", NOW, "tiny")
    assert (state.planned, state.scored, state.quarantined, state.skipped) == (4, 3, 1, 0)
    assert state.num_bytes == sum(path.stat().st_size for path in Path(layout.root.path).rglob("*.parquet"))
    assert note_on(state) is None


def test_a_run_that_goes_on(layout: RunLayout) -> None:
    """Held by a living process: who, and how far by the names of its parts; a part of both tables counts once."""
    leave_plan(layout)
    put(layout, "scores", [score_row("a"), score_row("b")])
    put(layout, "scores", [score_row("c")])
    put(layout, "quarantine", [bad_row("c")])  # the same name: the other table of one part
    with take_claim(layout):
        state = only(layout)
        assert (state.status, state.written, state.planned) == ("in progress", 3, 5)
        assert "heard of 0 s ago; 3 of 5 images written" in (note_on(state) or "")
    assert only(layout).status == "stopped"


def test_a_run_that_was_stopped(layout: RunLayout) -> None:
    """Nobody was heard of for long: it can be resumed, and how is said; a host's name is not obeyed."""
    leave_plan(layout)
    leave_claim(layout, silent_s=7200)
    state = only(layout)
    assert (state.status, state.written) == ("stopped", 0)
    assert state.at
    assert datetime.datetime.now(datetime.UTC) - state.at > datetime.timedelta(hours=1)
    note = note_on(state) or ""
    assert "else\\x1bwhere (process 7), heard of 2 h 0 min ago" in note
    assert "the same jobs/score.py command with --run-id r1 goes on with it" in note


def test_parts_without_record_and_plan_are_left_over(layout: RunLayout) -> None:
    """Nothing resumes them, so the way on is to discard them."""
    put(layout, "quarantine", [bad_row("a")])
    state = only(layout)
    assert (state.status, state.written) == ("left over", 1)
    assert "`discard r1`" in (note_on(state) or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "expected JSON"), ('{"format": "x"}', "cops-run/1"), ("[]", "list"), ("", "expected JSON")],
)
def test_a_record_that_cannot_be_read_breaks_no_list(layout: RunLayout, text: str, words: str) -> None:
    """It is told with what is wrong, beside the others."""
    make_run(layout)
    Path(RunLayout(layout.root, "odd").commit_path).write_text(text)
    odd, sound = overview(layout.root.path)
    assert (odd.run_id, odd.status, sound.status) == ("odd", "unreadable", "committed")
    assert words in (note_on(odd) or "")


@pytest.mark.parametrize(
    "fields",
    [
        {"counts": {}},
        {"counts": None},
        {"counts": {"planned": "x", "scored": 1, "quarantined": 1, "skipped": 1}},
        {"committed_at": "yesterday"},
        {"model": "tiny"},
        {"images_per_s": None},
        {"files": [{"table": "scores", "path": "scores/run_id=r1/part-1.parquet"}]},
        {"files": [{"table": "scores", "path": "../../etc/passwd", "num_bytes": 1, "rows": 1}]},
    ],
)
def test_a_record_of_odd_values_is_told(layout: RunLayout, fields: dict[str, object]) -> None:
    """Fields that are missing or of another kind, and files that lead elsewhere."""
    make_run(layout, **fields)
    state = only(layout)
    assert state.status == "unreadable"
    assert "runs/r1.json" in (state.problem or "")


def test_what_a_record_lacks_is_named(layout: RunLayout) -> None:
    """In a sentence for people."""
    record = record_of(layout)
    del record["counts"]
    layout.write_json(layout.commit_path, record)
    told = "runs/r1.json: expected a whole record; missing or of a wrong type: 'counts'"
    assert (only(layout).problem or "").endswith(told)


def test_a_plan_that_cannot_be_read_breaks_no_list(layout: RunLayout) -> None:
    """As a record."""
    leave_plan(layout)
    Path(layout.work_path("plan.json")).write_text('{"identity": 7}')
    problem = only(layout).problem or ""
    assert "runs/r1/plan.json: expected a whole plan; missing or of a wrong type: " in problem


def test_the_newest_is_last(layout: RunLayout) -> None:
    """By commit or last sign of life, whatever the ids; of what nobody knows when comes first."""
    for run_id, day in (("b", 1), ("a", 2)):
        commit_run(RunLayout(layout.root, run_id), committed_at=NOW.replace(day=day).isoformat())
    leave_claim(RunLayout(layout.root, "going"), silent_s=1)
    put(RunLayout(layout.root, "z"), "scores", [score_row("a")])
    assert [state.run_id for state in overview(layout.root.path)] == ["z", "b", "a", "going"]


def test_only_runs_are_found(layout: RunLayout) -> None:
    """Other files and folders in the output are nobody's run."""
    make_run(layout)
    for name in ("runs/README", "runs/.r9.json.x.tmp", "runs/r8.png", "scores/notes.txt", "scores/run_id=a b/x"):
        path = Path(layout.root.join(name))
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    Path(layout.root.join("scores/other")).mkdir()
    assert run_ids(layout.root) == ["r1"]


def test_a_store_in_memory(memory_root: Root) -> None:
    """The same without folders."""
    layout = RunLayout(memory_root, "r1")
    make_run(layout)
    leave_plan(RunLayout(memory_root, "r2"))
    assert {state.run_id: state.status for state in overview(memory_root.fs.unstrip_protocol(memory_root.path))} == {
        "r1": "committed",
        "r2": "stopped",
    }


def test_what_is_not_there_is_wrong_use(layout: RunLayout) -> None:
    """An output without runs and a run that nobody started are told, with what is there instead."""
    with pytest.raises(InputError, match=r"out: no runs; expected runs/, scores/ or quarantine/"):
        overview(layout.root.path)
    with pytest.raises(InputError, match="no run 'r1'; there is none at all"):
        state_of(layout.root.path, "r1")
    make_run(layout)
    with pytest.raises(InputError, match="no run 'r2'; the last ones are r1"):
        state_of(layout.root.path, "r2")
    with pytest.raises(InputError, match="run id: expected letters"):
        state_of(layout.root.path, "../r1")


def test_the_table_fits_its_terminal(layout: RunLayout) -> None:
    """Columns go, the least needed first, and which went is said; none where there is room or no terminal."""
    run_id = "run-2026-01-02T03-04-05Z"
    make_run(RunLayout(layout.root, run_id), counts={"planned": 10**7, "scored": 1, "quarantined": 9, "skipped": 0})
    states = overview(layout.root.path)
    whole = runs_table(states)
    assert whole == runs_table(states, 150)
    assert [*whole.splitlines()[0].split()] == (
        ["run", "status", "when", "(UTC)", "planned", "scored", "quarantined", "images/s", "size", "model"]
    )
    narrow = runs_table(states, 80).splitlines()
    assert max(map(len, narrow)) <= 80
    assert narrow[0].split() == ["run", "status", "when", "(UTC)", "planned", "quarantined"]
    assert narrow[1].startswith(f"{run_id}  committed  2026-01-02 03:04  10,000,000")
    assert narrow[-1] == "(scored, images/s, size, model: in a wider terminal, or by --json)"


def test_notes_fit_the_terminal_too(layout: RunLayout) -> None:
    """Whole words, and no line is longer."""
    leave_plan(layout)
    leave_claim(layout, silent_s=7200)
    told = runs_table(overview(layout.root.path), 80).splitlines()
    assert max(map(len, told)) <= 80
    assert "the same jobs/score.py command with --run-id r1" in " ".join(" ".join(told).split())


def test_a_models_name_is_not_obeyed(layout: RunLayout) -> None:
    """A checkpoint may be called anything."""
    make_run(layout, model={"name": "\x1b[31mred\n", "method": "cops"})
    assert "\\x1b[31mred\\n" in runs_table(overview(layout.root.path))
