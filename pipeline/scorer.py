"""The model's stage: one actor for each GPU (or share of the CPUs), each holding the model once."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.cluster_log import in_worker, marked, speak_up
from pipeline.schema import SCORES, Reason, Stage, scored_schema
from pipeline.telemetry import ModelMeter
from pipeline.watchdog import Patience, Watchdog

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

_AGAIN_AFTER_S = (0.1, 1.0, 5.0)  # with one image that did not fit

_FOUND = ("pred_score", "class_score", "patch_score_max", "patch_scores")


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
             patience: with this process, and with one batch of the model; None lets it hang for ever.
             run_id: what its metrics are told apart by.
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
        patience: Patience | None = None,
        run_id: str = "",
    ) -> None:
        speak_up()
        _tell_if_again()
        self.detector = make_detector()
        if self.detector.model_id != model_id:
            raise RuntimeError(f"this node has model {self.detector.model_id}, the run was planned with {model_id}")
        self.side = side
        self.batch_size = batch_size
        self.schema = scored_schema(metadata)
        self.out_of_memory = out_of_memory
        self._is_tight = False
        self._one_at_a_time = threading.Lock()
        self._meter = ModelMeter(run_id)
        self._piece_of_work = _watchdog(patience).piece_of_work if patience else contextlib.nullcontext

    def __call__(self, table: pa.Table) -> pa.Table:
        pixels, places = _pixels_of(table["pixels"], self.side)
        began = time.perf_counter()
        found, too_large = self._score(pixels)
        score_s = (time.perf_counter() - began) / max(1, len(pixels))
        now = datetime.datetime.now(datetime.UTC)
        columns = _Columns(len(table), places, found, too_large)
        filled = columns.scores() | columns.reasons(table)
        for name, value in {"scored_at": now, "score_s": score_s}.items():
            filled[name] = columns.constant(value, self.schema.field(name).type)
        return pa.table(
            [filled[name] if name in filled else table[name] for name in self.schema.names], schema=self.schema
        )

    def _score(self, pixels: Pixels) -> tuple[list[Scores], dict[int, str]]:
        """Scores of all images but those that do not fit the device even alone, with what it said of these.

        Out of memory, the batch is halved and stays so, and calls no longer compute at the same time. One image is
        tried again before it is blamed: another call, or another program, may have held the memory.
        """
        found: list[Scores] = []
        too_large: dict[int, str] = {}
        start, pauses = 0, iter(_AGAIN_AFTER_S)
        while start < len(pixels):
            batch = pixels[start : start + self.batch_size]
            why = ""
            try:
                with self._turn(), self._piece_of_work(), self._meter.batch(len(batch)):
                    found.append(self.detector.predict(batch, batch_size=self.batch_size))
            except self.out_of_memory as exc:  # it holds the call's tensors: they go with it, before anything is tried
                why = f"one image does not fit the device: {exc}"[:300]
            if why:
                self._is_tight = True
                if len(batch) > 1:
                    self.batch_size = max(1, min(self.batch_size, len(batch) // 2))
                    log.warning("out of memory with %d images; batches of %d from here", len(batch), self.batch_size)
                    continue
                if (pause_s := next(pauses, None)) is not None:
                    log.warning("out of memory with one image; again in %.1f s", pause_s)
                    time.sleep(pause_s)
                    continue
                too_large[start] = why
            start, pauses = start + len(batch), iter(_AGAIN_AFTER_S)
        return found, too_large

    def _turn(self) -> contextlib.AbstractContextManager[Any]:
        return self._one_at_a_time if self._is_tight else contextlib.nullcontext()


def _watchdog(patience: Patience) -> Watchdog:
    silent = f"a model actor gave no sign of life for {patience.silent_s:.0f} s"
    late = f"a model actor was at one batch for more than {patience.work_s:.0f} s"
    way_on = "it is ended, another takes its place, and its images are done again"
    silent, late = (marked(logging.WARNING, why, f"{why}: {way_on}") for why in (silent, late))
    return Watchdog(patience, when_silent=silent, when_late=late)


def _tell_if_again() -> None:
    if in_worker() and ray.get_runtime_context().was_current_actor_reconstructed:
        log.warning("a model actor was lost: this one takes its place, and what it had in hand is done again")


class _Columns:
    """Columns of a whole table from what is known of some of its rows; in Python no row is looked at but a bad one.

    Args:    rows: of the table.   places: of the images that have pixels.   found: scores of these, in order, but for
             those that are too_large, by their number among them.
    """

    def __init__(
        self, rows: int, places: npt.NDArray[np.intp], found: Sequence[Scores], too_large: Mapping[int, str]
    ) -> None:
        self.has_pixels = np.zeros(rows, bool)
        self.has_pixels[places] = True
        self.bad = {int(places[at]): (Reason.OUT_OF_MEMORY, message) for at, message in too_large.items()}
        self.found = {name: np.concatenate([getattr(one, name) for one in found]) for name in _FOUND} if found else {}
        row_of = np.full(rows, -1)
        if found:
            scored = np.delete(places, list(too_large))
            finite = np.isfinite(self.found["pred_score"]) & np.isfinite(self.found["patch_scores"]).all(axis=(1, 2))
            row_of[scored[finite]] = np.flatnonzero(finite)
            message = "the model gave a score that is no number"
            self.bad |= {int(place): (Reason.NOT_FINITE, message) for place in scored[~finite]}
        self.row_of = pa.array(row_of, mask=row_of < 0)

    def scores(self) -> dict[str, pa.Array]:
        """Scores in their rows; null where there are none, or none that is a number."""
        if not self.found:
            types = {name: SCORES.field(name).type for name in (*_FOUND, "map_size")}
            return {name: pa.nulls(len(self.has_pixels), kind) for name, kind in types.items()}
        columns = {name: pa.array(values.astype(np.float32)) for name, values in self.found.items() if values.ndim == 1}
        maps = np.ascontiguousarray(self.found["patch_scores"], "<f2")  # (n, g, g)
        width = pa.binary(maps[0].nbytes)
        columns["patch_scores"] = pa.Array.from_buffers(width, len(maps), [None, pa.py_buffer(maps)]).cast(pa.binary())
        sizes = pa.array(np.tile(maps.shape[1:], len(maps)), pa.int16())
        columns["map_size"] = pa.FixedSizeListArray.from_arrays(sizes, 2).cast(SCORES.field("map_size").type)
        return {name: column.take(self.row_of) for name, column in columns.items()}

    def reasons(self, table: pa.Table) -> dict[str, pa.ChunkedArray]:
        """Stage, reason and message, of rows that were bad before and of those that the model could not score."""
        told = {name: table[name] for name in ("stage", "reason", "message")}
        if self.bad:
            for name, column in told.items():
                values = column.to_pylist()
                for place, (reason, message) in self.bad.items():
                    values[place] = {"stage": Stage.SCORE, "reason": reason, "message": message}[name]
                told[name] = pa.chunked_array([pa.array(values, column.type)])
        return told

    def constant(self, value: Any, kind: pa.DataType) -> pa.Array:
        """The same for all images that have pixels."""
        return pc.if_else(pa.array(self.has_pixels), pa.scalar(value, kind), pa.scalar(None, kind))


def _pixels_of(column: pa.ChunkedArray, side: int) -> tuple[Pixels, npt.NDArray[np.intp]]:
    """The images that there are, (n, side, side, 3), without a copy where all lie in one piece; and their rows."""
    places = np.flatnonzero(pc.is_valid(column).to_numpy())
    if column.null_count:
        column = column.drop_null()
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no chunks, or more than one array holds
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
    if not len(whole):
        return np.empty((0, side, side, 3), np.uint8), places
    _, ends, values = whole.buffers()
    first = np.frombuffer(ends, np.int64)[whole.offset]
    size = len(whole) * side * side * 3
    return np.frombuffer(values, np.uint8, size, first).reshape(-1, side, side, 3), places
