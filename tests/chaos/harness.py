"""A run that is started, disturbed at random moments, and started again by the same command until it is committed; then
held against one that nothing disturbed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from cluster import HERE, Nodes
from job import OUT_OF_MEMORY
from places import STORE_KINDS, Place, filled
from proxy import STALL_S
from real_parts import clean_environment

from pipeline.layout import RunLayout
from pipeline.parts import rows_in_parts
from pipeline.storage import Root

HANGS_S = 600.0
"""A job in which nothing moves for so long hangs: past Ray's and the store's own patience."""
_SILENCE_S = 300.0  # docs/operations.md says four minutes
_ANY_TIME = 0.3  # of the faults come while a run starts, plans or commits as well as while it scores
_SPREAD_S = 8.0
_LAST = {"kill -9 driver", "SIGTERM driver", "lost head", "store: never answers"}  # of an attempt
_OF_AN_ACTOR = {"kill -9 model actor", "stopped model actor"}
_IN_HAND = 64  # images at most that an actor loses: those of its call
_HEAD_IS_AWAY = "does not answer; if it is not back in a minute, Ray ends this job"
_SOME_PARTS = 96  # rows: too many to wait for the next part


class BrokenPromiseError(AssertionError):
    """A promise of docs/design.md was not kept."""


@dataclass(frozen=True)
class Fault:
    """What was done to a run, when, and how the attempt ended that it met: `went on`, or its exit code."""

    run: str
    attempt: int
    kind: str
    after_s: float
    ended: str


@dataclass
class Attempt:
    """The job's command, given once: its process, what was done to it, and what there was before it."""

    process: subprocess.Popen[bytes]
    notes: Path
    log: Path
    log_from: int
    scored_before: int
    written_before: int
    began: float = field(default_factory=time.monotonic)
    met: list[tuple[str, float]] = field(default_factory=list)
    lost: int = 0
    """Images at most that were scored, not yet written, and lost with an actor or a node."""

    def scored(self) -> int:
        """Images that the model has scored, in this attempt and those before."""
        return sum(int(line) for path in self.notes.glob("scored-*") for line in path.read_text().splitlines() if line)

    def said(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self.log_from)
            return log.read().decode(errors="replace")

    def ends_within(self, seconds: float) -> bool:
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def waits_for(self, what: Callable[[], bool]) -> bool:
        """Whether it came while the job ran.

        Raises:  BrokenPromiseError: the job hangs.
        """
        deadline = time.monotonic() + HANGS_S
        while not what():
            if self.ends_within(0.1):
                return what()
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"hangs after {self.met}:\n{self.said()[-4000:]}")
        return True


@dataclass
class Harness:
    """Starts runs, disturbs them, and holds what they leave against the undisturbed one."""

    folder: Path
    nodes: Nodes
    random: random.Random
    say: Callable[[str], None]
    faults: list[Fault] = field(default_factory=list)
    reference: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def undisturbed(self, place: Place) -> None:
        """What every later run of this place must equal."""
        run_id = f"{place.prefix}-undisturbed"
        with self.start(place, run_id) as attempt:
            attempt.waits_for(lambda: attempt.process.poll() is not None)
            took_s = time.monotonic() - attempt.began
            if attempt.process.returncode != 0:
                raise BrokenPromiseError(f"{run_id} ended with {attempt.process.returncode}:\n{attempt.said()}")
        self.reference[place.name] = rows_of(place.layout(run_id))
        self.say(f"{place.name}: undisturbed in {took_s:.0f} s, {attempt.scored():,} images scored")
        if place.proxy:
            asked, parts = place.proxy.asked, len(place.layout(run_id).parts("scores"))
            self.say(f"{place.name}: asked for " + ", ".join(f"{count:,} {what}" for what, count in asked.items()))
            if asked["LIST"] > 50 + parts + 2 * took_s:
                raise BrokenPromiseError(f"{asked['LIST']} LISTs for {parts} parts in {took_s:.0f} s")

    def disturbed(self, place: Place, run_id: str, kinds: list[str]) -> list[str]:
        """One run with these faults, until it is committed; the faults that it was too quick for."""
        waiting = list(kinds)
        for number in range(1, 4 * len(kinds) + 4):
            with self.start(place, run_id) as attempt:
                while waiting and self.moment_comes(attempt):
                    kind, after = waiting[0], time.monotonic() - attempt.began
                    in_flight = self.in_flight(place, run_id, attempt)
                    if self.inflict(kind, place, attempt):
                        attempt.met.append((waiting.pop(0), round(after, 1)))
                        if kind == "lost node":
                            attempt.lost += max(in_flight, self.in_flight(place, run_id, attempt)) + _IN_HAND
                        attempt.lost += _IN_HAND * (kind in _OF_AN_ACTOR)
                        if kind in _LAST:
                            break
                attempt.waits_for(lambda: attempt.process.poll() is not None)
            code = attempt.process.returncode
            ended = "went on" if code == 0 else f"exit {code}"
            time.sleep(2)  # for the workers of a lost driver to go
            self.say(
                f"{run_id} attempt {number}: {', '.join(kind for kind, _ in attempt.met) or 'nothing'}: {ended}; "
                f"{self.check_work(place, run_id, attempt)}"
            )
            check_end(run_id, attempt)
            self.faults += [Fault(run_id, number, kind, after, ended) for kind, after in attempt.met]
            if code == 0:
                self.check(place, run_id)
                return waiting
        raise BrokenPromiseError(f"{run_id}: not committed after {number} attempts:\n{attempt.said()}")

    def moment_comes(self, attempt: Attempt) -> bool:
        """Wait for a random moment, mostly one while images are scored; whether the job still runs then."""
        if self.random.random() >= _ANY_TIME:
            before = attempt.scored()
            if not attempt.waits_for(lambda: attempt.scored() > before):
                return False
        return not attempt.ends_within(self.random.uniform(0, _SPREAD_S))

    @contextmanager
    def start(self, place: Place, run_id: str) -> Iterator[Attempt]:
        """The job, begun; it is ended at the end of the block, should it still run."""
        notes, log = self.folder / f"notes-{run_id}", self.folder / f"{run_id}.log"
        notes.mkdir(exist_ok=True)
        command = [sys.executable, str(HERE / "job.py"), str(notes), "--run-id", run_id, "--output", place.output]
        for uri in place.inputs:
            command += ["--input", uri]
        command += ["--model", str(self.folder / "small.safetensors"), "--actors", "2", "--top", "0"]
        command += ["--max-error-fraction", "0.5"]
        environment = clean_environment(**place.environment, RAY_ADDRESS=self.nodes.up())
        before = written(place, run_id)
        with log.open("ab") as out:
            log_from = out.tell()
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        attempt = Attempt(process, notes, log, log_from, scored_before=0, written_before=before)
        attempt.scored_before = attempt.scored()
        try:
            yield attempt
        finally:
            process.kill()
            process.wait()

    def inflict(self, kind: str, place: Place, attempt: Attempt) -> bool:
        """Whether the job felt it."""
        match kind:
            case "kill -9 driver":
                attempt.process.kill()
            case "SIGTERM driver":
                attempt.process.terminate()
            case "lost node":
                self.nodes.tell("lose")
            case "lost head":
                self.nodes.tell("behead")
            case "kill -9 model actor":
                return self.kill_one("MapWorker(MapBatches(Scorer))")
            case "stopped model actor":
                return self.kill_one("MapWorker(MapBatches(Scorer))", signal.SIGSTOP)
            case "kill -9 decoding worker":
                return self.kill_one("MapBatches(ReadAndDecode)")
            case "out of memory in the model":
                trap = attempt.notes / OUT_OF_MEMORY
                trap.touch()
                was_met = attempt.waits_for(lambda: not trap.exists())
                trap.unlink(missing_ok=True)
                return was_met
            case "full disk for output":
                assert place.disk
                before = attempt.scored()
                with filled(place.disk):
                    was_met = attempt.waits_for(lambda: attempt.scored() > before + _SOME_PARTS)
                    attempt.ends_within(self.random.uniform(2, 10))
                return was_met or "No space left" in attempt.said()
            case "full disk for spilling":
                assert place.spill
                before = attempt.scored()
                with filled(place.spill):
                    self.nodes.tell("hog")
                    attempt.ends_within(self.random.uniform(5, 20))
                    self.nodes.tell("free")
                return attempt.scored() > before or attempt.process.poll() is not None
            case "store: never answers":
                assert place.proxy
                met = place.proxy.met.total()
                place.proxy.begin("silence", 1.0)
                ended = attempt.ends_within(_SILENCE_S)
                place.proxy.end()
                if not ended:
                    raise BrokenPromiseError(f"still running after {_SILENCE_S:.0f} s without an answer from the store")
                return place.proxy.met.total() > met
            case _:
                assert place.proxy
                met = place.proxy.met.total()
                place.proxy.begin(STORE_KINDS[kind], self.random.uniform(0.05, 0.5))
                attempt.ends_within(self.random.uniform(2, STALL_S))
                place.proxy.end()
                return place.proxy.met.total() > met
        return True

    def kill_one(self, title: str, how: signal.Signals = signal.SIGKILL) -> bool:
        found = self.nodes.workers(title)
        if found:
            try:
                os.kill(self.random.choice(found), how)
            except ProcessLookupError:
                return False
        return bool(found)

    def in_flight(self, place: Place, run_id: str, attempt: Attempt) -> int:
        """Images that this attempt has scored and not yet written."""
        done, wrote = attempt.scored() - attempt.scored_before, written(place, run_id) - attempt.written_before
        return max(0, done - wrote)

    def check_work(self, place: Place, run_id: str, attempt: Attempt) -> str:
        """What is written is never scored again, and what is not, once, but for what was lost: what was done, in words.

        Raises:  BrokenPromiseError: more was scored.
        """
        left = len(self.reference[place.name]) - attempt.written_before  # with a few that are not scored, but bad
        done, wrote = attempt.scored() - attempt.scored_before, written(place, run_id) - attempt.written_before
        told = f"{left:,} images left, {done:,} scored, {wrote:,} written"
        if done > left + attempt.lost:
            raise BrokenPromiseError(f"{run_id}: {told}, after {attempt.met}; {attempt.lost} may have been lost")
        return told

    def check(self, place: Place, run_id: str) -> None:
        layout = place.layout(run_id)
        found, expected = rows_of(layout), self.reference[place.name]
        if found.keys() != expected.keys():
            raise BrokenPromiseError(f"{run_id}: {len(expected.keys() - found.keys())} images missing")
        for image, score in expected.items():
            other = found[image]
            if (score is None) != (other is None) or (score is not None and abs(score - (other or 0)) > 1e-5):
                raise BrokenPromiseError(f"{run_id}: {image} has {other}, undisturbed {score}")


def check_end(run_id: str, attempt: Attempt) -> None:
    """An attempt that did not commit says why in one line, and how to go on; a killed one cannot."""
    code, kinds, said = attempt.process.returncode, {kind for kind, _ in attempt.met}, attempt.said()
    lines = said.splitlines()
    if "Traceback (most recent call last)" in said:
        raise BrokenPromiseError(f"{run_id}: a traceback after {kinds}:\n{said[-4000:]}")
    is_right = {
        0: True,
        1: any(line.startswith("error: ") for line in lines) or ("lost head" in kinds and _HEAD_IS_AWAY in said),
        130: any(line.startswith("stopped") for line in lines),
        -signal.SIGKILL: "kill -9 driver" in kinds,
        -signal.SIGTERM: "SIGTERM driver" in kinds and not lines,  # before Python had read the job
    }
    if not is_right.get(code, False):
        raise BrokenPromiseError(f"{run_id}: exit code {code} after {kinds}:\n{said[-4000:]}")


def rows_of(layout: RunLayout) -> dict[str, float | None]:
    """Score of each image by its URI, None in quarantine, by a plain glob; and that this is what the record says.

    Raises:  BrokenPromiseError: files in the output that no record names, an image twice, or wrong counts.
    """
    record = layout.read_json(layout.commit_path)
    if record is None:
        raise BrokenPromiseError(f"{layout.run_id}: no committed record")
    named = named_by_records(layout.root)
    prefix = layout.root.path.rstrip("/") + "/"
    there = {str(path).removeprefix(prefix) for path in layout.root.fs.find(layout.root.path)}
    if named != there:
        raise BrokenPromiseError(f"{layout.run_id}: {sorted(there ^ named)} are not both there and in a record")
    rows: list[tuple[str, float | None]] = []
    for table in ("scores", "quarantine"):
        for path in layout.root.fs.find(layout.table_dir(table)):
            with layout.root.fs.open(path, "rb") as opened:
                part: pa.Table = pq.ParquetFile(opened).read()
            scores = part["pred_score"].to_pylist() if table == "scores" else [None] * len(part)
            rows += zip(part["image_uri"].to_pylist(), scores, strict=True)
    found = dict(rows)
    if len(found) != len(rows):
        raise BrokenPromiseError(f"{layout.run_id}: {len(rows) - len(found)} images twice")
    counts = record["counts"]
    bad = sum(score is None for score in found.values())
    if (counts["planned"], counts["scored"], counts["quarantined"]) != (len(found), len(found) - bad, bad):
        raise BrokenPromiseError(
            f"{layout.run_id}: {counts}, and {len(found) - bad} scores and {bad} bad images in the tables"
        )
    return found


def named_by_records(root: Root) -> set[str]:
    """All files that the committed runs of an output consist of, their records among them."""
    named = set()
    for path in root.fs.glob(root.join("runs", "*.json")):
        record = RunLayout(root, Path(path).stem).read_json(path)
        assert record
        named |= {f"runs/{Path(path).name}", *(file["path"] for file in record["files"])}
    return named


def written(place: Place, run_id: str) -> int:
    """Images in a run's parts, bad ones among them."""
    return rows_in_parts(path for paths in place.layout(run_id).all_parts().values() for path in paths)
