"""The pictures that a run scored, read again by what its rows say: files, members of tar shards, cells of Parquet."""

from __future__ import annotations

import hashlib
import posixpath
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.errors import InputError
from pipeline.read import fetched_portions
from pipeline.request import Fetched, Request
from pipeline.schema import Reason
from pipeline.sources.items import PlanItem
from pipeline.sources.manifest import Resolver
from pipeline.sources.parquet import choose_image_column, index_parquet, read_schema
from pipeline.sources.webdataset import index_tar
from pipeline.storage import open_root

CHANGED = "changed"
"""The reason beside those of quarantine: another picture lies there than the one that was scored."""

_ROWS_AT_ONCE = 256
_SHARDS_KEPT = 4  # indexes of shards, that rows in the table's order come to again


@dataclass(frozen=True)
class Missing:
    """Why a picture cannot be had any more: a code and words."""

    reason: str
    message: str


@dataclass(frozen=True)
class Original:
    """A row of the scores and its picture, whole, upright, RGB, by the run's own rules; or why there is none."""

    row: Mapping[str, Any]
    picture: Image.Image | Missing


ORIGINAL_COLUMNS = ("image_id", "image_uri", "shard", "content_hash", "num_bytes")
"""What `read_originals` needs of a row."""


def read_originals(rows: Iterable[Mapping[str, Any]], record: Mapping[str, Any]) -> Iterator[Original]:
    """Each row with its picture, in order, one picture in memory at a time.

    A picture whose bytes are not those that were scored is `Missing`. Rows in the table's order are read fastest: a
    tar's headers are read once, and neighbours in it as one range.
    Args:    rows: of the scores, with ORIGINAL_COLUMNS; of one run.   record: that run's.
    Raises:  InputError: the record's rules for decoding are none.   StoreError: a store does not answer.
    """
    rules = rules_of(record)
    found = read_encoded(rows, max_bytes=rules.max_bytes, image_column=record.get("config", {}).get("image_column"))
    for row, data in found:
        yield Original(row, data if isinstance(data, Missing) else _decoded(data, rules))


def read_encoded(
    rows: Iterable[Mapping[str, Any]], *, max_bytes: int, image_column: str | None
) -> Iterator[tuple[Mapping[str, Any], bytes | Missing]]:
    """As `read_originals`, the encoded bytes: for those who decode in their own way.

    Args:    image_column: of Parquet shards, where the run was told which.
    """
    places = _Places(image_column)
    for portion in _portions(rows):
        asked = places.requests_of(portion)
        data = _fetched([request for request in asked if isinstance(request, Request)], max_bytes)
        for row, request in zip(portion, asked, strict=True):
            yield row, request if isinstance(request, Missing) else _verified(next(data), row)


def rules_of(record: Mapping[str, Any]) -> DecodeRules:
    """How the run decoded its pictures.

    Raises:  InputError: the record says what no version of ours writes.
    """
    told = record.get("config", {}).get("decode", {})
    try:
        return DecodeRules(**told)
    except (TypeError, ValueError) as exc:
        raise InputError(f"run {record.get('run_id')!r}: its record has no rules for decoding: {told!r:.200}") from exc


def _portions(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    portion: list[Mapping[str, Any]] = []
    for row in rows:
        portion.append(row)
        if len(portion) == _ROWS_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


def _fetched(requests: Sequence[Request], max_bytes: int) -> Iterator[Fetched]:
    for _, portion in fetched_portions(requests, max_bytes=max_bytes):
        yield from portion


def _verified(data: Fetched, row: Mapping[str, Any]) -> bytes | Missing:
    if isinstance(data, ImageRejected):
        return Missing(data.reason, str(data))
    expected = row["content_hash"]
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        return Missing(CHANGED, "the bytes there are not those that were scored")
    return data


def _decoded(data: bytes, rules: DecodeRules) -> Image.Image | Missing:
    try:
        return decode_image(data, rules).rgb
    except ImageRejected as exc:
        return Missing(exc.reason, str(exc))


class _Places:
    """From a row's URI to where its bytes lie; the indexes of a few shards are kept."""

    def __init__(self, image_column: str | None) -> None:
        self.image_column = image_column
        self.resolve = Resolver(open_root("/"), "/")
        self.shards: OrderedDict[str, Mapping[str, Request] | Missing] = OrderedDict()

    def requests_of(self, rows: Sequence[Mapping[str, Any]]) -> list[Request | Missing]:
        found: dict[int, Request | Missing] = {}
        in_shard: dict[str, list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            if row["shard"] is None:
                found[at] = self._file(row)
            else:
                in_shard[row["shard"]].append(at)
        for shard, members in in_shard.items():
            index = self._index_of(shard)
            for at in members:
                found[at] = index if isinstance(index, Missing) else _member(index, rows[at]["image_uri"])
        return [found[at] for at in range(len(rows))]

    def _file(self, row: Mapping[str, Any]) -> Request | Missing:
        path = self._path(row["image_uri"])
        return path if isinstance(path, Missing) else Request("file", path, num_bytes=row.get("num_bytes"))

    def _path(self, uri: str) -> str | Missing:
        """Tables are data: what is read by their word is a local path, or what a manifest may name."""
        if uri.startswith("/"):
            return uri
        item = self.resolve.item({"uri": uri}, uri)
        return Missing(item.bad.reason, item.bad.message) if item.bad else item.path

    def _index_of(self, shard: str) -> Mapping[str, Request] | Missing:
        if shard not in self.shards:
            self.shards[shard] = self._index(shard)
        self.shards.move_to_end(shard)
        while len(self.shards) > _SHARDS_KEPT:
            self.shards.popitem(last=False)
        return self.shards[shard]

    def _index(self, shard: str) -> Mapping[str, Request] | Missing:
        path = self._path(shard)
        if isinstance(path, Missing):
            return path
        try:
            items = self._items(path)
        except InputError as exc:
            return Missing(Reason.UNREADABLE_SHARD, str(exc))
        about_it = next((one.bad for one in items if one.bad and one.image_uri == shard), None)
        requests = {one.image_uri: _request(one) for one in items if not one.bad}
        return Missing(about_it.reason, about_it.message) if about_it and not requests else requests

    def _items(self, path: str) -> list[PlanItem]:
        if posixpath.splitext(path)[1].lower() == ".tar":
            return index_tar(path, wanted_fields=())
        column = self.image_column
        if column is None:
            root = open_root(path)
            schema = read_schema(root, root.path)
            column = choose_image_column(schema, root.uri(), None) if schema is not None else ""
        return index_parquet(path, wanted_fields=(), image_column=column)


def _request(item: PlanItem) -> Request:
    return Request(item.kind, item.path, item.offset, item.row, item.row_group, item.image_column, item.num_bytes)


def _member(index: Mapping[str, Request], uri: str) -> Request | Missing:
    return index.get(uri) or Missing(Reason.NOT_FOUND, "the shard has no such picture (any more)")
