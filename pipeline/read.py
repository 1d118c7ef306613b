"""The bytes of planned images: whole files, ranges of tar shards, cells of Parquet shards.

What is wrong with one image (gone, forbidden, cut short) is returned in its place. What is wrong with the store
is tried again and then raised: images are not quarantined because a network was down.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import merge_offset_ranges

from pipeline.decode import ImageRejected
from pipeline.errors import StoreError
from pipeline.schema import Reason
from pipeline.storage import redact

Fetched = bytes | ImageRejected

_BYTES_AT_ONCE = 64 * 2**20  # of encoded images in one task's hands, unless a single one is larger
_IMAGES_AT_ONCE = 64
_UNKNOWN_SIZE = 2**20  # what an image whose size the plan does not know is counted as
_JOIN_GAP = 64 * 2**10  # neighbours in a tar, this near, are one request
_JOIN_MAX = 16 * 2**20
_RETRY_AFTER_S = (1.0, 4.0, 16.0)  # beyond the store client's own tries
_OF_ONE_FILE = {errno.EIO, errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What one plan row asks for; the fields are the plan's."""

    kind: str
    path: str
    offset: int | None = None
    row: int | None = None
    row_group: int | None = None
    image_column: str | None = None
    num_bytes: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What can be fetched together: files of one store, or pictures of one shard."""
        if self.kind != "file":
            return self.kind, self.path
        return self.kind, self.path.partition("://")[0] if "://" in self.path else "file"


def requests_of(rows: pa.Table) -> list[Request]:
    columns = (rows[name].to_pylist() for name in Request.__dataclass_fields__)
    return [Request(*values) for values in zip(*columns, strict=True)]


def in_portions(requests: Sequence[Request]) -> Iterator[slice]:
    """Consecutive requests of _BYTES_AT_ONCE at most (or a single larger one): what bounds a task's memory."""
    start, size = 0, 0
    for at, request in enumerate(requests):
        more = _UNKNOWN_SIZE if request.num_bytes is None else request.num_bytes
        if at > start and (size + more > _BYTES_AT_ONCE or at - start == _IMAGES_AT_ONCE):
            yield slice(start, at)
            start, size = at, 0
        size += more
    if requests:
        yield slice(start, len(requests))


def fetch(requests: Sequence[Request], *, max_bytes: int) -> list[Fetched]:
    """Each request's bytes, or why there are none.

    Raises:  StoreError: the store failed for all that was asked of it, again and again.
    """
    results: dict[int, Fetched] = {}
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, request in enumerate(requests):
        refusal = _refusal(request, max_bytes)
        if refusal:
            results[at] = refusal
        else:
            places[request.place].append(at)
    for (kind, place), members in places.items():
        read = {"file": _files, "range": _ranges, "cell": _cells}[kind]
        found = _patiently(read, place, [requests[at] for at in members], max_bytes)
        results.update(zip(members, found, strict=True))
    return [results[at] for at in range(len(requests))]


def _refusal(request: Request, max_bytes: int) -> ImageRejected | None:
    """What needs no reading to be refused."""
    if request.num_bytes == 0:
        return ImageRejected(Reason.EMPTY, "the file has no bytes")
    if request.num_bytes is not None and request.num_bytes > max_bytes:
        message = f"{request.num_bytes} bytes; at most {max_bytes} (--max-bytes)"
        return ImageRejected(Reason.TOO_MANY_BYTES, message)
    return None


_Outcome = bytes | ImageRejected | Exception
_Reader = Callable[[str, Sequence[Request], int], list[_Outcome]]


def _patiently(read: _Reader, place: str, requests: list[Request], max_bytes: int) -> list[Fetched]:
    """Read, and read again what failed for the store's own reasons; what still fails is quarantined, unless nothing
    could be read and the store does not answer at all.
    """
    outcomes = read(place, requests, max_bytes)
    for wait_s in _RETRY_AFTER_S:
        again = [at for at, outcome in enumerate(outcomes) if _is_transient(outcome)]
        if not again:
            break
        first = outcomes[again[0]]
        log.warning("%d of %d reads failed (%s); again in %.0f s", len(again), len(requests), first, wait_s)
        time.sleep(wait_s)
        for at, outcome in zip(again, read(place, [requests[at] for at in again], max_bytes), strict=True):
            outcomes[at] = outcome
    if all(_is_transient(outcome) for outcome in outcomes):
        _require_answer(requests[0].path)
    return [_as_fetched(outcome) for outcome in outcomes]


def _is_transient(outcome: _Outcome) -> bool:
    if isinstance(outcome, bytes | ImageRejected | FileNotFoundError | PermissionError):
        return False
    return getattr(outcome, "errno", None) not in _OF_ONE_FILE


def _require_answer(path: str) -> None:
    """Ask the store one small question.

    Raises:  StoreError: it does not answer, so what failed says nothing about the images.
    """
    fs, inside = fsspec.core.url_to_fs(path, use_listings_cache=False)
    try:
        fs.info(inside)
    except (FileNotFoundError, PermissionError):
        return
    except Exception as exc:  # each store's client has errors of its own
        tries = 1 + len(_RETRY_AFTER_S)
        raise StoreError(f"{redact(path)}: the store did not answer in {tries} tries: {exc}") from exc


def _as_fetched(outcome: _Outcome) -> Fetched:
    if isinstance(outcome, bytes | ImageRejected):
        return outcome
    if isinstance(outcome, FileNotFoundError):
        return ImageRejected(Reason.NOT_FOUND, "no such file (any more)")
    if isinstance(outcome, PermissionError):
        return ImageRejected(Reason.PERMISSION_DENIED, "not allowed to read it")
    if "InvalidRange" in str(outcome) or "416" in str(outcome):  # a range of an empty object
        return ImageRejected(Reason.EMPTY, "the file has no bytes")
    return ImageRejected(Reason.READ_ERROR, f"{type(outcome).__name__}: {outcome}"[:300])


def _files(protocol: str, requests: Sequence[Request], max_bytes: int) -> list[_Outcome]:
    if protocol in ("file", "local"):
        return [_local_file(request.path, max_bytes) for request in requests]
    fs = fsspec.filesystem(protocol)
    paths = [fs._strip_protocol(request.path) for request in requests]
    # One byte more than allowed tells a file too large without reading all of it.
    ends = [1 + (max_bytes if request.num_bytes is None else request.num_bytes) for request in requests]
    found = fs.cat_ranges(paths, [0] * len(paths), ends, on_error="return")
    return [_not_larger(data, max_bytes) for data in found]


def _local_file(path: str, max_bytes: int) -> _Outcome:
    try:
        with Path(LocalFileSystem._strip_protocol(path)).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            return _not_larger(file.read() if size <= max_bytes else size, max_bytes)
    except (OSError, ValueError) as exc:  # ValueError: a null character in the name
        return exc if isinstance(exc, OSError) else ImageRejected(Reason.BAD_NAME, str(exc))


def _not_larger(data: Any, max_bytes: int) -> _Outcome:
    size = data if isinstance(data, int) else len(data) if isinstance(data, bytes) else 0
    if size > max_bytes:
        return ImageRejected(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes (--max-bytes)")
    outcome: _Outcome = data
    return outcome


def _ranges(shard: str, requests: Sequence[Request], max_bytes: int) -> list[_Outcome]:  # noqa: ARG001
    """Pictures inside a tar: neighbours are read as one range and cut apart."""
    fs, path = fsspec.core.url_to_fs(shard)
    starts = [request.offset or 0 for request in requests]
    ends = [start + (request.num_bytes or 0) for start, request in zip(starts, requests, strict=True)]
    paths, from_, to = merge_offset_ranges(
        [path] * len(starts), list(starts), list(ends), max_gap=_JOIN_GAP, max_block=_JOIN_MAX, sort=True
    )
    blocks = list(zip(from_, to, fs.cat_ranges(paths, from_, to, on_error="return"), strict=True))
    return [_cut_out(blocks, start, end) for start, end in zip(starts, ends, strict=True)]


def _cut_out(blocks: list[tuple[int, int, Any]], start: int, end: int) -> _Outcome:
    first, _, data = next(block for block in blocks if block[0] <= start and end <= block[1])
    if not isinstance(data, bytes):
        outcome: _Outcome = data
        return outcome
    found = data[start - first : end - first]
    if len(found) < end - start:
        return ImageRejected(
            Reason.TRUNCATED, f"the shard ends {end - start - len(found)} bytes before the picture does"
        )
    return found


def _cells(shard: str, requests: Sequence[Request], max_bytes: int) -> list[_Outcome]:
    """Cells of one image column: its row groups are streamed, nothing else of the file is read."""
    fs, path = fsspec.core.url_to_fs(shard)
    wanted = {request.row: at for at, request in enumerate(requests)}
    outcomes: list[_Outcome] = [ImageRejected(Reason.NOT_FOUND, "the file has no such row (any more)")] * len(requests)
    try:
        with fs.open(path, "rb") as file:
            for row, value in _column(pq.ParquetFile(file), requests):
                if row in wanted:
                    outcomes[wanted[row]] = _cell_bytes(value, max_bytes)
    except OSError as exc:
        return [exc] * len(requests)
    except pa.ArrowException as exc:
        return [ImageRejected(Reason.CORRUPT, f"the Parquet data cannot be read: {exc}"[:300])] * len(requests)
    return outcomes


def _column(file: pq.ParquetFile, requests: Sequence[Request]) -> Iterator[tuple[int, pa.Scalar]]:
    column = requests[0].image_column
    first_row = 0
    groups = {request.row_group for request in requests}
    for group in range(file.num_row_groups):
        if group in groups:
            row = first_row
            for batch in file.iter_batches(batch_size=16, row_groups=[group], columns=[column]):
                for value in batch.column(0):
                    yield row, value
                    row += 1
        first_row += file.metadata.row_group(group).num_rows


def _cell_bytes(value: pa.Scalar, max_bytes: int) -> _Outcome:
    if isinstance(value, pa.StructScalar) and value.is_valid:
        value = value["bytes"]
    if not value.is_valid:
        return ImageRejected(Reason.EMPTY, "the cell is null")
    return _not_larger(value.as_py(), max_bytes)
