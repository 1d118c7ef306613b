"""The first stage, in CPU tasks: plan rows in, pixels at the model's side out, a bad image as a row with a reason."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.decode import DecodeRules, ImageRejected, decode_image, resize
from pipeline.read import Fetched, Request, fetch, in_portions, requests_of
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
            requests = requests_of(rows)
            for portion in in_portions(requests):
                yield self._portion(rows.slice(portion.start, portion.stop - portion.start), requests[portion])

    def _portion(self, rows: pa.Table, requests: list[Request]) -> pa.Table:
        planned = rows.select([*_CARRIED, *self.metadata]).to_pylist()
        readable = [at for at, row in enumerate(planned) if row["stage"] is None]
        began = time.perf_counter()
        fetched = fetch([requests[at] for at in readable], max_bytes=self.rules.max_bytes)
        read_s = (time.perf_counter() - began) / max(1, len(readable))
        for at, data in zip(readable, fetched, strict=True):
            planned[at] |= {"read_s": read_s, **self._decoded(data)}
        return pa.Table.from_pylist(planned, schema=decoded_schema(self.metadata))

    def _decoded(self, data: Fetched) -> dict[str, Any]:
        if isinstance(data, ImageRejected):
            return {"stage": Stage.READ, "reason": data.reason, "message": str(data)}
        began = time.perf_counter()
        known = {"num_bytes": len(data), "content_hash": hashlib.sha256(data).hexdigest()}
        try:
            picture = decode_image(data, self.rules)
        except ImageRejected as rejected:
            return known | {"stage": Stage.DECODE, "reason": rejected.reason, "message": str(rejected)}
        pixels = resize(picture.rgb, self.side).tobytes()
        width, height = picture.rgb.size
        shape = {"width": width, "height": height, "format": picture.format, "mode": picture.mode}
        return known | shape | {"pixels": pixels, "decode_s": time.perf_counter() - began}
