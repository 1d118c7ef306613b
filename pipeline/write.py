"""The last stage: rows into part files, each whole or not there, named by what is in it.

A part's name is a hash of its image ids, so a task that Ray runs twice replaces its own file and adds none.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Datasink

from pipeline.claim import require_claim
from pipeline.cluster_log import speak_up
from pipeline.layout import RunLayout, Table
from pipeline.parts import parquet_bytes, part_name
from pipeline.schema import QUARANTINE_FILE, SCORES, with_metadata
from pipeline.storage import remove_file, write_atomic
from pipeline.store_errors import with_patience
from pipeline.telemetry import tell_written

STAGES = ("read_s", "decode_s", "score_s", "localize_s")
TOTALS_KEY = b"cops.totals"  # in each part's Parquet metadata: its rows' encoded bytes, and seconds by stage


@dataclass(frozen=True)
class Receipt:
    """What one part holds."""

    scored: int
    quarantined: int


class PartWriter(Datasink[Receipt]):
    """A Ray Data sink: each of its tasks writes one part.

    Args:    attempt: which claim of the run writes; it stands in the parts' names.
             rows_per_part: at least so many rows make a part, but for the last ones.
    """

    def __init__(
        self,
        layout: RunLayout,
        *,
        attempt: int,
        model_id: str,
        metadata: Mapping[str, pa.DataType],
        rows_per_part: int,
    ) -> None:
        self.layout = layout
        self.attempt = attempt
        self.model_id = model_id
        self.metadata = metadata
        self.rows_per_part = rows_per_part

    @property
    def min_rows_per_write(self) -> int:
        return self.rows_per_part

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> Receipt:  # noqa: ARG002 -- Ray's signature
        """Raises:  ClaimError: another process took the run over; what this one would write, that one writes.
        StoreError: the store fails, again and again.
        """
        speak_up()
        filled = [block for block in blocks if len(block)]
        if not filled:
            return Receipt(0, 0)
        rows = pa.concat_tables(filled)
        with_patience(lambda: require_claim(self.layout, self.attempt), self.layout.root.uri())
        is_bad = pc.is_valid(rows["stage"])
        scored, quarantined = rows.filter(pc.invert(is_bad)), rows.filter(is_bad)
        name = part_name(self.attempt, rows["image_id"].to_pylist())
        # Quarantine first: if we die between the two, the scored rows are merely done again.
        self._write("quarantine", name, self._quarantine_table(quarantined))
        self._write("scores", name, self._scores_table(scored))
        tell_written(self.layout.run_id, rows, STAGES)
        return Receipt(len(scored), len(quarantined))

    def _scores_table(self, rows: pa.Table) -> pa.Table:
        rows = rows.append_column("model_id", pa.array([self.model_id] * len(rows), pa.string()))
        return _with_totals(rows, with_metadata(SCORES, self.metadata))

    def _quarantine_table(self, rows: pa.Table) -> pa.Table:
        now = datetime.datetime.now(datetime.UTC)
        rows = rows.append_column("at", pa.array([now] * len(rows), QUARANTINE_FILE.field("at").type))
        return _with_totals(rows, QUARANTINE_FILE)

    def _write(self, table: Table, name: str, rows: pa.Table) -> None:
        path = self.layout.part_path(table, name)
        fs = self.layout.root.fs
        if not len(rows):  # an earlier try of this task may have had some (a read that failed then)
            with_patience(lambda: remove_file(fs, path), self.layout.root.uri(path))
            return
        data = parquet_bytes(rows)
        with_patience(lambda: write_atomic(fs, path, data), self.layout.root.uri(path))


def _with_totals(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    totals = {name: pc.sum(rows[name]).as_py() or 0 for name in ("num_bytes", *STAGES)}
    return rows.select(schema.names).cast(schema).replace_schema_metadata({TOTALS_KEY: json.dumps(totals)})
