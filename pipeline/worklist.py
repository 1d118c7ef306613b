"""The plan cut into tasks: runs of rows that are read together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.plan import ROWS_PER_GROUP
from pipeline.storage import Root
from pipeline.store_errors import with_patience

_MIN_ROWS, _MAX_ROWS = 16, 512
_PARTS = 256  # a run is written in about this many parts: what a crash loses is this share of it at most
_MIN_PART, _MAX_PART = 32, 8_192  # at some 3 KB a row a full part is a file of about 25 MB


@dataclass(frozen=True)
class Worklist:
    """Task t reads rows [start[t], stop[t]) of files[file[t]]. A few bytes a task, whatever the archive."""

    files: tuple[str, ...]
    file: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.file)

    @property
    def rows(self) -> int:
        return int((self.stop - self.start).sum())

    def read(self, task: int, root: Root) -> pa.Table:
        """The plan rows of one task.

        Raises:  StoreError: the store fails, again and again.
        """
        path = self.files[self.file[task]]
        start, stop = int(self.start[task]), int(self.stop[task])
        groups = range(start // ROWS_PER_GROUP, (stop - 1) // ROWS_PER_GROUP + 1)

        def read() -> pa.Table:
            with root.fs.open(path, "rb") as opened:
                return pq.ParquetFile(opened).read_row_groups(list(groups))

        return with_patience(read, root.uri(path)).slice(start - groups[0] * ROWS_PER_GROUP, stop - start)


def make_worklist(root: Root, files: list[str], rows: int, *, tasks: int) -> Worklist:
    """Cut plan files of `rows` rows in all into so many tasks, or more where these would be too large.

    Rows of one Parquet row group stay together, because its pages are read from their beginning.
    """
    size = int(np.clip(-(-rows // tasks), _MIN_ROWS, _MAX_ROWS))
    cuts: list[tuple[int, int, int]] = []
    for number, path in enumerate(files):
        columns = with_patience(partial(_columns, root, path), root.uri(path))
        cuts += [(number, start, stop) for start, stop in _cut(columns, size)]
    file, start, stop = (
        (np.array(column, np.int64) for column in zip(*cuts, strict=True)) if cuts else [np.zeros(0)] * 3
    )
    return Worklist(tuple(files), file.astype(np.int32), start.astype(np.int64), stop.astype(np.int64))


def _columns(root: Root, path: str) -> pa.Table:
    with root.fs.open(path, "rb") as opened:
        return pq.read_table(opened, columns=["kind", "path", "row_group"])


def rows_per_part(planned: int) -> int:
    """Rows of one part file."""
    return int(np.clip(planned // _PARTS, _MIN_PART, _MAX_PART))


def _cut(columns: pa.Table, size: int) -> Iterator[tuple[int, int]]:
    together = _together(columns)
    edges = np.flatnonzero(together[1:] != together[:-1]) + 1
    for start, stop in zip([0, *edges], [*edges, len(together)], strict=True):
        step = ROWS_PER_GROUP if together[start] >= 0 else size
        for at in range(int(start), int(stop), step):
            yield at, min(at + step, int(stop))


def _together(columns: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each row, the same for the rows of one Parquet row group; -1 for all others."""
    paths = pc.index_in(columns["path"], pc.unique(columns["path"])).to_numpy(zero_copy_only=False).astype(np.int64)
    groups = pc.fill_null(columns["row_group"], 0).to_numpy().astype(np.int64)
    is_cell = pc.equal(columns["kind"], "cell").to_numpy(zero_copy_only=False).astype(bool)
    return np.where(is_cell, paths * 2**31 + groups, -1)
