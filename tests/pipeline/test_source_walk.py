"""Listing: every file once, and no folder left out in silence."""

import os
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import store_errors
from pipeline.errors import InputError, StoreError
from pipeline.sources import recognise, walk
from pipeline.sources.walk import walk_files
from pipeline.storage import Root, open_root


def found(folder: Path) -> list[tuple[str, int | None]]:
    return [(path.removeprefix(f"{folder}/"), size) for path, size in walk_files(open_root(str(folder)))]


def test_walk_is_sorted_and_follows_no_links(tmp_path: Path) -> None:
    """Every file with its size, folder by folder, names sorted; a link that leads round is not walked."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.png").write_bytes(b"22")
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "c.png").write_bytes(b"333")
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    (tmp_path / "d.png").symlink_to(tmp_path / "a.png")
    assert found(tmp_path) == [("a.png", 1), ("b/two.png", 2), ("c.png", 3), ("d.png", 1)]


def test_walk_in_a_store(memory_root: Any) -> None:
    """The same of an object store: every object once, with its size."""
    for name, data in (("b/two.png", b"22"), ("a.png", b"1"), ("b/c/three.png", b"333")):
        memory_root.fs.pipe_file(memory_root.join(name), data)
    assert dict(walk_files(memory_root)) == {
        memory_root.join("a.png"): 1,
        memory_root.join("b/two.png"): 2,
        memory_root.join("b/c/three.png"): 3,
    }


def test_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    """A dangling link and one to itself are files of unknown size, so that reading them says what is wrong."""
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert found(tmp_path) == [("gone.png", None), ("loop.png", None)]


def test_a_file_removed_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone between the listing of its folder and the look at its size: neither a crash nor an image."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    whole = walk._scan

    def scan(folder: str) -> list[os.DirEntry[str]]:
        entries = whole(folder)
        (tmp_path / "a.png").unlink()
        return entries

    monkeypatch.setattr(walk, "_scan", scan)
    assert found(tmp_path) == [("b.png", 1)]


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images would be missing: wrong use, with what to do about it."""
    (tmp_path / "locked").mkdir()
    whole = os.scandir

    def scandir(folder: str) -> Any:
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return whole(folder)

    monkeypatch.setattr(walk.os, "scandir", scandir)
    with pytest.raises(InputError, match=r"locked: this folder cannot be listed: Permission denied\. Grant access"):
        found(tmp_path)


def test_folders_in_folders_without_end(tmp_path: Path) -> None:
    """Deeper than Python's stack: the picture at the bottom is found."""
    folders = [str(tmp_path / "d")]
    while len(folders) < 1200:
        folders.append(folders[-1] + "/d")
    for folder in folders:
        os.mkdir(folder)  # noqa: PTH102 -- a Path of this depth is slow
    Path(folders[-1], "a.png").write_bytes(b"x")
    assert [size for _, size in found(tmp_path)] == [1]
    Path(folders[-1], "a.png").unlink()
    for folder in reversed(folders):
        os.rmdir(folder)  # noqa: PTH106


class Listing:
    """In place of a store's LIST: fails `failures` times in the folder `b`, then answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, failures: int = 10**6) -> None:
        self.asked, whole = 0, MemoryFileSystem.ls

        def ls(fs: MemoryFileSystem, path: str, detail: bool = True, **options: Any) -> Any:
            if path.endswith("/b"):
                self.asked += 1
                if self.asked <= failures:
                    raise error
            return whole(fs, path, detail=detail, **options)

        monkeypatch.setattr(MemoryFileSystem, "ls", ls)
        monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0, 0.0))


@pytest.fixture
def two_folders(memory_root: Root) -> Root:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        memory_root.fs.pipe_file(memory_root.join(name), b"x")
    return memory_root


@pytest.mark.parametrize("form", ["", "/*/*.png", "/**/*.png"])
def test_a_folder_that_a_store_does_not_list_stops_the_run(
    two_folders: Root, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """No image is lost because a LIST failed: asked again, then an error with the folder's name."""
    listing = Listing(monkeypatch, ConnectionError("reset"))
    with pytest.raises(StoreError, match="/b: the store failed in every try"):
        list(recognise(two_folders.uri() + form).files)
    assert listing.asked >= 4


def test_a_list_that_fails_once_loses_nothing(two_folders: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hiccup is no image's loss."""
    Listing(monkeypatch, OSError(16, "SlowDown"), failures=2)
    assert len(list(walk_files(two_folders))) == 3


def test_a_folder_of_a_store_that_may_not_be_listed_is_wrong_use(
    two_folders: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told with its name, at once."""
    listing = Listing(monkeypatch, PermissionError("AccessDenied"))
    with pytest.raises(InputError, match="/b: this folder cannot be listed"):
        list(walk_files(two_folders))
    assert listing.asked == 1
