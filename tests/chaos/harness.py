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
from collections.abc import Callable
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

ATTEMPT_S = 600.0
"""An attempt that has not ended by then hangs: past Ray's and the store's own patience."""
_SILENCE_S = 420.0  # docs/operations.md promises an end by then
_ANY_TIME = 0.3  # of the faults come while a run starts, plans or commits as well as while it scores
_SPREAD_S = 8.0
_LAST = {"kill -9 driver", "SIGTERM driver", "lost head", "store: never answers"}  # of an attempt
_SLACK = 256  # images: what actors had in hand when a fault was counted


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
        self.nodes.up()
        began = time.monotonic()
        process, notes = self.start(place, run_id)
        code = process.wait(ATTEMPT_S)
        if code != 0:
            raise BrokenPromiseError(f"{run_id} ended with {code}:\n{self.log_of(run_id)}")
        took_s = time.monotonic() - began
        layout = place.layout(run_id)
        self.reference[place.name] = rows_of(layout)
        self.say(f"{place.name}: undisturbed in {took_s:.0f} s, {scored(notes):,} images scored")
        if place.proxy:
            asked = place.proxy.asked
            self.say(f"{place.name}: asked for " + ", ".join(f"{count:,} {what}" for what, count in asked.items()))
            if asked["LIST"] > len(self.reference[place.name]) / 4:
                raise BrokenPromiseError(f"{asked['LIST']} LISTs for {len(self.reference[place.name])} images")

    def disturbed(self, place: Place, run_id: str, kinds: list[str]) -> list[str]:
        """One run with these faults, until it is committed; the faults that it was too quick for."""
        waiting, lost = list(kinds), 0
        for attempt in range(1, 4 * len(kinds) + 4):
            process, notes = self.start(place, run_id)
            met: list[tuple[str, float]] = []
            began = time.monotonic()
            while waiting and self.moment_comes(process, notes):
                kind = waiting[0]
                if self.inflict(kind, place, process, notes):
                    waiting.pop(0)
                    met.append((kind, time.monotonic() - began))
                    lost = max(lost, scored(notes) - written(place, run_id))
                    if kind in _LAST:
                        break
            try:
                code = process.wait(ATTEMPT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise BrokenPromiseError(
                    f"{run_id}: attempt {attempt} hangs after {met}:\n{self.log_of(run_id)}"
                ) from None
            ended = "went on" if code == 0 else f"exit {code}"
            self.faults += [Fault(run_id, attempt, kind, round(after, 1), ended) for kind, after in met]
            self.say(f"{run_id} attempt {attempt}: {', '.join(kind for kind, _ in met) or 'nothing'}: {ended}")
            self.check_end(run_id, code, met)
            if code == 0:
                self.check(place, run_id, scored(notes), lost)
                return waiting
            time.sleep(2)  # for the workers of a lost driver to go
            lost = max(lost, scored(notes) - written(place, run_id))
        raise BrokenPromiseError(f"{run_id}: not committed after {attempt} attempts:\n{self.log_of(run_id)}")

    def moment_comes(self, process: subprocess.Popen[bytes], notes: Path) -> bool:
        """Wait for a random moment, mostly one while images are scored; whether the process still runs then."""
        if self.random.random() < _ANY_TIME:
            return not ends_within(process, self.random.uniform(0, _SPREAD_S))
        before = scored(notes)
        while scored(notes) == before:
            if ends_within(process, 0.1):
                return False
        return not ends_within(process, self.random.uniform(0, _SPREAD_S))

    def start(self, place: Place, run_id: str) -> tuple[subprocess.Popen[bytes], Path]:
        notes = self.folder / f"notes-{run_id}"
        notes.mkdir(exist_ok=True)
        command = [sys.executable, str(HERE / "job.py"), str(notes), "--run-id", run_id, "--output", place.output]
        for uri in place.inputs:
            command += ["--input", uri]
        command += ["--model", str(self.folder / "small.safetensors"), "--actors", "2", "--top", "0"]
        command += ["--max-error-fraction", "0.5"]
        environment = clean_environment(**place.environment, RAY_ADDRESS=self.nodes.up())
        with (self.folder / f"{run_id}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log), notes

    def log_of(self, run_id: str) -> str:
        return (self.folder / f"{run_id}.log").read_text(errors="replace")[-4000:]

    def inflict(self, kind: str, place: Place, driver: subprocess.Popen[bytes], notes: Path) -> bool:
        """Whether there was something to do it to."""
        match kind:
            case "kill -9 driver":
                driver.kill()
            case "SIGTERM driver":
                driver.terminate()
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
                (notes / OUT_OF_MEMORY).touch()
            case "full disk for output":
                assert place.disk
                with filled(place.disk):
                    ends_within(driver, self.random.uniform(2, 10))
            case "full disk for spilling":
                assert place.spill
                with filled(place.spill):
                    self.nodes.tell("hog")
                    ends_within(driver, self.random.uniform(5, 20))
                    self.nodes.tell("free")
            case "store: never answers":
                assert place.proxy
                place.proxy.begin("silence", 1.0)
                ended = ends_within(driver, _SILENCE_S)
                place.proxy.end()
                if not ended:
                    raise BrokenPromiseError(f"still running after {_SILENCE_S:.0f} s without an answer from the store")
            case _:
                assert place.proxy
                before = place.proxy.met.total()
                place.proxy.begin(STORE_KINDS[kind], self.random.uniform(0.05, 0.5))
                ends_within(driver, self.random.uniform(2, STALL_S))
                place.proxy.end()
                return place.proxy.met.total() > before
        return True

    def kill_one(self, title: str, how: signal.Signals = signal.SIGKILL) -> bool:
        found = self.nodes.workers(title)
        if found:
            try:
                os.kill(self.random.choice(found), how)
            except ProcessLookupError:
                return False
        return bool(found)

    def check_end(self, run_id: str, code: int, met: list[tuple[str, float]]) -> None:
        """An attempt that did not commit says why in one line, and how to go on; a killed one cannot."""
        if code in (0, -signal.SIGKILL):
            return
        said = self.log_of(run_id)
        if "Traceback (most recent call last)" in said:
            raise BrokenPromiseError(f"{run_id}: a traceback after {met}:\n{said}")
        if code not in (1, 130, -signal.SIGTERM):  # the last where Python had not yet read the job
            raise BrokenPromiseError(f"{run_id}: exit code {code} after {met}:\n{said}")

    def check(self, place: Place, run_id: str, scored_in_all: int, lost: int) -> None:
        layout = place.layout(run_id)
        found, expected = rows_of(layout), self.reference[place.name]
        if found.keys() != expected.keys():
            raise BrokenPromiseError(f"{run_id}: {len(expected.keys() - found.keys())} images missing")
        for image, score in expected.items():
            other = found[image]
            if (score is None) != (other is None) or (score is not None and abs(score - (other or 0)) > 1e-5):
                raise BrokenPromiseError(f"{run_id}: {image} has {other}, undisturbed {score}")
        planned = len(expected) - sum(score is None for score in expected.values())
        if scored_in_all > planned + lost + _SLACK:
            raise BrokenPromiseError(
                f"{run_id}: {scored_in_all} images scored; {planned} planned, {lost} lost in flight"
            )


def rows_of(layout: RunLayout) -> dict[str, float | None]:
    """Score of each image by its URI, None in quarantine, by a plain glob; and that this is what the record says.

    Raises:  BrokenPromiseError: files that the record does not name, an image twice, or wrong counts.
    """
    record = layout.read_json(layout.commit_path)
    if record is None:
        raise BrokenPromiseError(f"{layout.run_id}: no committed record")
    prefix = layout.root.path.rstrip("/") + "/"
    named = sorted(file["path"] for file in record["files"])
    there = sorted(
        str(path).removeprefix(prefix)
        for table in ("scores", "quarantine")
        for path in layout.root.fs.find(layout.table_dir(table))
    )
    if named != there:
        raise BrokenPromiseError(
            f"{layout.run_id}: files {sorted(set(there) ^ set(named))} are not both there and in the record"
        )
    rows: list[tuple[str, float | None]] = []
    for path in there:
        with layout.root.fs.open(prefix + path, "rb") as opened:
            table: pa.Table = pq.ParquetFile(opened).read()
        scores = table["pred_score"].to_pylist() if "pred_score" in table.column_names else [None] * len(table)
        rows += zip(table["image_uri"].to_pylist(), scores, strict=True)
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


def scored(notes: Path) -> int:
    return sum(int(line) for path in notes.glob("scored-*") for line in path.read_text().splitlines() if line)


def written(place: Place, run_id: str) -> int:
    layout = place.layout(run_id)
    return rows_in_parts(path for paths in layout.all_parts().values() for path in paths)


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True
