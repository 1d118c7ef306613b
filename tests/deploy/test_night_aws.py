"""deploy/aws/night.sh, with programs in place of Ray and of AWS: what becomes of a night hangs on the job alone."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest
from night_stubs import ROOT, Programs, environment, log_of

SCRIPT = ROOT / "deploy/aws/night.sh"
WHERE = ("--input", "s3://b/a", "--output", "s3://b/o")

# As Ray's own programs do: `dashboard` listens until it is ended; `job status` says of a job what is planned, and ends
# with 0 for one that failed; BROKEN is a tunnel that is gone.
_RAY = """
if words[0] == "dashboard":
    import socket
    with socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1]))):
        time.sleep(60)
if words[:2] == ["job", "submit"]:
    sys.exit(int(planned("submit", "0")))
if words[:2] == ["job", "status"]:
    job, (state, *more) = sys.argv[-1], planned("status", "SUCCEEDED").split()
    if state == "BROKEN":
        sys.exit("ConnectionError: Failed to connect to Ray at address: http://127.0.0.1.")
    if state == "UNKNOWN":
        sys.exit(f"RuntimeError: Request failed with status code 404: Job {job} does not exist.")
    if state == "SUCCEEDED":
        print(f"Job '{job}' succeeded")
    elif state == "STOPPED":
        print(f"Job '{job}' was stopped")
    elif state == "FAILED":
        print(f"Job '{job}' failed")
        print(f"Status message: Job entrypoint command failed with exit code {more[0]}, last available logs:")
        print("2026-11-23 a helper failed with exit code 77")
    else:
        print(f"Status for job '{job}': {state}")
"""


@pytest.fixture
def aws(tmp_path: Path) -> Programs:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    return Programs(tmp_path / "bin", more=_RAY)


def night(aws: Programs, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    given = environment(aws, PORT=port, CLUSTER="mine.yaml", **more)
    arguments = arguments or WHERE
    return subprocess.run([SCRIPT, *arguments], check=False, capture_output=True, text=True, env=given, timeout=100)


def ray_calls(aws: Programs) -> list[str]:
    """In order; a job's log is looked at beside all others."""
    first = [" ".join(call.split()[: 2 if call.startswith("job ") else 1]) for call in aws.calls()]
    return [call for call in first if call != "job logs"]


@pytest.mark.parametrize(
    ("ends", "submits", "code"),
    [
        (["SUCCEEDED"], 1, 0),
        (["FAILED 3"], 1, 3),
        (["FAILED 2"], 1, 2),
        (["FAILED 1", "SUCCEEDED"], 2, 0),
        (["FAILED 1", "FAILED 137", "FAILED 1"], 3, 1),
        (["STOPPED"], 1, 130),  # by a person: no other try, and no good night
    ],
)
def test_a_night(aws: Programs, ends: list[str], submits: int, code: int) -> None:
    """Looked at, up, submitted as often as may help, down; the job's own exit code comes out, not Ray's."""
    aws.plan("status", *(state for end in ends for state in ("PENDING", "RUNNING", end)))
    done = night(aws)
    assert done.returncode == code, done.stderr + log_of(aws)
    calls = ray_calls(aws)
    assert calls[:2] == ["deploy/lint.py", "up"]
    assert calls.count("job submit") == submits
    assert calls.count("job status") == 3 * len(ends)
    assert calls[-2:] == ["down", "jobs/report.py" if code in {0, 3} else "jobs/runs.py"]
    jobs = [call for call in aws.calls() if call.startswith("job submit")]
    for number, job in enumerate(jobs, 1):
        assert re.search(
            rf" --submission-id night-\S+-{number} --no-wait .*-- python jobs/score.py --run-id night-", job
        )
        assert job.endswith(f"--incremental --top 0 {' '.join(WHERE)}")
    assert len({call.partition(" -- ")[2] for call in jobs}) == 1  # the same run again


def test_a_way_that_breaks_breaks_no_night(aws: Programs) -> None:
    """The job runs on: it is found again by a new way, and no second one meets its claim."""
    aws.plan("status", "RUNNING", "BROKEN", "BROKEN", "RUNNING", "RUNNING", "SUCCEEDED")
    done = night(aws)
    assert (done.returncode, done.stderr) == (0, ""), log_of(aws)
    calls = ray_calls(aws)
    assert (calls.count("job submit"), calls.count("dashboard")) == (1, 3)
    assert calls[-2:] == ["down", "jobs/report.py"]


def test_a_submit_whose_answer_is_lost_is_no_second_job(aws: Programs) -> None:
    """Whether it arrived, the head is asked; where it did not, it is tried again."""
    aws.plan("submit", 1, 0)
    aws.plan("status", "RUNNING", "SUCCEEDED")
    assert night(aws).returncode == 0
    assert ray_calls(aws).count("job submit") == 1
    aws.plan("submit", 1, 0)
    aws.plan("status", "UNKNOWN", "SUCCEEDED")
    assert night(aws).returncode == 0
    assert ray_calls(aws).count("job submit") == 1 + 2


def test_a_head_that_is_gone_is_given_up(aws: Programs) -> None:
    """After some patience, told, and the cluster is taken down; a second job would only meet the first one's claim."""
    aws.plan("status", "RUNNING", *["BROKEN"] * 1000)
    done = night(aws, PATIENCE_S="1")
    assert done.returncode == 1
    assert "the head has not answered for 1 s" in done.stderr
    calls = ray_calls(aws)
    assert (calls.count("job submit"), calls[-2:]) == (1, ["down", "jobs/runs.py"])


@pytest.mark.parametrize("state", ["committed", "stopped"])
def test_what_is_committed_is_reported(aws: Programs, state: str) -> None:
    """From the launcher, when the cluster is down; though a catalog did not take it."""
    aws.plan("status", *["FAILED 1"] * 3)
    aws.plan("state", state)
    assert night(aws).returncode == 1
    reports = [call for call in aws.calls() if call.startswith("jobs/report.py")]
    assert len(reports) == (state == "committed")
    assert all(re.fullmatch(r"jobs/report.py --output s3://b/o --run-id night-\S+", call) for call in reports)


def test_a_night_without_its_report_is_told(aws: Programs) -> None:
    """By a code of its own."""
    aws.plan("report.py", 1)
    done = night(aws, "--output=s3://b/o")
    assert (done.returncode, ray_calls(aws)[-1]) == (4, "jobs/report.py")
    assert "ended with 4" in done.stderr
    assert "there is no report on it" in log_of(aws)


@pytest.mark.parametrize(("program", "code"), [("lint.py", 2), ("up", 1)])
def test_what_cannot_begin(aws: Programs, program: str, code: int) -> None:
    """A file with findings starts nothing; a cluster that came up in part is taken down."""
    aws.plan(program, 1)
    assert night(aws).returncode == code
    assert ray_calls(aws) == (["deploy/lint.py"] if program == "lint.py" else ["deploy/lint.py", "up", "down"])


def test_without_a_token_or_an_output_nothing_is_started(aws: Programs) -> None:
    done = night(aws, "--input", "s3://b/a")
    assert (done.returncode, ray_calls(aws)) == (2, [])
    assert "expected --output" in done.stderr
    (aws.folder.parent / ".ray/auth_token").unlink()
    done = night(aws)
    assert (done.returncode, ray_calls(aws)) == (2, ["deploy/lint.py"])
    assert "ray get-auth-token --generate" in done.stderr


def test_down_is_tried_again_and_told(aws: Programs) -> None:
    """What stays up costs."""
    aws.plan("down", 1, 0)
    assert night(aws).returncode == 0
    assert ray_calls(aws).count("down") == 2
    aws.plan("down", 1, 1, 1)
    assert "ray down failed" in night(aws).stderr
