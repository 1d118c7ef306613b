"""Large JSON files, written piece by piece, and there as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from fsspec.asyn import AsyncFileSystem

from pipeline.errors import InputError
from pipeline.storage import PUT_S, Root, open_root
from pipeline.store_errors import with_patience

_BYTES_IN_PUT_S = 25e6


class JsonList:
    """Values one after another in a temporary file, as the inside of a JSON list."""

    def __init__(self) -> None:
        self.file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self.count = 0

    def append(self, value: Mapping[str, Any]) -> None:
        self.file.write((",\n" if self.count else "\n") + as_json(value))
        self.count += 1

    def write_to(self, out: IO[str]) -> None:
        self.file.seek(0)
        out.write("[")
        shutil.copyfileobj(self.file, out)
        out.write("\n]")

    def close(self) -> None:
        self.file.close()


@contextlib.contextmanager
def json_lists(count: int) -> Iterator[list[JsonList]]:
    lists = [JsonList() for _ in range(count)]
    try:
        yield lists
    finally:
        for one in lists:
            one.close()


def write_document(uri: str, head: Mapping[str, Any], lists: Mapping[str, JsonList]) -> str:
    """A JSON object of small parts and long lists; how messages name it."""
    with whole_file(uri) as out:
        out.write("{")
        for name, value in head.items():
            out.write(f"{json.dumps(name)}: {as_json(value)},\n")
        for at, (name, items) in enumerate(lists.items()):
            out.write((",\n" if at else "") + f"{json.dumps(name)}: ")
            items.write_to(out)
        out.write("}\n")
    return open_root(uri).uri()


def write_list(uri: str, items: JsonList) -> str:
    with whole_file(uri) as out:
        items.write_to(out)
        out.write("\n")
    return open_root(uri).uri()


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[IO[str]]:
    """A text file to write to, which takes the place of an older one when all went well, and is not seen before.

    Raises:  InputError: it would be a folder.
    """
    root = open_root(uri)
    if not root.path.rpartition("/")[2] or uri.endswith("/"):
        raise InputError(f"{root.uri()}: expected the name of a file to write, got a folder")
    if root.is_local:
        with _beside(Path(root.path)) as out:
            yield out
    else:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="backslashreplace") as out:
            yield out
            out.flush()
            _put(root, out.name)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[IO[str]]:
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, got a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as out:
            yield out
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _put(root: Root, local: str) -> None:
    wait_s = PUT_S * max(1.0, Path(local).stat().st_size / _BYTES_IN_PUT_S)
    options = {"timeout": wait_s} if isinstance(root.fs, AsyncFileSystem) else {}
    with_patience(lambda: root.fs.put_file(local, root.path, **options), root.uri())


def as_json(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """A table's value in the types of JSON: dates and the like as text, what is no number as null."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def short(value: float | None) -> float | None:
    """A float32 of the tables as the shortest number that is it: 0.87, not 0.8700000047683716."""
    return None if value is None else float(str(np.float32(value)))
