"""A first look at a run: what it would score, with which model, and for how long."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import ray

from pipeline.attempt import plan_rows
from pipeline.config import ScoreConfig
from pipeline.decode import DecodeRules
from pipeline.decode_stage import ReadAndDecode
from pipeline.execution import Execution, connect, plan_execution, wanted_tasks
from pipeline.failures import as_run_errors
from pipeline.model import ModelCard, SharedModel, share
from pipeline.plan import PlanSummary, write_plan
from pipeline.publication import check_table
from pipeline.run import Job, prepare
from pipeline.sources import recognise
from pipeline.storage import open_root
from pipeline.worklist import Worklist, make_worklist

_MEASURED_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds an image, measured on a few images of this archive on this hardware; None where none could be read.

    Args:    tables: the URIs of those that the run would be published to, and which of them are there.
    """

    summary: PlanSummary
    card: ModelCard
    execution: Execution
    decode_s: float | None
    score_s: float | None
    cpus: int
    tables: Mapping[str, bool] = field(default_factory=dict)

    @property
    def total_s(self) -> float | None:
        """Decoding and scoring go on side by side: the slower one decides."""
        if self.decode_s is None or self.score_s is None:
            return None
        images = self.summary.planned - self.summary.bad
        decoders = max(1.0, self.cpus - self.execution.max_actors * self.execution.num_cpus)
        return images * max(self.score_s / self.execution.max_actors, self.decode_s / decoders)


def estimate(config: ScoreConfig) -> Estimate:
    """Plan a run in a temporary folder and time a few images. Nothing is written under the output root.

    Raises:  InputError, CheckpointError: as the run itself would.
    """
    with as_run_errors("Nothing was written"):
        job = prepare(config)
        connect()
        execution = plan_execution(config)
        with tempfile.TemporaryDirectory(prefix="cops-plan-") as folder:
            root = open_root(folder)
            sources = [recognise(uri, forced=config.format, image_column=config.image_column) for uri in config.inputs]
            rows = plan_rows(config, sources)
            tables = check_table(config.table, job.layout, rows.metadata) if config.table else {}
            files, summary = write_plan(config, sources, root, root.join("plan"), rows=rows)
            worklist = make_worklist(root, files, summary.planned, tasks=wanted_tasks())
            decoded = _first_images(worklist, folder, job.card, config.decode, rows.metadata)
        decode_s, score_s = _measure(job, execution, decoded)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return Estimate(
        summary=summary,
        card=job.card,
        execution=execution,
        decode_s=decode_s,
        score_s=score_s,
        cpus=cpus,
        tables=tables,
    )


def _measure(job: Job, execution: Execution, decoded: pa.Table) -> tuple[float | None, float | None]:
    """Seconds an image, of decoding and of the model."""
    good = decoded.filter(pa.compute.is_valid(decoded["pixels"]))
    if not len(good):
        return None, None
    decode_s = pa.compute.mean(pa.compute.add(good["decode_s"], good["read_s"])).as_py()
    timed = ray.remote(_time_model).options(num_gpus=execution.num_gpus, num_cpus=execution.num_cpus or 1)
    score_s = ray.get(timed.remote(share(job.model, job.card), execution, good["pixels"].to_pylist()))
    return decode_s, score_s


def _first_images(
    worklist: Worklist, folder: str, card: ModelCard, rules: DecodeRules, metadata: Mapping[str, pa.DataType]
) -> pa.Table:
    """The run's first images, decoded here as its tasks would."""
    first = Worklist(worklist.files, worklist.file[:1], worklist.start[:1], worklist.stop[:1])
    first.stop[:] = first.start + min(_MEASURED_IMAGES, int(first.stop[0] - first.start[0]))
    stage = ReadAndDecode(worklist=first, output=folder, side=card.image_size, rules=rules, metadata=metadata)
    return pa.concat_tables(stage(pa.table({"id": [0]})))


def _time_model(model: SharedModel, execution: Execution, pixels: list[bytes]) -> float:
    """Seconds an image, after a first batch that warms up."""
    import numpy as np  # noqa: PLC0415 -- on the worker

    detector = model.build(execution.device, execution.threads)
    side = model.card.image_size
    batch = np.stack([np.frombuffer(data, np.uint8).reshape(side, side, 3) for data in pixels])
    detector.predict(batch, batch_size=execution.batch_size)
    began = time.perf_counter()
    detector.predict(batch, batch_size=execution.batch_size)
    return (time.perf_counter() - began) / len(batch)
