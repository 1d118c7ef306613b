"""The bytes of planned images: whole files, ranges of tar shards, cells of Parquet shards.

What is wrong with one image (gone, forbidden, cut short) is returned in its place. What is wrong with the store
is tried again and then raised: images are not quarantined because a network was down.
"""

from __future__ import annotations

import dataclasses
import logging
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import merge_offset_ranges

from pipeline import store_errors
from pipeline.cells import cells_of
from pipeline.decode import ImageRejected
from pipeline.request import Fetched, Request, too_large
from pipeline.schema import Reason
from pipeline.storage import filesystem_at, redact

_BYTES_AT_ONCE = 64 * 2**20  # of encoded images in one task's hands, unless a single one is larger
_IMAGES_AT_ONCE = 64
_UNKNOWN_SIZE = 4 * 2**20  # what an image whose size nobody tells is counted as, and read of at first
_ASKED_AT_ONCE = 16  # sizes
_PIECE = 2**20
_JOIN_GAP = 64 * 2**10  # neighbours in a tar, this near, are one request
_JOIN_MAX = 16 * 2**20

log = logging.getLogger(__name__)


def fetched_portions(requests: Sequence[Request], *, max_bytes: int) -> Iterator[tuple[slice, list[Fetched]]]:
    """Consecutive requests with each one's bytes, or why there are none; a portion has _BYTES_AT_ONCE at most, or
    is a single larger image. A portion's list is emptied when the next one is asked for: that is what bounds memory.

    Raises:  StoreError: a store failed for all that was asked of it, again and again, or refuses our credentials.
    """
    for run in _runs(requests):
        members = requests[run]
        found = _cell_portions(members, max_bytes) if _is_stream(members[0]) else _file_portions(members, max_bytes)
        start = run.start
        for portion in found:
            stop = start + len(portion)
            yield slice(start, stop), portion
            portion.clear()
            start = stop


def fetch(requests: Sequence[Request], *, max_bytes: int) -> list[Fetched]:
    """Each request's bytes, or why there are none, all at once: for a few.

    Raises:  StoreError: as `fetched_portions`.
    """
    return [outcome for _, portion in fetched_portions(requests, max_bytes=max_bytes) for outcome in portion]


def _runs(requests: Sequence[Request]) -> Iterator[slice]:
    """Requests of files and ranges, as many as follow one another; cells of one row group."""
    start = 0
    for at in range(1, len(requests)):
        one, two = requests[at - 1], requests[at]
        if _is_stream(one) or _is_stream(two):
            if two.follows(one):
                continue
            yield slice(start, at)
            start = at
    if requests:
        yield slice(start, len(requests))


def _is_stream(request: Request) -> bool:
    return request.kind == "cell"


def in_portions(requests: Sequence[Request]) -> Iterator[slice]:
    """Consecutive requests of _BYTES_AT_ONCE at most by their known sizes, or a single larger one."""
    start, size = 0, 0
    for at, request in enumerate(requests):
        more = _UNKNOWN_SIZE if request.num_bytes is None else request.num_bytes
        if at > start and (size + more > _BYTES_AT_ONCE or at - start == _IMAGES_AT_ONCE):
            yield slice(start, at)
            start, size = at, 0
        size += more
    if requests:
        yield slice(start, len(requests))


def _file_portions(requests: Sequence[Request], max_bytes: int) -> Iterator[list[Fetched]]:
    requests = _with_sizes(requests, max_bytes)
    for portion in in_portions(requests):
        yield from _larger_apart(requests[portion], max_bytes)


def _larger_apart(requests: Sequence[Request], max_bytes: int) -> Iterator[list[Fetched]]:
    """A portion's images; those that are larger than the plan says are read again, one by one."""
    found = _fetch_together(requests, max_bytes)
    together: list[Fetched] = []
    for request, outcome in zip(requests, found, strict=True):
        if isinstance(outcome, _Larger):
            if together:
                yield together
            yield [data for data in _fetch_together([request], max_bytes) if not isinstance(data, _Larger)]
            together = []
        else:
            together.append(outcome)
    found.clear()
    if together:
        yield together


def _with_sizes(requests: Sequence[Request], max_bytes: int) -> list[Request]:
    """Files whose size the plan does not know, or that it says to be odd, with the size that the store tells.

    A manifest may say anything; no image is refused for what a manifest says of its size.
    """
    asked = [
        at
        for at, request in enumerate(requests)
        if request.kind == "file" and not (request.num_bytes and 0 < request.num_bytes <= max_bytes)
    ]
    sized = list(requests)
    if len(requests) == 1:
        return [dataclasses.replace(sized[0], num_bytes=None)] if asked else sized
    if asked:
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
            sizes = list(threads.map(_size_of, [requests[at].path for at in asked]))
        for at, size in zip(asked, sizes, strict=True):
            sized[at] = dataclasses.replace(sized[at], num_bytes=size)
    return sized


def _size_of(path: str) -> int | None:
    try:
        fs, inside = filesystem_at(path)
        info = fs.info(inside)
    except Exception:  # noqa: BLE001 -- reading tells what is wrong with it
        return None
    return info["size"] if info["type"] == "file" and isinstance(info.get("size"), int) else None


def _fetch_together(requests: Sequence[Request], max_bytes: int) -> list[Fetched | _Larger]:
    """Each request's bytes, of one alone whatever its size, of several as many as are expected."""
    results: dict[int, Fetched | _Larger] = {}
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, request in enumerate(requests):
        refusal = _refusal(request, max_bytes)
        if refusal:
            results[at] = refusal
        else:
            places[request.place].append(at)
    for (kind, _), members in places.items():
        wanted = [_Wanted(requests[at], _limit(requests[at], max_bytes, alone=len(requests) == 1)) for at in members]
        found = _patiently(_ranges if kind == "range" else _files, wanted, max_bytes)
        results.update(zip(members, found, strict=True))
    return [results[at] for at in range(len(requests))]


def _limit(request: Request, max_bytes: int, *, alone: bool) -> int:
    return max_bytes if alone else min(max_bytes, request.num_bytes or _UNKNOWN_SIZE)


@dataclass(frozen=True)
class _Wanted:
    request: Request
    limit: int


class _Larger:
    """In place of a file that is larger than what was asked of it."""


def _refusal(request: Request, max_bytes: int) -> ImageRejected | None:
    """What needs no reading to be refused."""
    if request.num_bytes == 0:
        return ImageRejected(Reason.EMPTY, "the file has no bytes")
    if request.num_bytes is not None and request.num_bytes > max_bytes:
        message = f"{request.num_bytes} bytes; at most {max_bytes} (--max-bytes)"
        return ImageRejected(Reason.TOO_MANY_BYTES, message)
    return None


_Outcome = bytes | ImageRejected | _Larger | Exception
_Reader = Callable[[Sequence[_Wanted], int], list[_Outcome]]


def _patiently(read: _Reader, wanted: list[_Wanted], max_bytes: int) -> list[Fetched | _Larger]:
    """Read, and read again what failed for the store's own reasons; what still fails is quarantined, unless the store
    does not answer (any more).
    """
    pauses = store_errors.waits()
    outcomes = read(wanted, max_bytes)
    _require_credentials(wanted, outcomes)
    for wait_s in pauses:
        again = [at for at, outcome in enumerate(outcomes) if _is_transient(outcome)]
        if not again:
            break
        path, why = redact(wanted[again[0]].request.path), _as_fetched(outcomes[again[0]])
        log.warning(
            "%d of %d reads failed, %s first (%s); again in %.0f s", len(again), len(outcomes), path, why, wait_s
        )
        time.sleep(wait_s)
        for at, outcome in zip(again, read([wanted[at] for at in again], max_bytes), strict=True):
            outcomes[at] = outcome
    _require_credentials(wanted, outcomes)
    failing = [_is_transient(outcome) for outcome in outcomes]
    is_one_rows_host = len(wanted) == 1 and wanted[0].request.path.lower().startswith("http")  # a manifest may name any
    if any(failing) and not is_one_rows_host:
        answered = failing.index(False) if False in failing else 0
        store_errors.require_answer(wanted[answered].request.path)
    return [_as_fetched(outcome) for outcome in outcomes]


def _is_transient(outcome: _Outcome) -> bool:
    return not isinstance(outcome, bytes | ImageRejected | _Larger) and store_errors.is_transient(outcome)


def _require_credentials(wanted: Sequence[_Wanted], outcomes: Sequence[_Outcome]) -> None:
    for one, outcome in zip(wanted, outcomes, strict=True):
        if not isinstance(outcome, bytes | ImageRejected | _Larger) and store_errors.is_refusal(outcome):
            store_errors.require_credentials(one.request.path)
            return  # an odd name; the others are asked no more


def _as_fetched(outcome: _Outcome) -> Fetched | _Larger:
    if isinstance(outcome, bytes | ImageRejected | _Larger):
        return outcome
    return ImageRejected(*store_errors.reason_of(outcome))


def _files(wanted: Sequence[_Wanted], max_bytes: int) -> list[_Outcome]:
    fs, _ = filesystem_at(wanted[0].request.path)
    if isinstance(fs, LocalFileSystem):
        return [_local_file(one.request.path, one.limit, max_bytes) for one in wanted]
    paths = [fs._strip_protocol(one.request.path) for one in wanted]
    # One byte more than expected tells a larger file without reading all of it.
    found = fs.cat_ranges(paths, [0] * len(paths), [one.limit + 1 for one in wanted], on_error="return")
    return [_within(data, one.limit, max_bytes) for data, one in zip(found, wanted, strict=True)]


def _local_file(path: str, limit: int, max_bytes: int) -> _Outcome:
    try:
        place = Path(LocalFileSystem._strip_protocol(path))
        info = place.stat()
        if not stat.S_ISREG(info.st_mode):  # a manifest may name a pipe, which would not answer
            return ImageRejected(Reason.NOT_A_FILE, "a folder, pipe or device, no file")
        with place.open("rb") as file:
            return _within(
                _read_all(file, info.st_size, limit) if info.st_size <= limit else info.st_size, limit, max_bytes
            )
    except (OSError, ValueError) as exc:  # ValueError: a null character in the name
        return exc if isinstance(exc, OSError) else ImageRejected(Reason.BAD_NAME, str(exc))


def _read_all(file: BinaryIO, size: int, limit: int) -> bytes:
    """All of a file of a known size; of one that is longer than it says, what tells whether the limit is passed."""
    data = file.read(size + 1)
    while size < len(data) <= limit and (more := file.read(_PIECE)):
        data += more
    return data


def _within(data: Any, limit: int, max_bytes: int) -> _Outcome:
    size = data if isinstance(data, int) else len(data) if isinstance(data, bytes) else 0
    if size > limit:
        return too_large(max_bytes) if limit == max_bytes else _Larger()
    if data == b"":
        return ImageRejected(Reason.EMPTY, "the file has no bytes")
    outcome: _Outcome = data
    return outcome


def _ranges(wanted: Sequence[_Wanted], max_bytes: int) -> list[_Outcome]:  # noqa: ARG001
    """Pictures inside a tar: neighbours are read as one range and cut apart."""
    fs, path = filesystem_at(wanted[0].request.path)
    starts = [one.request.offset or 0 for one in wanted]
    ends = [start + (one.request.num_bytes or 0) for start, one in zip(starts, wanted, strict=True)]
    paths, from_, to = merge_offset_ranges(
        [path] * len(starts), list(starts), list(ends), max_gap=_JOIN_GAP, max_block=_JOIN_MAX, sort=True
    )
    blocks = list(zip(from_, to, fs.cat_ranges(paths, from_, to, on_error="return"), strict=True))
    return [_cut_out(blocks, start, end) for start, end in zip(starts, ends, strict=True)]


def _cut_out(blocks: list[tuple[int, int, Any]], start: int, end: int) -> _Outcome:
    first, _, data = next(block for block in blocks if block[0] <= start and end <= block[1])
    if not isinstance(data, bytes):
        outcome: _Outcome = data
        beyond_the_end = store_errors.reason_of(data)[0] == Reason.EMPTY
        return (
            ImageRejected(Reason.TRUNCATED, "the shard ends before the picture begins") if beyond_the_end else outcome
        )
    found = data[start - first : end - first]
    if len(found) < end - start:
        return ImageRejected(
            Reason.TRUNCATED, f"the shard ends {end - start - len(found)} bytes before the picture does"
        )
    return found


def _cell_portions(requests: Sequence[Request], max_bytes: int) -> Iterator[list[Fetched]]:
    """Cells of one row group in one stream, cut by what their bytes add up to."""
    portion: list[Fetched] = []
    size = 0
    for cell in cells_of(requests, max_bytes):
        more = len(cell) if isinstance(cell, bytes) else 0
        if portion and (size + more > _BYTES_AT_ONCE or len(portion) == _IMAGES_AT_ONCE):
            yield portion
            portion, size = [], 0
        portion.append(cell)
        size += more
    if portion:
        yield portion
