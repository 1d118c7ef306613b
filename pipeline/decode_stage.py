"""The first stage, in CPU tasks: plan rows in, pixels at the model's side out, a bad image as a row with a reason."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.decode import DecodeRules, ImageRejected, decode_to_side
from pipeline.read import fetched_portions
from pipeline.request import Fetched, requests_of
from pipeline.schema import Stage, decoded_schema
from pipeline.storage import open_root
from pipeline.worklist import Worklist

_CARRIED = ("image_id", "image_uri", "shard", "category", "num_bytes", "stage", "reason", "message")


@dataclass(frozen=True, kw_only=True)
class ReadAndDecode:
    """Called by Ray with task numbers; yields tables of a few dozen images, so that memory stays bounded.

    Nothing larger than the model's input leaves it: side² × 3 bytes an image.
    """

    worklist: Worklist
    output: str
    side: int
    rules: DecodeRules
    metadata: Mapping[str, pa.DataType]

    def __call__(self, tasks: pa.Table) -> Iterator[pa.Table]:
        root = open_root(self.output)
        for task in tasks["id"].to_pylist():
            rows = self.worklist.read(task, root)
            readable = pc.is_null(rows["stage"])
            bad = rows.filter(pc.invert(readable))
            if len(bad):
                yield self._table(self._planned(bad))
            yield from self._read(rows.filter(readable))

    def _read(self, rows: pa.Table) -> Iterator[pa.Table]:
        began = time.perf_counter()
        for portion, found in fetched_portions(requests_of(rows), max_bytes=self.rules.max_bytes):
            read_s = (time.perf_counter() - began) / len(found)
            planned = self._planned(rows.slice(portion.start, len(found)))
            for row, data in zip(planned, found, strict=True):
                row |= {"read_s": read_s, **self._decoded(data)}
            yield self._table(planned)
            began = time.perf_counter()

    def _planned(self, rows: pa.Table) -> list[dict[str, Any]]:
        planned: list[dict[str, Any]] = rows.select([*_CARRIED, *self.metadata]).to_pylist()
        return planned

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(rows, schema=decoded_schema(self.metadata))

    def _decoded(self, data: Fetched) -> dict[str, Any]:
        if isinstance(data, ImageRejected):
            return {"stage": Stage.READ, "reason": data.reason, "message": str(data)}
        began = time.perf_counter()
        known = {"num_bytes": len(data), "content_hash": hashlib.sha256(data).hexdigest()}
        try:
            picture, pixels = decode_to_side(data, self.rules, self.side)
        except ImageRejected as rejected:
            return known | {"stage": Stage.DECODE, "reason": rejected.reason, "message": str(rejected)}
        width, height = picture.rgb.size
        shape = {"width": width, "height": height, "format": picture.format, "mode": picture.mode}
        return known | shape | {"pixels": pixels.tobytes(), "decode_s": time.perf_counter() - began}
