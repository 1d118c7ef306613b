"""Where the chaos harness' runs read and write: a small disk, and an S3 server behind a proxy that makes trouble."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
from proxy import Proxy, Trouble
from real_parts import KEYS, ROOT, free_port, rclone_serving, store_at

from pipeline.layout import RunLayout
from pipeline.storage import Root

STORE_KINDS: dict[str, Trouble] = {
    "store: 500": "500",
    "store: 503 SlowDown": "503",
    "store: connection reset": "reset",
    "store: no answer": "stall",
    "store: half a body": "truncate",
    "store: never answers": "silence",
}
KINDS = (
    "kill -9 driver",
    "kill -9 model actor",
    "kill -9 decoding worker",
    "stopped model actor",
    "lost node",
    "lost head",
    "SIGTERM driver",
    "out of memory in the model",
    "full disk for output",
    "full disk for spilling",
    *STORE_KINDS,
)
SELDOM = ("lost head", "store: never answers")  # they take minutes
_BAD_EVERY = 97  # every so many files one is no picture
_DISK_BYTES = 64 * 2**20


@dataclass
class Place:
    """Where a run reads and writes."""

    name: str
    inputs: list[str]
    output: str
    environment: dict[str, str]
    kinds: tuple[str, ...]
    proxy: Proxy | None = None
    disk: Path | None = None
    spill: Path | None = None

    @property
    def prefix(self) -> str:
        return self.name.split()[0].lower()

    @property
    def options(self) -> dict[str, object]:
        """For fsspec in this process, straight to the store and past the proxy."""
        if self.proxy is None:
            return {}
        config = {"request_checksum_calculation": "when_required"}
        return {"key": KEYS[0], "secret": KEYS[1], "endpoint_url": self.proxy.store, "config_kwargs": config}

    def layout(self, run_id: str) -> RunLayout:
        fs, path = fsspec.core.url_to_fs(self.output, use_listings_cache=False, **self.options)
        return RunLayout(Root(fs, path), run_id)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No room on a disk for a while."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(2**16))
    try:
        yield
    finally:
        filler.unlink()


def make_archive(folder: Path, count: int) -> None:
    """Half of the pictures in a few shards, half as files, and here and there what is no picture."""
    make = [sys.executable, str(ROOT / "jobs/make_samples.py"), "--count", "24", "--size", "64", "--output"]
    subprocess.run([*make, str(folder / "made")], check=True, capture_output=True)
    pictures = sorted((folder / "made").rglob("*.*g"))
    files, shards = folder / "archive/files", folder / "archive/shards"
    files.mkdir(parents=True)
    shards.mkdir()
    for number in range(count // 2):
        data = b"no picture" if number % _BAD_EVERY == 0 else pictures[number % len(pictures)].read_bytes()
        (files / f"{number:05d}.jpg").write_bytes(data)
    for shard in range(4):
        with tarfile.open(shards / f"{shard}.tar", "w") as tar:
            for number in range(count // 8):
                tar.add(pictures[(shard + number) % len(pictures)], f"{number:05d}.jpg")
    shutil.rmtree(folder / "made")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of its own, where this process may mount one; else there is none to fill."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def kinds_of(*, disk: Path | None, spill: Path | None, is_store: bool) -> tuple[str, ...]:
    """What can go wrong in a place."""
    without = set() if is_store else set(STORE_KINDS)
    without |= {"full disk for output"} if disk is None else set()
    without |= {"full disk for spilling"} if spill is None else set()
    return tuple(kind for kind in KINDS if kind not in without)


@contextmanager
def local_place(folder: Path, spill: Path | None) -> Iterator[Place]:
    """A small disk for the tables."""
    inputs = [str(folder / "archive/files"), str(folder / "archive/shards")]
    with small_disk(folder / "disk") as disk:
        kinds = kinds_of(disk=disk, spill=spill, is_store=False)
        yield Place("local disk", inputs, str(folder / "disk/out"), {}, kinds, disk=disk, spill=spill)


@contextmanager
def s3_place(folder: Path, spill: Path | None, seed: int) -> Iterator[Place]:
    """An S3 server behind the proxy."""
    bucket = folder / "s3/bucket"
    bucket.mkdir(parents=True)
    shutil.copytree(folder / "archive", bucket / "archive")
    with rclone_serving(bucket.parent) as store, Proxy(free_port(), store.endpoint, seed=seed).running() as proxy:
        environment = store_at(proxy.port).environment
        inputs = ["s3://bucket/archive/files", "s3://bucket/archive/shards"]
        kinds = kinds_of(disk=None, spill=spill, is_store=True)
        yield Place("S3", inputs, "s3://bucket/out", environment, kinds, proxy=proxy, spill=spill)
