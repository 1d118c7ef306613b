"""Writes a sample archive as a folder, WebDataset shards, Parquet files or a folder with a manifest."""

import json
import os
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.samples.broken_shards import Finding, broken_parquet, broken_rows, broken_tars
from pipeline.samples.hostile import entries
from pipeline.samples.plan import Entry, Settings
from pipeline.samples.records import (
    LABEL_SCHEMA,
    MANIFEST_SCHEMA,
    SHARD_SCHEMA,
    Row,
    add_files,
    as_csv,
    as_json_lines,
    image_path,
    label_row,
    manifest_row,
    mask_path,
    members,
    shard_row,
)
from pipeline.samples.store import Store

RECORD = "archive.json"  # says what the folder holds, and whether all of it
VERSION = 2  # to be raised when the same settings come to draw other pictures
_ROW_GROUP = 64  # images; small, so that a reader of one group holds little
_A_CORES_WORTH = 1000  # pictures that are worth a process of their own


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a worker wrote: rows for the tables, hostile entries, sizes."""

    labels: list[Row]
    manifest: list[Row]
    findings: list[Finding]
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an archive holds, in numbers."""

    output: str
    pictures: int
    anomalous: int
    hostile: int
    by_category: dict[str, int]
    num_bytes: int
    seconds: float
    complete_before: bool = False


def write_archive(settings: Settings) -> Summary:
    """The archive written, unless it is there already.

    Raises:  InputError: the output is not empty and not the beginning of this very archive.
    """
    started = time.monotonic()
    store = Store(settings.output)
    before = _claim(settings, store)
    if before is not None:
        return before
    parts = list(_write_parts(settings))
    findings = [finding for part in parts for finding in part.findings]
    findings += _write_tables(settings, store, parts)
    if findings:
        store.put("hostile.json", _pretty([finding.row() for finding in findings]))
    labels = [row for part in parts for row in part.labels]
    summary = Summary(
        output=store.uri(""),
        pictures=len(labels),
        anomalous=sum(row["label"] for row in labels),
        hostile=len(findings),
        by_category=dict(sorted(Counter(row["category"] for row in labels).items())),
        num_bytes=sum(part.num_bytes for part in parts),
        seconds=round(time.monotonic() - started, 3),
    )
    store.put(RECORD, _pretty({"settings": _identity(settings), "summary": asdict(summary)}))
    return summary


def _pretty(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _identity(settings: Settings) -> Row:
    """The settings that change what is written."""
    own = asdict(settings) | {"categories": list(settings.category_names), "version": VERSION}
    return {name: value for name, value in own.items() if name not in {"workers", "output"}}


def _claim(settings: Settings, store: Store) -> Summary | None:
    """Marks the output as this archive's; the earlier summary where it is complete already."""
    data = store.get(RECORD)
    if data is None:
        if not store.is_empty():
            raise InputError(f"{settings.output} is not empty and holds no sample archive: choose another output")
        store.put(RECORD, _pretty({"settings": _identity(settings), "summary": None}))
        return None
    there = json.loads(data)
    if there["settings"] != _identity(settings):
        raise InputError(f"{settings.output} holds a sample archive of other settings: choose another output")
    return Summary(**there["summary"] | {"complete_before": True}) if there["summary"] else None


def _write_parts(settings: Settings) -> Iterator[Part]:
    """All parts in order, by one process or by several; a part is a function of settings and number alone."""
    wanted = settings.workers or min(os.cpu_count() or 1, settings.count // _A_CORES_WORTH)
    write = partial(_write_part, settings)
    if min(wanted, settings.parts) <= 1:
        yield from map(write, range(settings.parts))
        return
    # Object-store clients do not survive a fork, hence fresh processes.
    with ProcessPoolExecutor(min(wanted, settings.parts), mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, range(settings.parts))


def _write_part(settings: Settings, number: int) -> Part:
    cv2.setNumThreads(1)  # the processes share the cores already
    store = Store(settings.output)
    items = entries(settings, number)
    if settings.format == "webdataset":
        return _write_tar(settings, store, number, items)
    if settings.format == "parquet":
        return _write_parquet(settings, store, number, items)
    return _write_files(settings, store, items)


class _Tally:
    """Gathers what a worker reports while entries pass through."""

    def __init__(self, settings: Settings, store: Store, *, shard: str | None = None) -> None:
        self._settings, self._store, self._shard = settings, store, shard
        self.part = Part(labels=[], manifest=[], findings=[], num_bytes=0)
        self._bytes = 0

    def passing(self, items: Iterator[Entry]) -> Iterator[Entry]:
        for item in items:
            self._bytes += len(item.image_bytes)
            if item.hostility:
                name = item.name if self._shard else image_path(item)
                self.part.findings.append(Finding(name=name, shard=self._shard, hostility=item.hostility))
            else:
                self.part.labels.append(label_row(self._settings, item))
            if self._settings.format == "manifest":
                self.part.manifest.append(manifest_row(self._store, item))
            yield item

    def done(self) -> Part:
        own = self.part
        return Part(labels=own.labels, manifest=own.manifest, findings=own.findings, num_bytes=self._bytes)


def _write_files(settings: Settings, store: Store, items: Iterator[Entry]) -> Part:
    tally = _Tally(settings, store)
    for item in tally.passing(items):
        store.put(image_path(item), item.image_bytes)
        mask = mask_path(item)
        if mask and item.mask_png:
            store.put(mask, item.mask_png)
    return tally.done()


def _write_tar(settings: Settings, store: Store, number: int, items: Iterator[Entry]) -> Part:
    name = f"shard-{number:06d}.tar"
    tally = _Tally(settings, store, shard=name)
    with store.create(name) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for item in tally.passing(items):
            add_files(tar, members(item))
    return tally.done()


def _write_parquet(settings: Settings, store: Store, number: int, items: Iterator[Entry]) -> Part:
    name = f"part-{number:06d}.parquet"
    tally = _Tally(settings, store, shard=name)
    passing = tally.passing(items)
    with store.create(name) as file, pq.ParquetWriter(file, SHARD_SCHEMA, compression="none") as writer:
        while group := [shard_row(item) for item in islice(passing, _ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, SHARD_SCHEMA))
    return tally.done()


def _write_tables(settings: Settings, store: Store, parts: list[Part]) -> list[Finding]:
    """The tables beside the images, and the hostile shards or rows of the format."""
    found: list[Finding] = []
    if settings.format == "webdataset":
        return broken_tars(settings, store) if settings.hostile else []
    if settings.format == "parquet":
        return broken_parquet(settings, store) if settings.hostile else []
    labels = pa.Table.from_pylist([row for part in parts for row in part.labels], LABEL_SCHEMA)
    _put_table(store, "labels", labels)
    if settings.format == "manifest":
        rows = [row for part in parts for row in part.manifest]
        if settings.hostile:
            more, found = broken_rows(store, rows)
            rows += more
        manifest = pa.Table.from_pylist(rows, MANIFEST_SCHEMA)
        _put_table(store, "manifest", manifest)
        store.put("manifest.jsonl", as_json_lines(manifest))
    return found


def _put_table(store: Store, name: str, table: pa.Table) -> None:
    with store.create(f"{name}.parquet") as file:
        pq.write_table(table, file)
    store.put(f"{name}.csv", as_csv(table))
