"""One run, from input to committed tables: plan → read and decode → Scorer → localize → write → commit."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
import torch
from ray.data import ActorPoolStrategy

import cops
from cops.model import UNTRAINED
from pipeline import commit
from pipeline.attempt import (
    Plan,
    Remaining,
    check_identity,
    find_or_make_plan,
    has_plan,
    identity,
    remaining,
    to_commit,
)
from pipeline.claim import Claim, last_holder, take_claim
from pipeline.cluster_log import nodes_watched, workers_heard
from pipeline.config import ScoreConfig
from pipeline.decode_stage import ReadAndDecode
from pipeline.errors import ClaimError, InputError
from pipeline.execution import TASKS_AHEAD, Execution, connect, plan_execution, rows_per_call, wanted_tasks
from pipeline.failures import after_the_commit, as_run_errors
from pipeline.incremental import known_bad
from pipeline.layout import TABLES, RunLayout
from pipeline.localize import Localize
from pipeline.model import ModelCard, builder, card_of, read_model, share
from pipeline.parts import rows_in_parts
from pipeline.places import check_inputs, check_output
from pipeline.progress import Progress
from pipeline.publication import check_table
from pipeline.runs import read_record
from pipeline.schema import RUN_FORMAT
from pipeline.scorer import Scorer
from pipeline.storage import remove_tree
from pipeline.store_errors import with_patience
from pipeline.telemetry import RunMeter, tell_committed
from pipeline.thresholds import Threshold, Thresholds, read_thresholds, warn_of_other_groups
from pipeline.top import TopImage, read_top
from pipeline.worklist import Worklist, rows_per_part
from pipeline.write import PartWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a run is asked to do, with its model and thresholds read."""

    config: ScoreConfig
    layout: RunLayout
    model: cops.Checkpoint
    card: ModelCard
    thresholds: Thresholds
    identity: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The committed record; `was_complete` where there was nothing left to do. `top` are the highest scores."""

    record: dict[str, Any]
    layout: RunLayout
    card: ModelCard
    was_complete: bool
    top: list[TopImage] = field(default_factory=list)


def score(config: ScoreConfig, *, top: int = 0, execution: Execution | None = None) -> RunResult:
    """Score every image of the inputs, once, and commit; or finish what an earlier attempt of the run left.

    That the run can be published into its table is made sure of first; `pipeline.publication` publishes it.
    Args:    top: how many of the highest scores to return with their pictures.
             execution: where the model runs; chosen for the cluster where None.
    Raises:  InputError: the request cannot be met as it stands.   CheckpointError: the model cannot be used.
             RunError: the run was not committed; the same command may be given again.
    """
    way_on = f"What is scored is kept; give the same command with --run-id {config.run_id} to go on"
    with as_run_errors(way_on):
        job = prepare(config)
        return score_job(job, top=top, execution=execution)


def score_job(job: Job, *, top: int = 0, execution: Execution | None = None) -> RunResult:
    """As `score`, of what is prepared already; a store's and Ray's own errors come as they are."""
    config = job.config
    if complete := _complete(job):
        holder = last_holder(job.layout)
        if not (holder and holder.lives):  # it was ended between its commit and here; else it is just about to go
            _clear_up(job.layout)
        return complete
    if not has_plan(job.layout):
        check_inputs(config)
    connect()
    execution = execution or plan_execution(config)
    try:
        with take_claim(job.layout) as claim, workers_heard(), nodes_watched():
            # Another process may have finished while we watched its claim.
            result = _complete(job) or _attempt(job, claim, execution, top)
    except InputError:
        if not has_plan(job.layout):  # nothing was begun: nothing is left
            remove_tree(job.layout.root.fs, job.layout.work_dir)
        raise
    _clear_up(job.layout)  # now that nobody renews the claim in it
    return result


def _clear_up(layout: RunLayout) -> None:
    """Remove what a run needs while it goes on: its plan has addresses as they were given."""
    folder = layout.root.uri(layout.work_dir)
    after_the_commit(
        lambda: with_patience(lambda: remove_tree(layout.root.fs, layout.work_dir), folder),
        otherwise=None,
        but=f"its folder {folder} could not be removed",
    )


def prepare(config: ScoreConfig, model: cops.Checkpoint | None = None) -> Job:
    """What a run needs, read and checked; a model that was read before is taken as it is.

    Raises:  InputError, CheckpointError, ConfigError: output, table, model or thresholds cannot be used.
    """
    check_output(config)
    layout = RunLayout.at(config.output, config.run_id)
    if config.table:
        check_table(config.table, layout)
    model = model or read_model(config.model, config.clip_weights)
    card = card_of(model, config)
    thresholds = choose_thresholds(config, card)
    return Job(
        config=config,
        layout=layout,
        model=model,
        card=card,
        thresholds=thresholds,
        identity=identity(config, card, thresholds),
    )


def images_flow(job: Job, worklist: Worklist, plan: Plan, execution: Execution) -> ray.data.Dataset:
    """One image's way, up to the writer. Every stage may run twice with the same result."""
    config, card, metadata = job.config, job.card, plan.metadata
    read_and_decode = ReadAndDecode(
        worklist=worklist, output=config.output, side=card.image_size, rules=config.decode, metadata=metadata
    )
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = execution.no_progress_s
    scorer = {
        "model_id": card.model_id,
        "side": card.image_size,
        "batch_size": execution.batch_size,
        "metadata": metadata,
        "out_of_memory": torch.OutOfMemoryError,
        "patience": execution.patience,
        "run_id": config.run_id,
    }
    pool = ActorPoolStrategy(
        min_size=execution.min_actors,
        max_size=execution.max_actors,
        max_tasks_in_flight_per_actor=execution.calls_per_actor + TASKS_AHEAD - 1,
        max_concurrent_calls_per_actor=execution.calls_per_actor,
        enable_true_multi_threading=execution.calls_per_actor > 1,
    )
    localize = Localize(
        thresholds=job.thresholds, image_size=card.image_size, sigma_px=card.sigma_px, metadata=metadata
    )
    return (
        ray.data.range(len(worklist), override_num_blocks=len(worklist))
        .map_batches(
            read_and_decode,
            batch_size=None,
            batch_format="pyarrow",
            memory=execution.decode_memory,
            num_cpus=execution.decode_cpus,
        )
        .map_batches(
            Scorer,
            batch_size=rows_per_call(worklist.rows, execution),
            batch_format="pyarrow",
            compute=pool,
            num_gpus=execution.num_gpus,
            num_cpus=execution.num_cpus,
            fn_constructor_args=(builder(share(job.model, card), execution.device, execution.threads),),
            fn_constructor_kwargs=scorer,
        )
        .map_batches(
            localize,
            batch_size=None,
            batch_format="pyarrow",
            memory=execution.localize_memory,
            num_cpus=execution.tail_cpus,
        )
    )


def choose_thresholds(config: ScoreConfig, card: ModelCard) -> Thresholds:
    """Raises:  InputError: the thresholds' table cannot be used with this model."""
    if config.thresholds:
        return read_thresholds(config.thresholds, card.model_id, config.decode.record())
    return Thresholds(Threshold(config.image_threshold, config.pixel_threshold))


def _check_columns(job: Job, metadata: Mapping[str, pa.DataType]) -> None:
    """Raises:  InputError: thresholds are by columns that the run lacks, or a table does not take those that it has."""
    job.thresholds.require_columns({"category": pa.string(), **metadata}, where="this run")
    if job.config.table:
        check_table(job.config.table, job.layout, metadata, make=True)


def plan_line(plan: Plan, work: Remaining, execution: Execution) -> str:
    beside = f", {work.done:,} of them done already" if work.done else ""
    actors = f"{execution.min_actors}" if execution.min_actors == execution.max_actors else (
        f"{execution.min_actors} to {execution.max_actors}"
    )  # fmt: skip
    noun = "model actor" if actors == "1" else "model actors"
    return f"{plan.summary.planned:,} images planned{beside}; {actors} {noun} on {execution.device}"


def _attempt(job: Job, claim: Claim, execution: Execution, top: int) -> RunResult:
    """Plan, score what is left, commit. Raises as `score` does."""
    layout, began, started_at = job.layout, time.monotonic(), _now()
    plan = find_or_make_plan(job.config, layout, job.card, job.identity, check=partial(_check_columns, job))
    work = remaining(layout, plan, claim.number, tasks=wanted_tasks(execution))
    log.info("%s", plan_line(plan, work, execution))
    images_per_s = _write_out(job, plan, work, execution, claim) if len(work.worklist) else 0.0
    place = layout.root.uri()
    with_patience(claim.check, place)
    parts = to_commit(layout, work.parts, claim.number)
    with_patience(lambda: commit.verify(layout, plan.files, parts), place)
    files = with_patience(lambda: commit.data_files(layout, parts), place)
    record = _record(job, plan, execution, files)
    record["warnings"] += with_patience(
        lambda: warn_of_other_groups(job.thresholds, layout.root, parts["scores"]), place
    )
    if job.config.incremental:
        bad = parts["quarantine"]
        record["counts"]["known_bad"] = with_patience(lambda: known_bad(layout, job.config.output, bad), place)
    record |= {
        "attempts": claim.number,
        "started_at": started_at,
        "committed_at": _now(),
        "images_per_s": round(images_per_s, 3),
    }
    record["seconds"]["wall"] = round(time.monotonic() - began, 3)  # of this attempt
    with_patience(claim.check, place)
    try:
        layout.write_json(layout.commit_path, record, once=True)
    except FileExistsError as exc:
        raise ClaimError(f"run {layout.run_id!r} was committed by another process at this moment") from exc
    tell_committed(layout.run_id)
    highest = _highest(job, plan, parts["scores"], top)
    return RunResult(record=record, layout=layout, card=job.card, was_complete=False, top=highest)


def _write_out(job: Job, plan: Plan, work: Remaining, execution: Execution, claim: Claim) -> float:
    """Let the flow run into its parts, counting them as they appear; images per second.

    Raises:  ClaimError: another process took the run over.   RunError: Ray or the store failed; what was written stays,
             and the same command goes on from there.
    """
    began, rows = time.monotonic(), work.worklist.rows
    sink = PartWriter(
        job.layout,
        attempt=claim.number,
        model_id=job.card.model_id,
        metadata=plan.metadata,
        rows_per_part=rows_per_part(rows),
    )
    flow = images_flow(job, work.worklist, plan, execution)
    planned, count = plan.summary.planned, partial(_new_images, job.layout, work)
    meter = RunMeter(job.layout.run_id, planned=planned, done=work.done)
    with meter, Progress(total=planned, done=work.done, count=meter.beside(count)):
        try:
            flow.write_datasink(sink, ray_remote_args={"num_cpus": execution.tail_cpus})
        except (ray.exceptions.RayError, OSError):
            claim.check()  # where another process took the run over, that is what to say
            raise
    return rows / (time.monotonic() - began)


def _new_images(layout: RunLayout, work: Remaining) -> tuple[int, int]:
    """Images in parts of this attempt, and parts with bad ones among them: two LISTs, no file is opened."""
    scores, bad = ([path for path in layout.parts(table) if path not in work.parts] for table in TABLES)
    return rows_in_parts([*scores, *bad]), len(bad)


def _complete(job: Job) -> RunResult | None:
    record = read_record(job.layout)
    if record is None:
        return None
    check_identity(record["config"], job.identity, job.layout.run_id)
    return RunResult(record=record, layout=job.layout, card=job.card, was_complete=True)


def _record(job: Job, plan: Plan, execution: Execution, files: list[commit.DataFile]) -> dict[str, Any]:
    """What a run says of itself, but for its times."""
    card, summary = job.card, plan.summary
    skipped = {"skipped": summary.skipped, "duplicates": summary.duplicates, "unmatched": summary.unmatched}
    return {
        "format": RUN_FORMAT,
        "status": "complete",
        "run_id": job.layout.run_id,
        "config": job.identity,
        "execution": asdict(execution) | {"max_error_fraction": job.config.max_error_fraction},
        "model_id": card.model_id,
        "model": {
            "name": card.name,
            "method": card.method,
            "precision": card.precision,
            "trained": card.trained,
            "image_size": card.image_size,  # with sigma_px, what a map is rebuilt by
            "sigma_px": card.sigma_px,
            "provenance": card.provenance,
        },
        "warnings": warnings_of(card),
        "versions": commit.versions(),
        "git_commit": commit.git_commit(),
        "counts": {"planned": summary.planned, **commit.counts_of(files), **skipped},
        "ignored_files": summary.ignored,
        "seconds": commit.seconds_of(files),
        "files": commit.file_records(files),
    }


def _highest(job: Job, plan: Plan, parts: list[str], count: int) -> list[TopImage]:
    """The highest scores, while the plan still says where the pictures lie."""
    return after_the_commit(
        lambda: read_top(job.layout.root, parts, plan.files, job.config.decode, count),
        otherwise=[],
        but="its highest scores could not be shown",
    )


def warnings_of(card: ModelCard) -> list[str]:
    return [] if card.trained else [UNTRAINED]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
