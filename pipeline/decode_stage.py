"""The first stage, in CPU tasks: plan rows in, pixels at the model's side out, a bad image as a row with a reason."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cluster_log import speak_up
from pipeline.decode import RGB, DecodeRules, ImageRejected, decode_to_side
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
        speak_up()
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
            squares = []
            for row, data in zip(planned, found, strict=True):
                known, pixels = self._decoded(data)
                row |= {"read_s": read_s, **known}
                squares.append(pixels)
            yield self._table(planned, squares)
            began = time.perf_counter()

    def _planned(self, rows: pa.Table) -> list[dict[str, Any]]:
        planned: list[dict[str, Any]] = rows.select([*_CARRIED, *self.metadata]).to_pylist()
        return planned

    def _table(self, rows: list[dict[str, Any]], squares: Sequence[RGB | None] | None = None) -> pa.Table:
        schema = decoded_schema(self.metadata)
        at = schema.get_field_index("pixels")
        pixels = _pixel_column(squares or [None] * len(rows))
        return pa.Table.from_pylist(rows, schema=schema.remove(at)).add_column(at, schema.field(at), pixels)

    def _decoded(self, data: Fetched) -> tuple[dict[str, Any], RGB | None]:
        """What becomes known of a picture, and its pixels at the model's side."""
        if isinstance(data, ImageRejected):
            return {"stage": Stage.READ, "reason": data.reason, "message": str(data)}, None
        began = time.perf_counter()
        known = {"num_bytes": len(data), "content_hash": hashlib.sha256(data).hexdigest()}
        try:
            picture, pixels = decode_to_side(data, self.rules, self.side)
        except ImageRejected as rejected:
            return known | {"stage": Stage.DECODE, "reason": rejected.reason, "message": str(rejected)}, None
        width, height = picture.size
        shape = {"width": width, "height": height, "format": picture.format, "mode": picture.mode}
        return known | shape | {"decode_s": time.perf_counter() - began}, pixels


def _pixel_column(squares: Sequence[RGB | None]) -> pa.Array:
    """Each picture's pixels as one value, copied once."""
    ends = np.cumsum([0, *(0 if square is None else square.size for square in squares)], dtype=np.int64)
    there = [square.reshape(-1) for square in squares if square is not None]
    data = np.concatenate(there) if there else np.empty(0, np.uint8)
    is_there = np.packbits([square is not None for square in squares], bitorder="little")
    buffers = [pa.py_buffer(is_there), pa.py_buffer(ends), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(squares), buffers)
