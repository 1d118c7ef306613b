"""A manifest: one row per image, its `uri` and whatever else is known of it, as Parquet, CSV or JSON lines.

The way in for very large archives: nothing is listed, and rows stream through.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from cops.errors import CopsError
from pipeline.errors import InputError, StoreError
from pipeline.schema import Reason
from pipeline.sources.items import Bad, PlanItem, python_rows
from pipeline.storage import (
    IMAGE_PROTOCOLS,
    Root,
    filesystem_at,
    has_credentials,
    identifying_query,
    missing_package,
    public_uri,
    redact,
)
from pipeline.store_errors import FormatError, describe, is_refusal, is_transient, opened

_NAMES = {".parquet": "Parquet", ".csv": "CSV", ".jsonl": "JSON-lines"}

_HEADER_BLOCK = 2**16

Row = dict[str, Any] | Bad


def manifest_items(root: Root, path: str, *, wanted_fields: Sequence[str]) -> Iterator[PlanItem]:
    """One item per row; a row that names no image that may be read is an item with the reason.

    Relative URIs are relative to the manifest.

    Raises:  InputError: the manifest itself cannot be read, or has no `uri` column.   StoreError: the store failed.
    """
    manifest_uri = root.uri(path)
    kind = PurePosixPath(path).suffix.lower()
    try:
        yield from _opened_items(root, path, manifest_uri, kind, wanted_fields)
    except CopsError:
        raise
    except FormatError as exc:
        raise InputError(f"{manifest_uri}: expected a {_NAMES[kind]} manifest; {exc}") from exc
    except Exception as exc:  # noqa: BLE001 -- each store's client has errors of its own, signatures in their texts
        error = StoreError if is_transient(exc) or is_refusal(exc) else InputError
        raise error(f"{manifest_uri}: the manifest cannot be read: {describe(exc)}") from None


def csv_columns(root: Root, path: str) -> list[str]:
    """The columns of a CSV manifest; none where it cannot be read, which `manifest_items` then tells."""
    try:
        with root.fs.open(path, "rb", block_size=_HEADER_BLOCK) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="backslashreplace", newline="")
            return list(csv.DictReader(text).fieldnames or [])
    except Exception:  # noqa: BLE001 -- each store's client has errors of its own
        return []


def _opened_items(
    root: Root, path: str, manifest_uri: str, kind: str, wanted_fields: Sequence[str]
) -> Iterator[PlanItem]:
    with opened(root.fs, path) as file:
        if kind == ".parquet":
            rows = _parquet_rows(file, manifest_uri, wanted_fields)
        elif kind == ".csv":
            rows = _csv_rows(file, manifest_uri)
        else:
            rows = _json_rows(file)
        resolve = Resolver(root, path)
        for number, row in enumerate(rows):
            place = f"{manifest_uri}#{number}"
            yield PlanItem(image_uri=place, bad=row) if isinstance(row, Bad) else resolve.item(row, place)


_BY_HOST = ("abfs", "abfss", "az")  # the account stands in the URI, and the filesystem is its


class Resolver:
    """From a row's `uri` to the file that it names; relative ones are relative to the manifest at `path`."""

    def __init__(self, root: Root, path: str) -> None:
        self.root = root
        self.folder = path.rpartition("/")[0]
        self.filesystems: dict[str, Any] = {}

    def item(self, row: dict[str, Any], place: str) -> PlanItem:
        try:
            return self._item(row, place)
        except ImportError:
            message = missing_package(row["uri"])
        except ValueError as exc:
            message = describe(exc)
        return PlanItem(image_uri=redact(row["uri"]), unique=place, bad=Bad(reason=Reason.BAD_URI, message=message))

    def _item(self, row: dict[str, Any], place: str) -> PlanItem:
        uri = row.get("uri")
        if not isinstance(uri, str) or not uri.strip():
            is_blank = uri is None or (isinstance(uri, str) and not uri.strip())
            told = "the row has no uri" if is_blank else f"expected a uri as text, got {type(uri).__name__}"
            return PlanItem(image_uri=place, bad=Bad(reason=Reason.BAD_URI, message=told))
        protocol = uri.partition("://")[0] if "://" in uri else None
        if "::" in uri or (protocol and protocol not in IMAGE_PROTOCOLS) or has_credentials(uri):
            message = f"expected a path or a URI of {', '.join(sorted(IMAGE_PROTOCOLS))} without credentials"
            return PlanItem(image_uri=redact(uri), unique=place, bad=Bad(reason=Reason.BAD_URI, message=message))
        fs, path = self._place(uri, protocol)
        whole = public_uri(fs, path)
        public = redact(whole)
        return PlanItem(
            image_uri=public,
            path=path if fs is self.root.fs and self.root.is_local else uri if protocol else self._absolute(path),
            relative=public.partition("://")[2] or public.lstrip("/"),
            unique=identifying_query(uri) if public == whole else whole,
            num_bytes=_size(row.get("num_bytes")),
            fields=row,
        )

    def _place(self, uri: str, protocol: str | None) -> tuple[Any, str]:
        if protocol is None:
            return self.root.fs, posixpath.normpath(posixpath.join(self.folder, uri))
        place = uri[: len(uri) - len(uri.partition("://")[2].partition("/")[2])] if protocol in _BY_HOST else protocol
        if place not in self.filesystems:
            self.filesystems[place] = filesystem_at(uri)[0]
        fs = self.filesystems[place]
        path = fs._strip_protocol(uri)
        return fs, posixpath.normpath(path) if isinstance(fs, LocalFileSystem) else path

    def _absolute(self, path: str) -> str:
        return path if self.root.is_local else str(self.root.fs.unstrip_protocol(path))


def _size(value: Any) -> int | None:
    """A row's `num_bytes`, where it can be one."""
    is_size = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return value if is_size else None


def _parquet_rows(file: Any, uri: str, wanted_fields: Sequence[str]) -> Iterator[Row]:
    table = pq.ParquetFile(file)
    _check_columns(table.schema_arrow.names, uri)
    columns = [name for name in dict.fromkeys(("uri", "num_bytes", *wanted_fields)) if name in table.schema_arrow.names]
    for batch in table.iter_batches(batch_size=8192, columns=columns):
        yield from python_rows(batch)


def _csv_rows(file: Any, uri: str) -> Iterator[Row]:
    reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", errors="backslashreplace", newline=""))
    try:
        _check_columns(reader.fieldnames or [], uri)
    except csv.Error as exc:
        raise InputError(f"{uri}: expected a CSV manifest; {exc}") from exc
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:  # a field beyond the reader's limit: a quote that is never closed
            yield Bad(reason=Reason.BAD_MANIFEST_ROW, message=f"line {reader.line_num}: no CSV: {exc}")
            continue
        if None in row or None in row.values():
            yield Bad(reason=Reason.BAD_MANIFEST_ROW, message=f"line {reader.line_num}: not as many values as columns")
        else:
            yield {name: value or None for name, value in row.items()}


def _json_rows(file: Any) -> Iterator[Row]:
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig", errors="backslashreplace"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            yield Bad(reason=Reason.BAD_MANIFEST_ROW, message=f"line {number}: no JSON: {exc}")
            continue
        if isinstance(row, dict):
            yield row
        else:
            yield Bad(reason=Reason.BAD_MANIFEST_ROW, message=f"line {number}: expected an object with a uri")


def _check_columns(names: Sequence[str], uri: str) -> None:
    if "uri" not in names:
        raise InputError(f"{uri}: expected a manifest with a 'uri' column; it has {list(names)}")
