"""The night's scripts on a workstation and in a pod, with programs in place of the jobs."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from night_stubs import ROOT, Programs, environment

WORKSTATION, AWS, KUBERAY = (ROOT / f"deploy/{name}/night.sh" for name in ("workstation", "aws", "kuberay"))


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "bin")


def night(programs: Programs, **more: str) -> subprocess.CompletedProcess[str]:
    given = environment(programs, INPUT="/data/line 3", OUTPUT="/data/out", **more)
    return subprocess.run([WORKSTATION], check=False, capture_output=True, text=True, env=given, timeout=60)


def names(calls: list[str]) -> list[str]:
    return [re.split(r"[ /.]", call.removeprefix("jobs/"))[0] for call in calls]


@pytest.mark.parametrize(
    ("ends", "calls", "code"),
    [
        ([0], ["score", "report"], 0),
        ([3], ["score", "report"], 3),  # committed: there is something to report
        ([2], ["score", "runs"], 2),  # another try would end in the same way
        ([130], ["score", "runs"], 130),
        ([1, 0], ["score", "score", "report"], 0),
        ([137, 3], ["score", "score", "report"], 3),
        ([1, 1, 1], ["score", "score", "score", "runs"], 1),
    ],
)
def test_what_each_exit_code_leads_to(programs: Programs, ends: list[int], calls: list[str], code: int) -> None:
    """As docs/operations.md has it: tried again where that may cure it, reported where there is a commit."""
    programs.plan("score.py", *ends)
    done = night(programs)
    assert (names(programs.calls()), done.returncode) == (calls, code), done.stderr
    scored = [call for call in programs.calls() if "score.py" in call]
    assert len(set(scored)) == 1  # the same run again
    assert (done.stderr == "") == (code == 0 and len(ends) == 1)  # cron sends mail where something is said


def test_what_it_calls(programs: Programs) -> None:
    """Names with spaces stay whole; thresholds where there are some; more options as given."""
    night(programs, THRESHOLDS="s3://b/t.parquet", SCORE_ARGS="--path-fields {line}/{name} --batch-size 8")
    scored, reported = programs.calls()
    assert re.fullmatch(
        r"jobs/score.py --input /data/line 3 --output /data/out --run-id night-\d{4}-\d\d-\d\d --incremental "
        r"--thresholds s3://b/t.parquet --path-fields \{line\}/\{name\} --batch-size 8",
        scored,
    )
    (run_id,) = re.findall(r"--run-id (\S+)", scored)
    assert reported == f"jobs/report.py --output /data/out --run-id {run_id}"  # of this night, whatever came after it


def test_a_committed_night_is_reported_whatever_the_code(programs: Programs) -> None:
    """A catalog that does not take it is a failure, tried again; what is committed is reported all the same."""
    programs.plan("score.py", 1, 1, 1)
    programs.plan("state", "committed")
    done = night(programs)
    assert (names(programs.calls()), done.returncode) == (["score", "score", "score", "runs", "report"], 1)


@pytest.mark.parametrize(("scored", "code"), [(0, 4), (3, 3)])
def test_a_report_that_fails_is_heard_of(programs: Programs, scored: int, code: int) -> None:
    """A night that is good but for its report ends with a code of its own; a worse one says more."""
    programs.plan("score.py", scored)
    programs.plan("report.py", 1)
    done = night(programs)
    assert done.returncode == code
    assert f"ended with {code}" in done.stderr
    assert "is committed, and there is no report on it" in done.stderr


@pytest.mark.parametrize(("scored", "reported", "code"), [(0, 0, 0), (3, 0, 3), (0, 1, 4), (1, 0, 1)])
def test_a_night_in_a_pod(programs: Programs, scored: int, reported: int, code: int) -> None:
    """One try, for KubeRay makes the others; then the report."""
    programs.plan("score.py", scored)
    programs.plan("report.py", reported)
    given = environment(programs) | {"PATH": f"{programs.folder}:/usr/bin:/bin"}
    del given["PYTHON"]
    command = ["bash", KUBERAY, "night-2026-11-23", "s3://b/o", "--input", "s3://b/a"]
    assert subprocess.run(command, check=False, capture_output=True, env=given, timeout=60).returncode == code
    score, then = programs.calls()
    assert score == "jobs/score.py --run-id night-2026-11-23 --incremental --output s3://b/o --input s3://b/a"
    assert then.startswith(
        "jobs/runs.py show night-" if scored == 1 else "jobs/report.py --output s3://b/o --run-id night-"
    )


def test_one_night_at_a_time(programs: Programs) -> None:
    """The other one's lock is the kernel's: it is gone when that process is, however it ended."""
    logs = programs.folder.parent / "logs"
    logs.mkdir()
    with (logs / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = night(programs)
        assert (done.returncode, programs.calls()) == (75, [])
        assert "another night still goes on" in done.stderr
    assert night(programs).returncode == 0


def test_what_is_not_said_is_asked_for(programs: Programs) -> None:
    given = environment(programs, INPUT="x")
    given.pop("OUTPUT", None)
    done = subprocess.run([WORKSTATION], check=False, capture_output=True, text=True, env=given, timeout=60)
    assert done.returncode not in (0, 75)
    assert "OUTPUT: expected the root of the tables" in done.stderr
    assert programs.calls() == []


@pytest.mark.parametrize("script", [WORKSTATION, AWS])
def test_without_an_environment_nothing_is_tried(script: Path, programs: Programs) -> None:
    """Not three times, with pauses: told at once how to make it."""
    given = environment(programs, INPUT="x", OUTPUT="y", PYTHON="/no/python", BIN="/no")
    done = subprocess.run([script], check=False, capture_output=True, text=True, env=given, timeout=60)
    assert (done.returncode, programs.calls()) == (2, [])
    assert "make setup" in done.stderr


def test_a_stop_reaches_the_job(tmp_path: Path) -> None:
    """`systemctl stop` sends SIGTERM to the script alone: the job hears of it, and no other try is made."""
    programs = Programs(
        tmp_path / "bin",
        more="import signal; signal.signal(15, lambda *_: sys.exit(130)); time.sleep(30 * (name == 'score.py'))",
    )
    given = environment(programs, INPUT="x", OUTPUT="y")
    script = subprocess.Popen([WORKSTATION], env=given, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not programs.calls() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    script.send_signal(signal.SIGTERM)
    assert script.wait(20) == 130
    assert script.stderr
    script.stderr.close()
    assert names(programs.calls()) == ["score", "runs"]
