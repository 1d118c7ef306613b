"""A file that is there as a whole or not at all, however long it takes to write."""

from __future__ import annotations

import contextlib
import io
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fsspec.asyn import AsyncFileSystem

from pipeline.errors import InputError
from pipeline.storage import PUT_S, Root, open_root
from pipeline.store_errors import with_patience

_BYTES_IN_PUT_S = 25e6


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of an older one when all went well, and is not seen before.

    Raises:  InputError: it would be a folder.
    """
    root = open_root(uri)
    if not root.path.rpartition("/")[2] or uri.endswith("/"):
        raise InputError(f"{root.uri()}: expected the name of a file to write, got a folder")
    if root.is_local:
        with _beside(Path(root.path)) as out:
            yield out
    else:
        with tempfile.NamedTemporaryFile("wb") as out:
            yield out
            out.flush()
            _put(root, out.name)


@contextlib.contextmanager
def whole_text_file(uri: str) -> Iterator[IO[str]]:
    """The same for text: UTF-8, lines as they are; half characters, which names of files may hold, as backslashes."""
    with whole_file(uri) as out:
        text = io.TextIOWrapper(out, "utf-8", "backslashreplace", newline="")
        yield text
        text.detach()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[IO[bytes]]:
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, got a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("wb") as out:
            yield out
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _put(root: Root, local: str) -> None:
    wait_s = PUT_S * max(1.0, Path(local).stat().st_size / _BYTES_IN_PUT_S)
    options = {"timeout": wait_s} if isinstance(root.fs, AsyncFileSystem) else {}
    with_patience(lambda: root.fs.put_file(local, root.path, **options), root.uri())
