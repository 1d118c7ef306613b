"""`--incremental`: leave out of the plan what an earlier committed run has scored: same id, same content, and the same
model and decoding rules. Thresholds do not count: they change no score.

Content is known by reading it, so candidates (same id, same model, same size) are read and hashed in Ray tasks
while planning; nothing is decoded. What is left out counts as skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data

from pipeline import ledger
from pipeline.decode import DecodeRules
from pipeline.execution import wanted_tasks
from pipeline.layout import RunLayout
from pipeline.plan import count_rows, rewrite_plan
from pipeline.read import fetched_portions
from pipeline.request import requests_of
from pipeline.runs import files_of, records
from pipeline.storage import open_root
from pipeline.worklist import Worklist, make_worklist

_CANDIDATES = """
    SELECT plan.*, known.hashes AS known_hashes FROM plan JOIN
        (SELECT image_id, list(DISTINCT num_bytes) AS sizes, string_agg(DISTINCT content_hash, ' ') AS hashes
         FROM earlier GROUP BY image_id) AS known
    USING (image_id)
    WHERE plan.stage IS NULL AND (plan.num_bytes IS NULL OR list_contains(known.sizes, plan.num_bytes))
    ORDER BY position
"""
_KNOWN_BAD = """
    SELECT count(*) FROM quarantine AS now WHERE EXISTS (
        SELECT 1 FROM earlier
        WHERE earlier.image_id = now.image_id AND earlier.content_hash IS NOT DISTINCT FROM now.content_hash
    )
"""
_SKIPPED = pa.schema([("image_id", pa.string())])


@dataclass(frozen=True, kw_only=True)
class _Unchanged:
    """Called by Ray with task numbers; yields the ids whose bytes hash to what an earlier run scored."""

    worklist: Worklist
    output: str
    max_bytes: int

    def __call__(self, tasks: pa.Table) -> Iterator[pa.Table]:
        root = open_root(self.output)
        for task in tasks["id"].to_pylist():
            rows = self.worklist.read(task, root)
            for portion, found in fetched_portions(requests_of(rows), max_bytes=self.max_bytes):
                known = rows.slice(portion.start, len(found)).select(["image_id", "known_hashes"]).to_pylist()
                same = [
                    row["image_id"]
                    for row, data in zip(known, found, strict=True)
                    if isinstance(data, bytes) and hashlib.sha256(data).hexdigest() in row["known_hashes"].split()
                ]
                yield pa.table({"image_id": pa.array(same, pa.string())})


def drop_scored(
    layout: RunLayout, output: str, files: list[str], schema: pa.Schema, *, model_id: str, rules: DecodeRules
) -> tuple[list[str], int]:
    """The plan without what is scored already, and how many images that left out."""
    alike = [record for record in records(output) if _decides_alike(record, model_id, rules)]
    earlier = [path for record in alike for path in files_of(record, layout, "scores")]
    if not earlier:
        return files, 0
    with_hashes = schema.append(pa.field("known_hashes", pa.string()))
    candidates = rewrite_plan(
        layout.root, files, layout.work_path("candidates"), with_hashes, query=_CANDIDATES, earlier=earlier
    )
    skipped = _unchanged(layout, output, candidates, rules.max_bytes)
    if not len(skipped):
        return files, 0
    left = rewrite_plan(
        layout.root, files, layout.work_path("plan-changed"), schema, query=ledger.WITHOUT_SKIPPED, skipped=skipped
    )
    return left, len(skipped)


def known_bad(layout: RunLayout, output: str, parts: list[str]) -> int:
    """How many of a run's quarantined images an earlier committed run had there, with the same bytes."""
    earlier = [path for record in records(output) for path in files_of(record, layout, "quarantine")]
    if not parts or not earlier:
        return 0
    with ledger.tables(layout.root, quarantine=parts, earlier=earlier) as sql:
        (count,) = sql.execute(_KNOWN_BAD).fetchone()
    return int(count)


def _decides_alike(record: dict[str, Any], model_id: str, rules: DecodeRules) -> bool:
    """Whether an earlier run would give the same scores for the same bytes."""
    config = record.get("config")
    return isinstance(config, dict) and record.get("model_id") == model_id and config.get("decode") == rules.record()


def _unchanged(layout: RunLayout, output: str, candidates: list[str], max_bytes: int) -> pa.Table:
    if not candidates:
        return _SKIPPED.empty_table()
    worklist = make_worklist(layout.root, candidates, count_rows(layout.root, candidates), tasks=wanted_tasks())
    check = _Unchanged(worklist=worklist, output=output, max_bytes=max_bytes)
    tasks = ray.data.range(len(worklist), override_num_blocks=len(worklist))
    found = tasks.map_batches(check, batch_size=None, batch_format="pyarrow")
    tables = list(found.iter_batches(batch_size=None, batch_format="pyarrow"))
    return pa.concat_tables(tables) if tables else _SKIPPED.empty_table()
