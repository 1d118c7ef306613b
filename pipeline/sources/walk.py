"""The files under a folder or prefix, one by one; no list of all, and no folder left out in silence."""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterator

from fsspec.utils import glob_translate

from cops.errors import CopsError
from pipeline.errors import InputError
from pipeline.storage import Root
from pipeline.store_errors import describe, with_patience

Found = Iterator[tuple[str, int | None]]
MAGIC = "*?["


def walk_files(root: Root, *, max_depth: int | None = None, follow_links: bool = False) -> Found:
    """Every file under a folder or prefix as (path, bytes), folder by folder, names sorted.

    Folders that are symbolic links are not followed (a link may lead round in a circle or list a picture twice).
    A link that leads nowhere is a file of unknown size, which cannot be read.

    Raises:  InputError: a folder may not be listed.   StoreError: the store failed in every try.
    """
    if root.is_local:
        yield from _walk_local(root.path, max_depth, follow_links=follow_links)
    else:
        yield from _walk_store(root, [root.path], max_depth)


def walk_prefix(root: Root) -> Found:
    """The files of a store whose keys begin with a path that is no folder: `s3://bucket/2024-`."""
    folder = root.path.rpartition("/")[0]
    if root.is_local or not folder.strip("/") or root.uri().startswith("http"):
        return
    below = _listing(Root(root.fs, folder))
    files, folders = _split(below, folder, root.path)
    yield from files
    yield from _walk_store(root, folders, None)


def walk_glob(root: Root) -> tuple[Found, str]:
    """(the files that a pattern names, the folder that its fixed part names)."""
    parts = root.path.split("/")
    fixed = list(itertools.takewhile(lambda part: not any(char in part for char in MAGIC), parts))
    base = "/".join(fixed)
    depth = None if "**" in root.path else len(parts) - len(fixed)
    try:
        pattern = re.compile(glob_translate(root.path))
    except ValueError as exc:
        raise InputError(f"{root.uri()}: no pattern: {exc}") from exc
    if not root.is_local and not base.strip("/"):
        raise InputError(f"{root.uri()}: a pattern begins with the name of a bucket")
    # A pattern of fixed depth may lead through links: it cannot go round in a circle.
    found = walk_files(Root(root.fs, base or "/"), max_depth=depth, follow_links=depth is not None)
    return ((path, size) for path, size in found if pattern.match(path)), base


def _walk_local(root: str, max_depth: int | None, *, follow_links: bool) -> Found:
    levels = [iter(_scan(root))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif _is_folder(entry, follow_links=follow_links):
            if max_depth is None or len(levels) < max_depth:
                levels.append(iter(_scan(entry.path)))
        elif (size := _size(entry)) != _NO_FILE:
            yield entry.path, size


_NO_FILE = -1


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):  # removed since its parent was listed
        return []
    except OSError as exc:
        raise _not_listed(folder, exc.strerror or str(exc)) from exc


def _is_folder(entry: os.DirEntry[str], *, follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:  # a link into a folder that may not be read
        return False


def _size(entry: os.DirEntry[str]) -> int | None:
    """Bytes; None where only reading can say what is wrong with it; _NO_FILE for sockets, devices and what is gone."""
    try:
        info = entry.stat()
    except FileNotFoundError:
        return None if entry.is_symlink() else _NO_FILE
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else _NO_FILE


def _walk_store(root: Root, folders: list[str], max_depth: int | None) -> Found:
    left = [(folder, 1) for folder in reversed(folders)]
    while left:
        folder, depth = left.pop()
        files, below = _split(_listing(Root(root.fs, folder)), folder, "")
        yield from files
        if max_depth is None or depth < max_depth:
            left += [(name, depth + 1) for name in reversed(below)]


def _listing(folder: Root) -> list[tuple[str, int | None, bool]]:
    """(name, bytes, whether it is a folder) of all in one folder; nothing where it is gone."""
    try:
        found = with_patience(lambda: folder.fs.ls(folder.path, detail=True), folder.uri())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except CopsError:
        raise
    except Exception as exc:  # noqa: BLE001 -- each store's client has errors of its own, signatures in their texts
        raise _not_listed(folder.uri(), describe(exc)) from None
    entries = ((str(info["name"]), info.get("size"), info["type"] == "directory") for info in found)
    return sorted(entries, key=lambda entry: entry[0])


def _split(
    found: list[tuple[str, int | None, bool]], folder: str, prefix: str
) -> tuple[list[tuple[str, int | None]], list[str]]:
    """(files, folders) whose names begin with a prefix; keys that stand for the folder itself are left out."""
    own = folder.rstrip("/")
    names = [entry for entry in found if entry[0].startswith(prefix) and entry[0].rstrip("/") != own]
    return (
        [(name, size) for name, size, is_folder in names if not is_folder],
        [name.rstrip("/") for name, _, is_folder in names if is_folder],
    )


def _not_listed(folder: str, why: str) -> InputError:
    return InputError(
        f"{folder}: this folder cannot be listed: {why}. Grant access to it, or give the folders beside it as inputs"
    )
