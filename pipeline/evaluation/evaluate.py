"""One evaluation: read the dataset → score it, a committed run for each method → count → measure → write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cops import Checkpoint, ConfigError
from pipeline.config import DatasetName, Device, Method, Precision, ScoreConfig, new_run_id
from pipeline.datasets import Dataset, read_dataset
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.evaluation.counting import Counted, CountMaps, count_categories, signed_masks
from pipeline.evaluation.measures import CategoryMeasures, measure
from pipeline.execution import Execution, connect, plan_execution
from pipeline.failures import as_run_errors
from pipeline.model import read_model
from pipeline.run import Job, RunResult, prepare, score_job
from pipeline.runs import files_of, open_run
from pipeline.storage import Root

METHODS: dict[Method, str] = {"cops": "CoPS", "clip": "CLIP"}  # as tables name them

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One run of jobs/evaluate.py. Raises InputError where a value cannot be meant."""

    dataset: DatasetName
    data: str
    output: str
    model: str = "embedded"
    clip_weights: str | None = None
    baseline: bool = False
    run_id: str = field(default_factory=new_run_id)
    batch_size: int | None = None
    actors: str | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    max_error_fraction: float = 0.01
    limit: int | None = None
    decode: DecodeRules = field(default_factory=DecodeRules)

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise InputError("--data: expected a folder or manifest, got an empty path; is a variable not set?")
        self.scoring()

    def scoring(self) -> tuple[ScoreConfig, ...]:
        """The runs that an evaluation consists of: CoPS under the run's id, the baseline under that with `-clip`."""
        of_cops = ScoreConfig(
            inputs=(self.data,),
            format=self.dataset,
            output=self.output,
            model=self.model,
            clip_weights=self.clip_weights,
            run_id=self.run_id,
            batch_size=self.batch_size,
            actors=self.actors,
            device=self.device,
            precision=self.precision,
            max_error_fraction=self.max_error_fraction,
            limit=self.limit,
            decode=self.decode,
        )
        of_clip = replace(of_cops, method="clip", run_id=f"{self.run_id}-clip")
        return (of_cops, of_clip) if self.baseline else (of_cops,)


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """One method on one dataset. `bad` are the images that could not be scored: rows of the quarantine."""

    method: str
    run: RunResult
    categories: Sequence[CategoryMeasures]
    bad: Sequence[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A dataset with what each method makes of it. `backbone` and `image_size` are the model's."""

    config: EvaluateConfig
    dataset: Dataset
    root: Root
    backbone: str | dict[str, Any]
    image_size: int
    results: Sequence[MethodResult]


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Score a labelled dataset, or find it scored, and measure; nothing of the measuring is written yet.

    Raises:  InputError: the dataset is laid out in another way, the model does not know the words of the baseline, or
             the request cannot be met as it stands.
             CheckpointError, ConfigError: the model cannot be used.
             RunError: it was not finished; the same command may be given again.
    """
    with as_run_errors(f"What is scored is kept; give the same command with --run-id {config.run_id} to go on"):
        dataset = read_dataset(config.dataset, config.data)
        runs = config.scoring()
        model = read_model(runs[0].model, runs[0].clip_weights)
        jobs = [_prepared(run, model) for run in runs]
        connect()
        execution = plan_execution(runs[0])
        results = [_result(dataset, job, execution) for job in jobs]
    return Evaluation(
        config=config,
        dataset=dataset,
        root=jobs[0].layout.root,
        backbone=model.config.backbone,
        image_size=model.config.image_size,
        results=results,
    )


def _prepared(run: ScoreConfig, model: Checkpoint) -> Job:
    try:
        return prepare(run, model)
    except ConfigError as exc:
        if run.method == "cops":
            raise
        raise InputError(
            f"--baseline: {exc}. Give a model that knows the words of the prompts, or leave it out"
        ) from exc


def _result(dataset: Dataset, job: Job, execution: Execution) -> MethodResult:
    method = METHODS[job.config.method]
    run = score_job(job, execution=execution)
    log.info("%s: %s scored, measuring", method, f"{run.record['counts']['scored']:,} images")
    count = CountMaps(image_size=job.card.image_size, sigma_px=job.card.sigma_px, rules=job.config.decode)
    with_masks = {image.category for image in dataset.images if image.label == 1 and image.mask_uri}
    parts = files_of(run.record, job.layout, "scores")
    found = count_categories(
        job.layout.root,
        parts,
        count,
        with_masks=with_masks,
        memory=execution.decode_memory,
        mask_paths=signed_masks(dataset),
    )
    measures = {category: measure(category, counted) for category, counted in found}
    bad = open_run(job.config.output, job.config.run_id).quarantine.to_table().to_pylist()
    lost = {row["image_uri"] for row in bad}
    for category in {image.category for image in dataset.images if image.image_uri in lost} - measures.keys():
        measures[category] = measure(category, Counted())  # not one of its images could be scored
    return MethodResult(method=method, run=run, categories=[measures[name] for name in sorted(measures)], bad=bad)
