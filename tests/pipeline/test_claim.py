"""One run id, one process: who holds it, who may take it over, and that the loser learns of it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import claim
from pipeline.claim import last_holder, take_claim
from pipeline.errors import ClaimError
from pipeline.layout import RunLayout


def claims(layout: RunLayout) -> list[str]:
    return sorted(path.name for path in Path(layout.work_dir).glob("claim-*.json"))


def leave_claim(layout: RunLayout, **fields: Any) -> Path:
    """A claim file as another process would have left it."""
    holder = {"token": "t", "host": "elsewhere", "pid": 7, "machine": "another", "process_start": "1"}
    path = Path(layout.work_path("claim-00001.json"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(holder | {"beat": 1, "released": False} | fields))
    return path


def finished_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_claims_are_numbered_and_released(layout: RunLayout) -> None:
    """Each attempt has the next number; one that ended lets the next in at once."""
    with take_claim(layout) as first:
        assert first.number == 1
    began = time.monotonic()
    with take_claim(layout) as second:
        assert second.number == 2
    assert time.monotonic() - began < 1
    assert claims(layout) == ["claim-00001.json", "claim-00002.json"]


def test_a_claim_is_released_by_an_error_too(layout: RunLayout) -> None:
    """A run that fails does not lock its id."""
    with pytest.raises(ValueError, match="mine"), take_claim(layout):
        raise ValueError("mine")
    with take_claim(layout) as second:
        assert second.number == 2


def test_a_living_process_of_this_machine_is_refused_at_once(layout: RunLayout) -> None:
    """Held by a process that runs here: refused without watching, and told by whom."""
    with take_claim(layout):
        began = time.monotonic()
        with pytest.raises(ClaimError, match=f"process {os.getpid()}"):
            take_claim(layout)
        assert time.monotonic() - began < 1
    assert claims(layout) == ["claim-00001.json"]


@pytest.mark.skipif(claim._machine() is None, reason="no /proc")
def test_a_dead_process_of_this_machine_is_taken_over_at_once(layout: RunLayout) -> None:
    """After `kill -9` the same command goes on without waiting for a heartbeat to stay away."""
    leave_claim(layout, machine=claim._machine(), pid=finished_process(), process_start="12345")
    assert take_claim(layout, watch_s=60).number == 2


@pytest.mark.skipif(claim._machine() is None, reason="no /proc")
def test_a_killed_process_that_nobody_has_reaped_is_dead(layout: RunLayout) -> None:
    """In a container without an init it stays a zombie for ever."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = claim._start_of(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    leave_claim(layout, machine=claim._machine(), pid=process.pid, process_start=started)
    assert take_claim(layout, watch_s=60).number == 2
    process.wait()


@pytest.mark.skipif(claim._machine() is None, reason="no /proc")
def test_another_process_under_the_same_number_is_not_the_holder(layout: RunLayout) -> None:
    """Process numbers come again: the start time tells that this one is another."""
    leave_claim(layout, machine=claim._machine(), pid=os.getpid(), process_start="1")
    assert take_claim(layout, watch_s=60).number == 2


def test_a_silent_holder_elsewhere_is_taken_over(layout: RunLayout) -> None:
    """On another machine, a claim that does not change while it is watched is over."""
    leave_claim(layout)
    began = time.monotonic()
    assert take_claim(layout, watch_s=0.2).number == 2
    assert time.monotonic() - began >= 0.2


def test_a_holder_that_finishes_while_watched_is_over(layout: RunLayout) -> None:
    """It commits, and its claim goes with its folder: that is no sign of life."""
    path = leave_claim(layout)
    finish = threading.Timer(0.1, lambda: shutil.rmtree(path.parent))
    finish.start()
    assert take_claim(layout, watch_s=5).number == 2
    finish.join()


def test_of_eight_that_take_over_at_once_one_does(layout: RunLayout) -> None:
    """All watched the same silent claim: one has the next number, seven are told."""
    leave_claim(layout)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: _number_or_none(layout), range(8)))
    assert sorted(taken, key=str) == [2, *[None] * 7]
    assert claims(layout) == ["claim-00001.json", "claim-00002.json"]


def _number_or_none(layout: RunLayout) -> int | None:
    try:
        return take_claim(layout, watch_s=0.2).number
    except ClaimError:
        return None


def test_a_beating_holder_elsewhere_is_refused(layout: RunLayout) -> None:
    """One heartbeat while we watch is a sign of life."""
    path = leave_claim(layout)
    beats = threading.Timer(0.1, lambda: path.write_text(path.read_text().replace('"beat": 1', '"beat": 2')))
    beats.start()
    with pytest.raises(ClaimError, match="elsewhere"):
        take_claim(layout, watch_s=5)
    beats.join()


def test_a_release_while_watched_ends_the_watch(layout: RunLayout) -> None:
    """A holder that lets go is not waited for to the end."""
    path = leave_claim(layout)
    release = threading.Timer(0.1, lambda: path.write_text(path.read_text().replace("false", "true")))
    release.start()
    began = time.monotonic()
    assert take_claim(layout, watch_s=5).number == 2
    assert time.monotonic() - began < 4
    release.join()


def test_the_heartbeat_changes_the_file(layout: RunLayout) -> None:
    """Who watches from another machine sees the file change while the holder lives."""
    with take_claim(layout, heartbeat_s=0.02) as held:
        path = Path(layout.work_path(f"claim-{held.number:05d}.json"))
        first = path.read_text()
        deadline = time.monotonic() + 5
        while path.read_text() == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_first_holder_learns_of_a_takeover(layout: RunLayout) -> None:
    """A process that was thought dead stops writing: check() refuses, and it does not release another's claim."""
    with take_claim(layout, heartbeat_s=0.02) as first:
        first.check()
        claim.create_once(layout.root.fs, layout.work_path("claim-00002.json"), b'{"token": "other"}')
        with pytest.raises(ClaimError, match="taken over"):
            first.check()
        assert first.lost.wait(5)
    assert Path(layout.work_path("claim-00002.json")).read_text() == '{"token": "other"}'
    assert not json.loads(Path(layout.work_path("claim-00001.json")).read_text())["released"]


def test_a_claim_that_is_gone_is_lost(layout: RunLayout) -> None:
    """Who took the run over has committed it and removed all claims: what sleeps meanwhile must write nothing more."""
    with take_claim(layout, heartbeat_s=60) as first:
        shutil.rmtree(layout.work_dir)
        with pytest.raises(ClaimError, match="taken over"):
            claim.require_claim(layout, 1)
        with pytest.raises(ClaimError, match="taken over"):
            first.check()
    assert not Path(layout.work_dir).exists()


def test_the_heartbeat_itself_notices_a_takeover(layout: RunLayout) -> None:
    """Without a call of check() `lost` is set, too."""
    with take_claim(layout, heartbeat_s=0.02) as first:
        claim.create_once(layout.root.fs, layout.work_path("claim-00002.json"), b"{}")
        assert first.lost.wait(5)


def test_of_eight_at_once_one_gets_the_claim(layout: RunLayout) -> None:
    """Started together, one run goes on and the others are told why not."""
    barrier, outcomes = threading.Barrier(8), []

    def start() -> None:
        barrier.wait()
        try:
            outcomes.append(take_claim(layout).number)
        except ClaimError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number in outcomes if isinstance(number, int)] == [1]
    assert len(outcomes) == 8


def test_a_finished_runs_claim_is_not_written_anew(layout: RunLayout) -> None:
    """The run's work folder is removed at its end: releasing the claim does not bring it back."""
    with take_claim(layout):
        layout.root.fs.rm(layout.work_dir, recursive=True)
    assert not Path(layout.work_dir).exists()


def test_a_heartbeat_outlives_any_error_of_the_store(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients raise what is no OSError; the claim is renewed when the store is back."""
    with take_claim(layout, heartbeat_s=0.05) as held:
        path = Path(layout.work_path("claim-00001.json"))

        def down(*_: Any, **__: Any) -> None:
            raise RuntimeError("EndpointConnectionError, say")

        with monkeypatch.context() as patch:
            patch.setattr(claim, "write_atomic", down)
            time.sleep(0.3)
        before = path.read_bytes()
        deadline = time.monotonic() + 10
        while path.read_bytes() == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.read_bytes() != before
        assert not held.lost.is_set()


def test_what_ended_the_run_is_not_hidden_by_the_release(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is down at the end is a warning; the first error is the one that is raised."""

    def down(*_: Any, **__: Any) -> None:
        raise OSError("down")

    with pytest.raises(ValueError, match="the first error"), take_claim(layout):
        monkeypatch.setattr(claim, "write_atomic", down)
        raise ValueError("the first error")


def test_the_last_holder_is_told_without_waiting(layout: RunLayout) -> None:
    """Nobody; this process while it works; nobody living once it has let go."""
    assert last_holder(layout) is None
    with take_claim(layout):
        holder = last_holder(layout)
        assert holder
        assert (holder.pid, holder.lives) == (os.getpid(), True)
        assert holder.silent_s < 60
    released = last_holder(layout)
    assert released
    assert not released.lives


@pytest.mark.parametrize(("silent_s", "lives"), [(1.0, True), (3600.0, False), (-30.0, True)])
def test_a_holder_elsewhere_lives_while_it_is_heard_of(layout: RunLayout, silent_s: float, lives: bool) -> None:
    """By its last sign of life; one whose clock is ahead of ours is no older than now."""
    leave_claim(layout, beat=time.time_ns() - int(silent_s * 1e9))
    holder = last_holder(layout)
    assert holder
    assert (holder.host, holder.pid, holder.lives) == ("elsewhere", 7, lives)
    assert holder.silent_s == pytest.approx(max(0.0, silent_s), abs=5)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"host": "h", "pid": "x", "beat": "y"}'])
def test_a_claim_that_says_nothing_has_no_holder(layout: RunLayout, text: str) -> None:
    """Looking at runs fails by no damaged claim."""
    leave_claim(layout).write_text(text)
    assert last_holder(layout) is None


def test_without_proc_a_dead_holder_is_watched(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine cannot be told, silence decides, and a killed run can go on."""
    leave_claim(layout, machine=None, process_start=None)
    monkeypatch.setattr(claim, "_machine", lambda: None)
    monkeypatch.setattr(claim, "_start_of", lambda pid: None)
    with take_claim(layout, watch_s=0.2) as second:
        assert second.number == 2


def test_where_a_store_lets_two_create_one_claim_the_first_stops(layout: RunLayout) -> None:
    """As with a store that ignores conditional writes: the second one's claim is there, and the first sees it."""
    path = layout.work_path("claim-00001.json")
    with take_claim(layout) as first:
        second = json.loads(layout.root.fs.cat_file(path)) | {"token": "another", "host": "elsewhere"}
        layout.write_json(path, second)
        with pytest.raises(ClaimError, match=r"claimed by elsewhere \(process \d+\) at the same moment"):
            first.check()
    assert first.lost.is_set()
    assert json.loads(layout.root.fs.cat_file(path)) == second


def test_a_silent_store_does_not_hold_up_the_end(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A heartbeat that waits for an answer is left behind; that the claim was not released is said."""
    asked, answer = threading.Event(), threading.Event()

    def ask(*_: Any) -> None:
        asked.set()
        answer.wait(60)

    monkeypatch.setattr(claim, "_LEAVE_S", 0.05)
    with take_claim(layout, heartbeat_s=0.01):
        monkeypatch.setattr(claim, "require_claim", ask)
        assert asked.wait(10)
    assert "could not release the claim on run r1: the store does not answer" in caplog.text
    answer.set()


@pytest.mark.parametrize("damage", ["", "{", "[]", "\0" * 300])
def test_a_damaged_claim_is_taken_over(layout: RunLayout, damage: str) -> None:
    """As a machine that lost power may leave it: it holds nobody up."""
    path = Path(layout.work_path("claim-00001.json"))
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    with take_claim(layout) as held:
        assert held.number == 2
