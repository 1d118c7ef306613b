"""Part files: how they are named and encoded, apart from Ray, so that whoever looks after runs need not start it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

# Least and greatest of these mean nothing, and would stand whole in every footer.
_NO_STATISTICS = {"patch_scores", "pred_mask", "message"}
_NAME = re.compile(r"part-\d{5,}-(\d+)-[0-9a-f]+\.parquet")


def parquet_bytes(rows: pa.Table) -> bytes:
    """A table as a Parquet file. Each page has a checksum, so that a bit that flips in it later is found.

    The checksums take 5 bytes a page, and some 2 ms of writing or of reading a part of 8,192 rows.
    """
    buffer = io.BytesIO()
    statistics = [name for name in rows.column_names if name not in _NO_STATISTICS]
    pq.write_table(rows, buffer, compression="zstd", write_statistics=statistics, write_page_checksum=True)
    return buffer.getvalue()


def part_name(attempt: int, ids: Sequence[str]) -> str:
    """`part-<attempt>-<rows>-<hash of the image ids>.parquet`; the rows are those of both tables together."""
    digest = hashlib.blake2b("\n".join(sorted(ids)).encode(), digest_size=8).hexdigest()
    return f"part-{attempt:05d}-{len(ids)}-{digest}.parquet"


def rows_in_parts(paths: Iterable[str]) -> int:
    """How many images the named parts account for, by their names alone: for progress, not for the commit."""
    found = (_NAME.fullmatch(path.rpartition("/")[2]) for path in paths)
    rows = {match[0]: int(match[1]) for match in found if match}  # a part of both tables counts once
    return sum(rows.values())
