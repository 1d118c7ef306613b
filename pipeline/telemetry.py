"""What a run tells Prometheus through Ray's own exporter: docs/monitoring.md says what each metric means.

For dashboards and alerts. The tables are exact and these counts are not: what Ray does again is counted again. Nothing
here can fail a run; without Ray nothing is made.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.util import metrics as ray_metrics

from pipeline.schema import Reason, Stage

RUN = "run_id"  # on every metric. It adds no series: Ray tells each process' apart, and a process works for one run
_BATCH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_AGAIN_EVERY_S = 5.0  # Ray forgets a gauge that nobody sets for 20 s

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One of ours. Tags have values from small closed sets alone, but for the run's name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    tags: tuple[str, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """Its names in Prometheus."""
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
        return tuple(f"ray_{self.name}{ending}" for ending in endings[self.kind])


def _counter(name: str, text: str, *tags: str) -> Metric:
    return Metric(name=name, kind="counter", text=text, tags=tags)


MODEL_IMAGES = _counter("cops_model_images", "Images that the model has scored.")
BUSY_SECONDS = _counter("cops_busy_seconds", "Seconds in which an actor's model was at work.")
BATCH_SECONDS = Metric(name="cops_batch_seconds", kind="histogram", text="Seconds of one call of the model.")
SCORED = _counter("cops_scored_images", "Rows written to scores.")
QUARANTINED = _counter("cops_quarantined_images", "Rows written to quarantine.", "stage", "reason")
IMAGE_BYTES = _counter("cops_image_bytes", "Encoded bytes of the images whose rows were written.")
STAGE_SECONDS = _counter("cops_stage_seconds", "Seconds of work on the images whose rows were written.", "stage")
PLANNED = Metric(name="cops_planned_images", kind="gauge", text="Images of the run that is going on.")
LEFT = Metric(name="cops_left_images", kind="gauge", text="Those of them that are in no table yet.")
# A gauge by its nature. But Ray forgets a gauge 20 s after its process, and the driver ends with its commit.
COMMITTED_AT = _counter("cops_last_commit_timestamp_seconds", "When the run was committed, in seconds since 1970.")

OF_THE_MODEL = (MODEL_IMAGES, BUSY_SECONDS, BATCH_SECONDS)
OF_THE_WRITER = (SCORED, QUARANTINED, IMAGE_BYTES, STAGE_SECONDS)
OF_THE_RUN = (PLANNED, LEFT)
ALL = (*OF_THE_MODEL, *OF_THE_WRITER, *OF_THE_RUN, COMMITTED_AT)


class Meter:
    """Metrics of one run, as this process counts them; of a process that is not Ray's, none."""

    def __init__(self, run_id: str, metrics: tuple[Metric, ...]) -> None:
        self._made: dict[str, Any] = {}
        if ray.is_initialized():
            with _harmless():
                self._made = {metric.name: _made(metric, run_id) for metric in metrics}

    def tell(self, metric: Metric, value: float, **tags: str) -> None:
        """Add to a counter, set a gauge, or put into a histogram."""
        made = self._made.get(metric.name)
        if made is None or (metric.kind == "counter" and value <= 0):  # which Ray refuses
            return
        with _harmless():
            if metric.kind == "counter":
                made.inc(value, tags)
            elif metric.kind == "gauge":
                made.set(value, tags)
            else:
                made.observe(value, tags)


class ModelMeter(Meter):
    """Of one model actor. Its calls may overlap: it is busy while at least one is under way."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id, OF_THE_MODEL)
        self._lock = threading.Lock()
        self._under_way, self._since = 0, 0.0

    @contextlib.contextmanager
    def batch(self, images: int) -> Iterator[None]:
        """Around a call of the model; one that fails takes its time, too, but scores nothing."""
        began = self._turn(1)
        try:
            yield
        finally:
            ended = self._turn(-1)
        self.tell(BATCH_SECONDS, ended - began)
        self.tell(MODEL_IMAGES, images)

    def _turn(self, change: int) -> float:
        """One call more or less under way; when."""
        with self._lock:
            now = time.perf_counter()
            busy_s = now - self._since if self._under_way else 0.0
            self._under_way, self._since = self._under_way + change, now
        self.tell(BUSY_SECONDS, busy_s)
        return now


class RunMeter(Meter):
    """Of the driver, while its `with` block runs: how many images are planned, and how many of them are left."""

    def __init__(self, run_id: str, *, planned: int, done: int) -> None:
        super().__init__(run_id, OF_THE_RUN)
        self.planned, self.done, self.left = planned, done, planned - done
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="telemetry", daemon=True)

    def beside(self, count: Callable[[], tuple[int, int]]) -> Callable[[], tuple[int, int]]:
        """The same count of new images in the tables, of which this meter takes note."""

        def noted() -> tuple[int, int]:
            counted = count()
            self.left = self.planned - self.done - counted[0]
            return counted

        return noted

    def __enter__(self) -> RunMeter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:  # all that was left has been written since the last look
            self.left = 0
            self._say()

    def _repeat(self) -> None:
        self._say()
        while not self._stop.wait(_AGAIN_EVERY_S):
            self._say()

    def _say(self) -> None:
        self.tell(PLANNED, self.planned)
        self.tell(LEFT, self.left)


def tell_written(run_id: str, rows: pa.Table, seconds: Sequence[str]) -> None:
    """Of rows that are in the tables now.

    Args:    seconds: the columns of seconds of work, each named by its stage: read_s.
    """
    with _harmless():
        meter = Meter(run_id, OF_THE_WRITER)
        meter.tell(SCORED, rows["stage"].null_count)
        meter.tell(IMAGE_BYTES, pc.sum(rows["num_bytes"]).as_py() or 0)
        for name in seconds:
            meter.tell(STAGE_SECONDS, pc.sum(rows[name]).as_py() or 0, stage=name.removesuffix("_s"))
        bad = rows.filter(pc.is_valid(rows["stage"])).group_by(["stage", "reason"]).aggregate([([], "count_all")])
        for stage, reason, images in zip(*(column.to_pylist() for column in bad.columns), strict=True):
            meter.tell(QUARANTINED, images, stage=Stage(stage), reason=Reason(reason))


def tell_committed(run_id: str) -> None:
    """Once for each commit: nobody adds to it."""
    Meter(run_id, (COMMITTED_AT,)).tell(COMMITTED_AT, time.time())


def _made(metric: Metric, run_id: str) -> Any:
    tags = (RUN, *metric.tags)
    if metric.kind == "histogram":
        made = ray_metrics.Histogram(metric.name, metric.text, boundaries=list(_BATCH_S), tag_keys=tags)
    else:
        kind = ray_metrics.Counter if metric.kind == "counter" else ray_metrics.Gauge
        made = kind(metric.name, metric.text, tag_keys=tags)
    return made.set_default_tags({RUN: run_id})


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    """A dashboard is not worth a run."""
    try:
        yield
    except Exception:
        log.debug("not counted", exc_info=True)
