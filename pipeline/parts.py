"""Part files: how they are named and encoded, apart from Ray, so that whoever looks after runs need not start it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.storage import Root
from pipeline.store_errors import opened, with_patience

# Rotten bytes are an error, not a score; files of earlier versions have no checksums.
CHECKED_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
# Least and greatest of these mean nothing, and would stand whole in every footer.
_NO_STATISTICS = {"patch_scores", "pred_mask", "message"}
_TAIL = 8  # the last bytes of a Parquet file: its footer's length, and PAR1
_NAME = re.compile(r"part-\d{5,}-(\d+)-[0-9a-f]+\.parquet")


def parquet_bytes(rows: pa.Table) -> bytes:
    """A table as a Parquet file. Each page has a checksum, so that a bit that flips in it later is found.

    The checksums take 5 bytes a page, and some 2 ms of writing or of reading a part of 8,192 rows.
    """
    buffer = io.BytesIO()
    statistics = [name for name in rows.column_names if name not in _NO_STATISTICS]
    pq.write_table(rows, buffer, compression="zstd", write_statistics=statistics, write_page_checksum=True)
    return buffer.getvalue()


def read_part(root: Root, path: str, columns: Sequence[str]) -> pa.Table:
    """A part's columns, each page held against its checksum.

    Raises:  FormatError: it is damaged.   What the store raises, as it is.
    """

    def read() -> pa.Table:
        with opened(root.fs, path) as file:
            return pq.read_table(file, columns=list(dict.fromkeys(columns)), page_checksum_verification=True)

    return with_patience(read, root.uri(path))


def footer_digest(file: Any) -> str:
    """SHA-256 of a Parquet file's footer, which says where its pages are and what they hold.

    With the pages' own checksums it tells whether the file is the one that was committed, and needs no more than what
    a commit reads anyway; a digest of the whole would have the driver read all that the workers wrote.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(size - _TAIL)
    footer = min(int.from_bytes(file.read(4), "little"), size - _TAIL)
    file.seek(size - _TAIL - footer)
    return hashlib.sha256(file.read(footer + _TAIL)).hexdigest()


def part_name(attempt: int, ids: Sequence[str]) -> str:
    """`part-<attempt>-<rows>-<hash of the image ids>.parquet`; the rows are those of both tables together."""
    digest = hashlib.blake2b("\n".join(sorted(ids)).encode(), digest_size=8).hexdigest()
    return f"part-{attempt:05d}-{len(ids)}-{digest}.parquet"


def rows_in_parts(paths: Iterable[str]) -> int:
    """How many images the named parts account for, by their names alone: for progress, not for the commit."""
    found = (_NAME.fullmatch(path.rpartition("/")[2]) for path in paths)
    rows = {match[0]: int(match[1]) for match in found if match}  # a part of both tables counts once
    return sum(rows.values())
