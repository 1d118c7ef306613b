"""Real parts: archives on disk, a local Ray in a process of its own, an S3 server on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_parts import ROOT, Job, Store, clean_environment, client, rclone_serving, score_command, store_at


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


@pytest.fixture(scope="session")
def many(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 files: enough that a run can be killed in its middle."""
    folder = tmp_path_factory.mktemp("many")
    pictures = sorted((archives / "images/images").rglob("*.*g"))
    for number in range(160):
        (folder / f"{number:03d}.jpg").write_bytes(pictures[number % len(pictures)].read_bytes())
    return folder


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """It ignores conditional writes, so it is for reading and writing alone."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with rclone_serving(folder) as store:
        yield store


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Ceph's S3 gateway, which enforces conditional writes."""
    if not shutil.which("radosgw"):
        pytest.fail("install ceph-mon ceph-osd radosgw ceph-common, or leave out the tests marked debian")
    folder = tmp_path_factory.mktemp("ceph")
    environment = {**os.environ, "D": str(folder)}
    subprocess.run(["bash", str(Path(__file__).with_name("start_ceph.sh"))], env=environment, check=True, timeout=200)
    store = store_at(48000)
    try:
        client(store).mkdir("bucket")
        yield store
    finally:
        for pid_file in (folder / "run").glob("*.pid"):
            subprocess.run(["kill", pid_file.read_text().strip()], check=False)
