"""Large JSON files, written piece by piece."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from pipeline.storage import open_root
from pipeline.whole_file import whole_text_file


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
    with whole_text_file(uri) as out:
        out.write("{")
        for name, value in head.items():
            out.write(f"{json.dumps(name)}: {as_json(value)},\n")
        for at, (name, items) in enumerate(lists.items()):
            out.write((",\n" if at else "") + f"{json.dumps(name)}: ")
            items.write_to(out)
        out.write("}\n")
    return open_root(uri).uri()


def write_list(uri: str, items: JsonList) -> str:
    with whole_text_file(uri) as out:
        items.write_to(out)
        out.write("\n")
    return open_root(uri).uri()


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
