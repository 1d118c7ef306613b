"""The last stage: rows into part files, each whole or not there, named by what is in it.

A part's name is a hash of its image ids, so a task that Ray runs twice replaces its own file and adds none.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.layout import RunLayout, Table
from pipeline.schema import QUARANTINE, SCORES, with_metadata
from pipeline.storage import write_atomic

STAGES = ("read_s", "decode_s", "score_s", "localize_s")
TOTALS_KEY = b"cops.totals"  # in each part's Parquet metadata: its rows' encoded bytes, and seconds by stage
RECEIPT = pa.schema([("scored", pa.int64()), ("quarantined", pa.int64()), ("num_bytes", pa.int64())])

# Least and greatest of these mean nothing, and would stand whole in every footer.
_NO_STATISTICS = {"patch_scores", "pred_mask", "message"}


@dataclass(frozen=True, kw_only=True)
class WritePart:
    """Called by Ray with the rows of one part; writes them and returns a receipt.

    Args:    attempt: which claim of the run writes; it stands in the name.
    """

    layout: RunLayout
    attempt: int
    model_id: str
    metadata: Mapping[str, pa.DataType]

    def __call__(self, rows: pa.Table) -> pa.Table:
        if not len(rows):
            return RECEIPT.empty_table()
        name = f"part-{self.attempt:05d}-{_digest(rows['image_id'])}.parquet"
        is_bad = pc.is_valid(rows["stage"])
        scored, quarantined = rows.filter(pc.invert(is_bad)), rows.filter(is_bad)
        # Quarantine first: if we die between the two, the scored rows are merely done again.
        self._write("quarantine", name, self._quarantine_table(quarantined))
        self._write("scores", name, self._scores_table(scored))
        num_bytes = pc.sum(rows["num_bytes"]).as_py() or 0
        return pa.Table.from_pylist(
            [{"scored": len(scored), "quarantined": len(quarantined), "num_bytes": num_bytes}], schema=RECEIPT
        )

    def _scores_table(self, rows: pa.Table) -> pa.Table:
        rows = rows.append_column("model_id", pa.array([self.model_id] * len(rows), pa.string()))
        return _with_totals(rows, with_metadata(SCORES, self.metadata))

    def _quarantine_table(self, rows: pa.Table) -> pa.Table:
        now = datetime.datetime.now(datetime.UTC)
        rows = rows.append_column("run_id", pa.array([self.layout.run_id] * len(rows), pa.string()))
        rows = rows.append_column("at", pa.array([now] * len(rows), QUARANTINE.field("at").type))
        return _with_totals(rows, QUARANTINE)

    def _write(self, table: Table, name: str, rows: pa.Table) -> None:
        path = self.layout.part_path(table, name)
        fs = self.layout.root.fs
        if not len(rows):  # an earlier try of this task may have had some (a read that failed then)
            if fs.exists(path):
                fs.rm_file(path)
            return
        write_atomic(fs, path, parquet_bytes(rows))


def parquet_bytes(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    statistics = [name for name in rows.column_names if name not in _NO_STATISTICS]
    pq.write_table(rows, buffer, compression="zstd", write_statistics=statistics)
    return buffer.getvalue()


def _with_totals(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    totals = {name: pc.sum(rows[name]).as_py() or 0 for name in ("num_bytes", *STAGES)}
    return rows.select(schema.names).cast(schema).replace_schema_metadata({TOTALS_KEY: json.dumps(totals)})


def _digest(ids: pa.ChunkedArray) -> str:
    joined = "\n".join(sorted(ids.to_pylist())).encode()
    return hashlib.blake2b(joined, digest_size=8).hexdigest()
