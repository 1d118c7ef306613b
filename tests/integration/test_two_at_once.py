"""Two runs under one id, started together: one of them does it, the other stops and says why."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from real_parts import Job, Store, clean_environment, score_command, upload, use
from run_making import leave_claim

import pipeline
from pipeline.claim import take_claim
from pipeline.errors import ClaimError
from pipeline.layout import RunLayout

REFUSALS = ("is being worked on by", "was claimed by another process at this very moment")


def start_together(arguments: list[str], environment: dict[str, str]) -> list[subprocess.CompletedProcess[str]]:
    """What two jobs with the same command said, the one that committed first."""
    jobs = [
        subprocess.Popen(
            score_command(*arguments), env=clean_environment(**environment), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        said = [job.communicate(timeout=280) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    done = [
        subprocess.CompletedProcess(job.args, job.returncode, *output) for job, output in zip(jobs, said, strict=True)
    ]
    return sorted(done, key=lambda one: one.returncode)


def check_two_at_once(source: str, output: str, environment: dict[str, str], job: Job) -> None:
    arguments = ["--input", source, "--output", output, "--run-id", "night"]
    winner, loser = start_together(arguments, environment)
    assert (winner.returncode, loser.returncode) == (0, 1), winner.stderr + loser.stderr
    assert "Run night is committed" in winner.stdout
    assert any(refusal in loser.stderr for refusal in REFUSALS), loser.stderr
    assert "Traceback" not in loser.stderr
    assert "nothing to do" in job(*arguments, **environment).stdout


def check_rows(output: str) -> None:
    run = pipeline.open_run(output)
    ids = run.scores.to_table(columns=["image_id"])["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == run.record["counts"]["planned"] == 160


def test_on_a_local_disk(many: Path, tmp_path: Path, job: Job) -> None:
    """A hard link is created once: one process works, the other names it; later the run is complete."""
    check_two_at_once(str(many), str(tmp_path), {}, job)
    check_rows(str(tmp_path))


@pytest.mark.debian
def test_on_s3(ceph: Store, many: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional PUT is taken once: the same, on a store that enforces it."""
    upload(ceph, many, "bucket/two-at-once")
    check_two_at_once("s3://bucket/two-at-once", "s3://bucket/two-out", ceph.environment, job)
    use(ceph, monkeypatch)
    check_rows("s3://bucket/two-out")


@pytest.mark.debian
@pytest.mark.parametrize("run_id", ["n1", "n2", "n3", "n4", "n5"])
def test_a_dead_runs_claim_is_taken_over_once_on_s3(ceph: Store, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that watched it at the same time: the store lets one have the next claim, and the other is told."""
    use(ceph, monkeypatch)
    layout = RunLayout.at("s3://bucket/taken-over", run_id)
    leave_claim(layout, silent_s=3600)
    together, taken, refused = threading.Barrier(2), [], []

    def take() -> None:
        together.wait()
        try:
            taken.append(take_claim(layout, watch_s=1))
        except ClaimError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.number for one in taken] == [2]
    assert refused == [f"run '{run_id}' was claimed by another process at this very moment"]
    taken[0].check()  # what lies in the store is the winner's
