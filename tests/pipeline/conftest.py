"""Places to write to: a run's layout on disk, a root in memory."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

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
