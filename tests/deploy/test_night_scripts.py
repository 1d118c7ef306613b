"""The night's scripts, with programs in place of the job, of Ray and of AWS that note how they are called."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKSTATION, AWS = ROOT / "deploy/workstation/night.sh", ROOT / "deploy/aws/night.sh"

# Notes its arguments, and ends with the next of the codes that are in a file for its first word.
_STUB = """#!{python}
import pathlib, sys, time
folder = pathlib.Path({folder!r})
words = [word for word in sys.argv[1:] if not word.startswith("--")]
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
plan = folder / pathlib.Path(words[0]).name
codes = plan.read_text().split() if plan.exists() else []
if codes:
    plan.write_text(" ".join(codes[1:]))
code = codes[0] if codes else "0"
{more}
sys.exit(int(code))
"""


class Programs:
    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("python", "ray"):
            stub = folder / name
            stub.write_text(_STUB.format(python=sys.executable, folder=str(folder), more=more))
            stub.chmod(0o755)

    def codes(self, program: str, *codes: int) -> None:
        """With what it ends, one call after the other; with 0 after that."""
        (self.folder / program).write_text(" ".join(map(str, codes)))

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "bin")


def environment(programs: Programs, **more: str) -> dict[str, str]:
    logs = programs.folder.parent / "logs"
    home = {"HOME": str(programs.folder.parent), "LOGS": str(logs), "PAUSE_S": "0"}
    return {**os.environ, **home, "PYTHON": str(programs.folder / "python"), "BIN": str(programs.folder), **more}


def night(programs: Programs, **more: str) -> subprocess.CompletedProcess[str]:
    given = environment(programs, INPUT="/data/line 3", OUTPUT="/data/out", **more)
    return subprocess.run([WORKSTATION], check=False, capture_output=True, text=True, env=given, timeout=60)


def log_of(programs: Programs) -> str:
    (log,) = (programs.folder.parent / "logs").glob("night-*.log")
    return log.read_text()


def names(calls: list[str]) -> list[str]:
    return [re.split(r"[ /.]", call.removeprefix("jobs/"))[0] for call in calls]


@pytest.mark.parametrize(
    ("ends", "calls", "code"),
    [
        ([0], ["score", "report"], 0),
        ([3], ["score", "report"], 3),  # committed: there is something to report
        ([2], ["score"], 2),  # another try would end in the same way
        ([130], ["score"], 130),
        ([1, 0], ["score", "score", "report"], 0),
        ([137, 3], ["score", "score", "report"], 3),
        ([1, 1, 1], ["score", "score", "score"], 1),
    ],
)
def test_what_each_exit_code_leads_to(programs: Programs, ends: list[int], calls: list[str], code: int) -> None:
    """As docs/operations.md has it: tried again where that may cure it, reported where there is a commit."""
    programs.codes("score.py", *ends)
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
    assert reported == "jobs/report.py --output /data/out"


def test_a_report_that_fails_does_not_undo_the_night(programs: Programs) -> None:
    programs.codes("report.py", 1)
    done = night(programs)
    assert done.returncode == 0
    assert "scored, but no report" in done.stderr


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
        tmp_path / "bin", more="import signal; signal.signal(15, lambda *_: sys.exit(130)); time.sleep(30)"
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
    assert names(programs.calls()) == ["score"]


# `ray job submit` says what the job ended with, and ends with 1; `ray dashboard` listens until it is ended.
_RAY = """
if words[0] == "dashboard":
    import socket
    with socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1]))):
        time.sleep(60)
if words[:2] == ["job", "submit"]:
    plan = folder / "submit"
    codes = plan.read_text().split() if plan.exists() else []
    if codes:
        plan.write_text(" ".join(codes[1:]))
        if codes[0] != "0":
            print(f"Status message: Job entrypoint command failed with exit code {codes[0]}, last available logs ...")
            sys.exit(1)
"""


@pytest.fixture
def aws(tmp_path: Path) -> Programs:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    return Programs(tmp_path / "bin", more=_RAY)


def aws_night(aws: Programs, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    given = environment(aws, PORT=port, CLUSTER="mine.yaml", **more)
    return subprocess.run([AWS, *arguments], check=False, capture_output=True, text=True, env=given, timeout=100)


def ray_calls(aws: Programs) -> list[str]:
    first = [" ".join(call.split()[:2]) for call in aws.calls()]
    return ["job submit" if call == "job submit" else call.split()[0] for call in first]


@pytest.mark.parametrize(
    ("ends", "submits", "code"), [([0], 1, 0), ([3], 1, 3), ([2], 1, 2), ([1, 0], 2, 0), ([1, 137, 1], 3, 1)]
)
def test_a_night_on_aws(aws: Programs, ends: list[int], submits: int, code: int) -> None:
    """Looked at, up, submitted as often as may help, down; the job's own exit code comes out, not Ray's."""
    aws.codes("submit", *ends)
    done = aws_night(aws, "--input", "s3://b/a", "--output", "s3://b/o")
    assert done.returncode == code, done.stderr + log_of(aws)
    calls = ray_calls(aws)
    assert calls[:2] == ["deploy/lint.py", "up"]
    assert calls.count("job submit") == submits
    assert calls[-1] == "down"
    (submit,) = {call for call in aws.calls() if call.startswith("job submit")}
    assert re.search(
        r"-- python jobs/score.py --run-id night-\S+ --incremental --top 0 --input s3://b/a --output", submit
    )


@pytest.mark.parametrize(("program", "code"), [("lint.py", 2), ("up", 1)])
def test_what_cannot_begin(aws: Programs, program: str, code: int) -> None:
    """A file with findings starts nothing; a cluster that came up in part is taken down."""
    aws.codes(program, 1)
    assert aws_night(aws).returncode == code
    assert ray_calls(aws) == (["deploy/lint.py"] if program == "lint.py" else ["deploy/lint.py", "up", "down"])


def test_without_a_token_nothing_is_started(aws: Programs) -> None:
    (aws.folder.parent / ".ray/auth_token").unlink()
    done = aws_night(aws)
    assert (done.returncode, ray_calls(aws)) == (2, ["deploy/lint.py"])
    assert "ray get-auth-token --generate" in done.stderr


def test_down_is_tried_again_and_told(aws: Programs) -> None:
    """What stays up costs."""
    aws.codes("down", 1, 0)
    assert aws_night(aws).returncode == 0
    assert ray_calls(aws).count("down") == 2
    aws.codes("down", 1, 1, 1)
    assert "ray down failed" in aws_night(aws).stderr
