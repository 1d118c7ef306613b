"""The model's stage: one actor for each GPU (or share of the CPUs), each holding the model once."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.schema import Reason, Stage, scored_schema

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]


class Scores(Protocol):
    """What a detector says of B images, float32; `cops.Prediction` is one."""

    @property
    def pred_score(self) -> npt.NDArray[np.float32]: ...
    @property
    def class_score(self) -> npt.NDArray[np.float32]: ...
    @property
    def patch_scores(self) -> npt.NDArray[np.float32]: ...
    @property
    def patch_score_max(self) -> npt.NDArray[np.float32]: ...


class Detector(Protocol):
    """All that the pipeline knows of a model."""

    model_id: str

    def predict(self, images: Any, *, batch_size: int | None = None) -> Scores: ...


class Scorer:
    """A Ray Data actor: tables with pixels in, tables with scores out.

    Args:    make_detector: builds the model on this actor's device.   model_id: of the model that the run was planned
             with.   side: the model's input side, px.   out_of_memory: the error that a smaller batch can cure.
    Raises:  RuntimeError: this node built another model than the driver did.
    """

    def __init__(
        self,
        make_detector: Callable[[], Detector],
        *,
        model_id: str,
        side: int,
        batch_size: int,
        metadata: Mapping[str, pa.DataType],
        out_of_memory: type[BaseException],
    ) -> None:
        self.detector = make_detector()
        if self.detector.model_id != model_id:
            raise RuntimeError(f"this node has model {self.detector.model_id}, the run was planned with {model_id}")
        self.side = side
        self.batch_size = batch_size
        self.schema = scored_schema(metadata)
        self.out_of_memory = out_of_memory

    def __call__(self, table: pa.Table) -> pa.Table:
        good = [at for at, pixels in enumerate(table["pixels"]) if pixels.is_valid]
        began = time.perf_counter()
        verdicts = self._score(_stack(table["pixels"], good, self.side))
        score_s = (time.perf_counter() - began) / max(1, len(good))
        rows = table.drop_columns(["pixels"]).to_pylist()
        now = datetime.datetime.now(datetime.UTC)
        for at, verdict in zip(good, verdicts, strict=True):
            rows[at] |= {"scored_at": now, "score_s": score_s, **verdict}
        return pa.Table.from_pylist(rows, schema=self.schema)

    def _score(self, pixels: Pixels) -> list[dict[str, Any]]:
        """One verdict an image. Out of memory, the batch is halved and stays so; one image alone is then at fault."""
        verdicts: list[dict[str, Any]] = []
        while len(verdicts) < len(pixels):
            batch = pixels[len(verdicts) : len(verdicts) + self.batch_size]
            try:
                verdicts += _verdicts(self.detector.predict(batch, batch_size=self.batch_size))
            except self.out_of_memory as exc:
                if len(batch) == 1:
                    verdicts.append(_rejected(Reason.OUT_OF_MEMORY, f"one image does not fit the device: {exc}"[:300]))
                else:
                    self.batch_size = max(1, len(batch) // 2)
                    log.warning("out of memory with %d images; batches of %d from here", len(batch), self.batch_size)
        return verdicts


def _stack(pixels: pa.ChunkedArray, good: list[int], side: int) -> Pixels:
    shape = (side, side, 3)
    if not good:
        return np.empty((0, *shape), np.uint8)
    return np.stack([np.frombuffer(pixels[at].as_buffer(), np.uint8).reshape(shape) for at in good])


def _verdicts(scores: Scores) -> list[dict[str, Any]]:
    patches = scores.patch_scores.astype("<f2")  # (b, g, g)
    finite = np.isfinite(scores.pred_score) & np.isfinite(scores.patch_scores).all(axis=(1, 2))
    return [
        {
            "pred_score": scores.pred_score[at],
            "class_score": scores.class_score[at],
            "patch_score_max": scores.patch_score_max[at],
            "patch_scores": patches[at].tobytes(),
            "map_size": list(patches.shape[1:]),
        }
        if finite[at]
        else _rejected(Reason.NOT_FINITE, "the model gave a score that is no number")
        for at in range(len(patches))
    ]


def _rejected(reason: Reason, message: str) -> dict[str, Any]:
    return {"stage": Stage.SCORE, "reason": reason, "message": message}
