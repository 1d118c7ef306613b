"""Places to write to: a run's layout on disk, a root in memory."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from reading import FlakyFileSystem

from pipeline import store_errors
from pipeline.layout import RunLayout
from pipeline.storage import Root, open_root, remove_tree


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout.at(str(tmp_path / "out"), "r1")


@pytest.fixture
def memory_root() -> Iterator[Root]:
    """A place of its own in fsspec's store in memory, which behaves like an object store."""
    root = open_root(f"memory://{secrets.token_hex(4)}")
    yield root
    remove_tree(root.fs, root.path)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[FlakyFileSystem]:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0, 0.0))
    FlakyFileSystem.store.clear()
    FlakyFileSystem.failures = FlakyFileSystem.asked = 0
    FlakyFileSystem().pipe_file("/a.jpg", b"aaa")
    FlakyFileSystem().pipe_file("/b.jpg", b"bbb")
    FlakyFileSystem.asked = 0
    return FlakyFileSystem
