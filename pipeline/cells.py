"""Pictures in a Parquet shard's column: one stream over a row group, page by page."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import store_errors
from pipeline.decode import ImageRejected
from pipeline.request import Fetched, Request, too_large
from pipeline.schema import Reason
from pipeline.storage import filesystem_at, redact
from pipeline.store_errors import FormatError

_COLUMN_BUFFER = 2**20  # of a Parquet column: page by page, where Arrow would take a whole row group into memory
_COLUMN_BLOCK = 8 * 2**20  # what one request of a Parquet shard fetches

log = logging.getLogger(__name__)


def cells_of(requests: Sequence[Request], max_bytes: int) -> Iterator[Fetched]:
    """The cells in order. Where the store fails the stream begins again at the first cell that is missing."""
    got = 0
    waits = store_errors.waits()
    while got < len(requests):
        before = got
        try:
            for cell in _cells(requests[got:], max_bytes):
                got += 1
                yield cell
        except Exception as exc:  # noqa: BLE001 -- each store's client has errors of its own
            if got > before:
                waits = store_errors.waits()
            wait_s = _wait_or_raise(exc, waits, requests[0].path)
            if wait_s is None:
                yield from (_verdict(exc) for _ in requests[got:])
                return
            time.sleep(wait_s)


def _wait_or_raise(exc: Exception, waits: Iterator[float], path: str) -> float | None:
    """How long to wait before the next try; None where waiting does not help.

    Raises:  StoreError: the store does not answer, or refuses our credentials.
    """
    if store_errors.is_refusal(exc):
        store_errors.require_credentials(path)
    if not store_errors.is_transient(exc):
        return None
    wait_s = next(waits, None)
    if wait_s is None:
        store_errors.require_answer(path)
    else:
        log.warning("reading %s failed (%s); again in %.0f s", redact(path), store_errors.describe(exc), wait_s)
    return wait_s


def _verdict(exc: Exception) -> ImageRejected:
    if isinstance(exc, FormatError):
        return ImageRejected(Reason.CORRUPT, f"the Parquet data cannot be read: {exc}"[:300])
    return ImageRejected(*store_errors.reason_of(exc))


def _cells(requests: Sequence[Request], max_bytes: int) -> Iterator[Fetched]:
    """Cells of one image column: its row group is streamed to the last that is wanted, nothing else is read."""
    fs, path = filesystem_at(requests[0].path)
    with store_errors.opened(fs, path, block_size=_COLUMN_BLOCK) as file:
        cells = _column(pq.ParquetFile(file, buffer_size=_COLUMN_BUFFER, pre_buffer=False), requests[0])
        for request in requests:
            value = next((value for row, value in cells if row == request.row), None)
            if value is None:
                yield ImageRejected(Reason.NOT_FOUND, "the file has no such row (any more)")
            else:
                yield _cell_bytes(value, max_bytes)


def _column(file: pq.ParquetFile, request: Request) -> Iterator[tuple[int, pa.Scalar]]:
    group = request.row_group
    if group is None or group >= file.num_row_groups or request.image_column not in file.schema_arrow.names:
        return
    row = sum(file.metadata.row_group(before).num_rows for before in range(group))
    for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=[request.image_column]):
        for value in batch.column(0):
            yield row, value
            row += 1


def _cell_bytes(value: pa.Scalar, max_bytes: int) -> Fetched:
    if isinstance(value, pa.StructScalar) and value.is_valid:
        value = value["bytes"]
    if not value.is_valid:
        return ImageRejected(Reason.EMPTY, "the cell is null")
    data = value.as_buffer()
    if data.size > max_bytes:
        return too_large(max_bytes)
    return data.to_pybytes() if data.size else ImageRejected(Reason.EMPTY, "the cell has no bytes")
