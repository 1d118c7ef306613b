"""What an `--input` is: images, WebDataset shards, Parquet shards or a manifest."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import get_args

import pyarrow as pa

from pipeline.config import DatasetName, Format
from pipeline.errors import InputError
from pipeline.sources.items import is_hidden, is_image
from pipeline.sources.manifest import csv_columns
from pipeline.sources.parquet import choose_image_column, image_columns, read_schema
from pipeline.sources.walk import MAGIC, walk_files, walk_glob, walk_prefix
from pipeline.storage import Root, open_root, redact
from pipeline.store_errors import describe, with_patience

MANIFEST_ENDINGS = (".parquet", ".csv", ".jsonl")
_ENDINGS = 50  # that are counted each by itself; some archives number their files by them
_PEEK = 1000  # files of a known kind looked at before a folder's kind is decided; the listing then goes on

Files = Iterable[tuple[str, int | None]]


@dataclass
class Source:
    """One input, its kind known. `files` is consumed once; `ignored` counts what it held beside its own kind."""

    root: Root
    format: Format
    files: Files
    base: str
    image_column: str | None = None
    schema: pa.Schema | None = None
    forced: bool = False
    take_all: bool = False  # images named outright, or by a glob, whatever their ending
    ignored: Counter[str] = field(default_factory=Counter)

    def own_files(self) -> Iterator[tuple[str, int | None]]:
        """The files of this kind, one by one; the others are counted by their ending.

        Raises:  InputError: a folder of images that holds shards too, found while listing.
        """
        for path, num_bytes in self.files:
            kind = file_format(path)
            if (
                self.take_all
                or kind == self.format
                or (self.format == "manifest" and path.lower().endswith(MANIFEST_ENDINGS))
            ):
                yield path, num_bytes
            elif not self.forced and {kind, self.format} == {"images", "webdataset"}:
                raise _mixed(self.root.uri())
            else:
                ending = PurePosixPath(path).suffix.lower() or "(no ending)"
                self.ignored[ending if ending in self.ignored or len(self.ignored) < _ENDINGS else "(others)"] += 1


def file_format(path: str) -> Format | None:
    """The kind that a file's name speaks of. A Parquet file may turn out to be a manifest."""
    if is_hidden(path):
        return None
    if is_image(path):
        return "images"
    name = path.lower()
    return "webdataset" if name.endswith(".tar") else "parquet" if name.endswith(".parquet") else None


def recognise(uri: str, *, forced: Format = "auto", image_column: str | None = None) -> Source:
    """Find what an input is.

    Raises:  InputError: nothing is there, nothing in it can be scored, or it is of two kinds at once.
    """
    root = open_root(uri)
    if forced in get_args(DatasetName):  # its own reader finds what it consists of
        return Source(root=root, format=forced, files=(), base=root.path, forced=True)
    try:
        files, base, named = with_patience(lambda: _find_files(root, uri), uri)
    except PermissionError as exc:
        raise InputError(f"{redact(uri)}: not allowed to read it: {describe(exc)}") from exc
    peeked = list(_peek(files))
    rest = itertools.chain(peeked, files)
    kind = forced if forced != "auto" else _decide(peeked, root, named=named)
    source = Source(
        root=root, format=kind, files=rest, base=base, forced=forced != "auto", take_all=named and forced == "images"
    )
    if kind in ("parquet", "manifest"):
        _look_inside(source, peeked, image_column, forced=forced)
    return source


def _csv_schema(source: Source, path: str) -> pa.Schema | None:
    """A CSV manifest's columns, all of them text; JSON lines have none to speak of."""
    names = csv_columns(source.root, path) if path.lower().endswith(".csv") else None
    return pa.schema([(name, pa.string()) for name in names]) if names else None


def _find_files(root: Root, uri: str) -> tuple[Iterator[tuple[str, int | None]], str, bool]:
    """(files, base folder, whether they were named by the user and not found in a folder)."""
    info = None  # `isfile` and `exists` take every failure of a store for a no
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        info = root.fs.info(root.path)
    if info and info["type"] == "file":
        return iter([(root.path, info.get("size"))]), root.path.rpartition("/")[0], True
    if info:
        return walk_files(root), root.path, False
    if any(char in root.path for char in MAGIC):
        found, base = walk_glob(root)
        return _some(found, f"{redact(uri)}: no file matches"), base, True
    _require_answer(root)
    found = _some(walk_prefix(root), f"{redact(uri)}: no such file, folder or prefix")
    return found, root.path.rpartition("/")[0], False


def _some(files: Iterator[tuple[str, int | None]], otherwise: str) -> Iterator[tuple[str, int | None]]:
    first = next(files, None)
    if first is None:
        raise InputError(otherwise)
    return itertools.chain([first], files)


def _require_answer(root: Root) -> None:
    """fsspec says that nothing is there whenever a store fails; asked outright, it says why.

    Raises:  PermissionError, StoreError.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
        with_patience(lambda: root.fs.info(root.path), root.uri())


def _peek(files: Iterator[tuple[str, int | None]]) -> Iterator[tuple[str, int | None]]:
    """Files up to and with the first _PEEK of a known kind."""
    known = 0
    for path, num_bytes in files:
        yield path, num_bytes
        known += file_format(path) is not None
        if known == _PEEK:
            return


def _decide(peeked: list[tuple[str, int | None]], root: Root, *, named: bool) -> Format:
    kinds = {file_format(path) for path, _ in peeked}
    if {"images", "webdataset"} <= kinds:
        raise _mixed(root.uri())
    for kind in ("images", "webdataset", "parquet"):
        if kind in kinds:
            return kind
    if named and any(path.lower().endswith(MANIFEST_ENDINGS) for path, _ in peeked):
        return "manifest"
    endings = Counter(PurePosixPath(path).suffix.lower() or "(no ending)" for path, _ in peeked)
    found = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5)) or "nothing"
    raise InputError(
        f"{root.uri()}: expected images (.jpg, .png, .tif, …), .tar shards, .parquet files or a manifest "
        f"named outright (.parquet, .csv, .jsonl); found {found}"
    )


def _mixed(uri: str) -> InputError:
    return InputError(f"{uri}: holds images and .tar shards; say which by --format images or --format webdataset")


def _look_inside(
    source: Source, peeked: list[tuple[str, int | None]], image_column: str | None, *, forced: Format
) -> None:
    """A Parquet file with image bytes is a shard, one with a `uri` column a manifest."""
    if not any(path.lower().endswith(".parquet") for path, _ in peeked):
        source.schema = _csv_schema(source, peeked[0][0]) if len(peeked) == 1 else None
        return
    readable = (read_schema(source.root, path) for path, _ in peeked if file_format(path) == "parquet")
    schema = next((schema for schema in readable if schema is not None), None)
    if schema is None:
        raise InputError(f"{source.root.uri()}: none of its .parquet files can be read")
    source.schema = schema
    if forced == "manifest" or (forced == "auto" and not image_columns(schema) and "uri" in schema.names):
        source.format = "manifest"
        return
    if not image_columns(schema):
        raise InputError(
            f"{source.root.uri()}: expected a column of image bytes, or a 'uri' column; it has {schema.names}"
        )
    source.image_column = choose_image_column(schema, source.root.uri(), image_column)
