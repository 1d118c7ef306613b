"""One run, from input to committed tables: plan → read and decode → Scorer → localize → write → commit."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray.data
import torch
from ray.data import ActorPoolStrategy

from pipeline import commit
from pipeline.attempt import Plan, Remaining, check_identity, find_or_make_plan, identity, remaining, remove_strays
from pipeline.claim import require_claim, take_claim
from pipeline.config import ScoreConfig
from pipeline.decode_stage import ReadAndDecode
from pipeline.errors import ClaimError, RunError
from pipeline.execution import TASKS_AHEAD, Execution, connect, plan_execution
from pipeline.layout import TABLES, RunLayout
from pipeline.localize import Localize
from pipeline.model import ModelCard, SharedModel, builder, card_of, read_model, share
from pipeline.progress import Progress
from pipeline.runs import read_record
from pipeline.schema import RUN_FORMAT
from pipeline.scorer import Scorer
from pipeline.storage import remove_tree
from pipeline.thresholds import Threshold, Thresholds, read_thresholds
from pipeline.top import TopImage, read_top
from pipeline.worklist import Worklist, rows_per_part
from pipeline.write import PartWriter, rows_in_parts

# A decode task in the worst case: 64 MB of encoded images, one of them as 300 MB of RGB, 128 MB of results. Ray starts
# no more of them than fit the node; and stages of unlike needs it does not fuse, so the model's actors never decode.
_DECODE_MEMORY = 512 * 2**20

log = logging.getLogger(__name__)


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

    Args:    top: how many of the highest scores to return with their pictures.
             execution: where the model runs; chosen for the cluster where None.
    Raises:  InputError: the request cannot be met as it stands.   CheckpointError: the model cannot be used.
             RunError: the run was not committed; the same command may be given again.
    """
    layout = RunLayout.at(config.output, config.run_id)
    checkpoint = read_model(config)
    card = card_of(checkpoint, config)
    thresholds = choose_thresholds(config, card)
    this_run = identity(config, card, thresholds)
    if complete := _complete(layout, this_run, card):
        return complete
    connect()
    execution = execution or plan_execution(config)
    with take_claim(layout) as claim:
        if complete := _complete(
            layout, this_run, card
        ):  # another process may have finished while we watched its claim
            return complete
        began, started_at = time.monotonic(), _now()
        plan = find_or_make_plan(config, layout, card, this_run)
        work = remaining(layout, plan, claim.number)
        log.info("%s", plan_line(plan, work, execution))
        images_per_s = 0.0
        if len(work.worklist):
            model = share(checkpoint, card)
            flow = images_flow(work.worklist, model, plan, config, execution, thresholds)
            sink = PartWriter(
                layout,
                attempt=claim.number,
                model_id=card.model_id,
                metadata=plan.metadata,
                rows_per_part=rows_per_part(work.worklist.rows),
            )
            images_per_s = _write_out(flow, sink, plan, work, execution)
        claim.check()
        remove_strays(layout, work.parts, claim.number)
        record = _commit(
            layout, this_run, card, plan, attempts=claim.number, started_at=started_at,
            wall_s=time.monotonic() - began, images_per_s=images_per_s,
        )  # fmt: skip
        highest = read_top(layout, plan.files, config.decode, top)  # while the plan still says where pictures lie
        remove_tree(layout.root.fs, layout.work_dir)
    return RunResult(record=record, layout=layout, card=card, was_complete=False, top=highest)


def images_flow(
    worklist: Worklist,
    model: SharedModel,
    plan: Plan,
    config: ScoreConfig,
    execution: Execution,
    thresholds: Thresholds,
) -> ray.data.Dataset:
    """One image's way, up to the writer. Every stage may run twice with the same result."""
    card, metadata, batch = model.card, plan.metadata, execution.batch_size
    read_and_decode = ReadAndDecode(
        worklist=worklist, output=config.output, side=card.image_size, rules=config.decode, metadata=metadata
    )
    scorer = {
        "model_id": card.model_id,
        "side": card.image_size,
        "batch_size": batch,
        "metadata": metadata,
        "out_of_memory": torch.OutOfMemoryError,
    }
    pool = ActorPoolStrategy(
        min_size=execution.min_actors, max_size=execution.max_actors, max_tasks_in_flight_per_actor=TASKS_AHEAD
    )
    localize = Localize(thresholds=thresholds, image_size=card.image_size, sigma_px=card.sigma_px, metadata=metadata)
    return (
        ray.data.range(len(worklist), override_num_blocks=len(worklist))
        .map_batches(
            read_and_decode,
            batch_size=None,
            batch_format="pyarrow",
            memory=_DECODE_MEMORY,
            num_cpus=execution.decode_cpus,
        )
        .map_batches(
            Scorer,
            batch_size=batch,
            batch_format="pyarrow",
            compute=pool,
            num_gpus=execution.num_gpus,
            num_cpus=execution.num_cpus,
            fn_constructor_args=(builder(model, execution.device, execution.threads),),
            fn_constructor_kwargs=scorer,
        )
        .map_batches(localize, batch_size=None, batch_format="pyarrow", num_cpus=execution.tail_cpus)
    )


def choose_thresholds(config: ScoreConfig, card: ModelCard) -> Thresholds:
    """Raises:  InputError: the thresholds' table cannot be used with this model."""
    if config.thresholds:
        return read_thresholds(config.thresholds, card.model_id)
    return Thresholds(Threshold(config.image_threshold, config.pixel_threshold))


def plan_line(plan: Plan, work: Remaining, execution: Execution) -> str:
    beside = f", {work.done:,} of them done already" if work.done else ""
    actors = f"{execution.min_actors}" if execution.min_actors == execution.max_actors else (
        f"{execution.min_actors} to {execution.max_actors}"
    )  # fmt: skip
    return f"{plan.summary.planned:,} images planned{beside}; {actors} model actors on {execution.device}"


def _write_out(flow: ray.data.Dataset, sink: PartWriter, plan: Plan, work: Remaining, execution: Execution) -> float:
    """Let the flow run into its parts, counting them as they appear; images per second.

    Raises:  ClaimError: another process took the run over.   RunError: Ray or the store failed; what was written stays,
             and the same command goes on from there.
    """
    began = time.monotonic()
    with Progress(total=plan.summary.planned, done=work.done, count=partial(_new_images, sink.layout, work)):
        try:
            flow.write_datasink(sink, ray_remote_args={"num_cpus": execution.tail_cpus})
        except (ray.exceptions.RayError, OSError) as exc:
            log.debug("%s", exc)
            require_claim(sink.layout, sink.attempt)
            raise RunError(
                f"the run stopped: {innermost(exc)}. What is scored is kept; give the same command with "
                f"--run-id {sink.layout.run_id} to go on"
            ) from exc
    return work.worklist.rows / (time.monotonic() - began)


def _new_images(layout: RunLayout, work: Remaining) -> tuple[int, int]:
    """Images in parts of this attempt, and parts with bad ones among them: two LISTs, no file is opened."""
    scores, bad = ([path for path in layout.parts(table) if path not in work.parts] for table in TABLES)
    return rows_in_parts([*scores, *bad]), len(bad)


def innermost(error: BaseException) -> str:
    """The first cause, in one line. Ray sends errors home as text: a traceback for each, the cause's own first."""
    first = str(error).partition("The above exception was the direct cause")[0]
    return first.strip().rpartition("\n")[2].strip()


def _complete(layout: RunLayout, this_run: Mapping[str, Any], card: ModelCard) -> RunResult | None:
    record = read_record(layout)
    if record is None:
        return None
    check_identity(record["config"], this_run, layout.run_id)
    return RunResult(record=record, layout=layout, card=card, was_complete=True)


def _commit(
    layout: RunLayout,
    this_run: Mapping[str, Any],
    card: ModelCard,
    plan: Plan,
    *,
    attempts: int,
    started_at: str,
    wall_s: float,
    images_per_s: float,
) -> dict[str, Any]:
    """Raises:  RunError: the tables do not hold the plan.   ClaimError: another process committed first."""
    commit.verify(layout, plan.files)
    files = commit.data_files(layout)
    counts = commit.counts_of(files)
    record = {
        "format": RUN_FORMAT,
        "status": "complete",
        "run_id": layout.run_id,
        "started_at": started_at,
        "committed_at": _now(),
        "attempts": attempts,
        "config": dict(this_run),
        "model_id": card.model_id,
        "model": {"name": card.name, "trained": card.trained, "provenance": card.provenance},
        "warnings": warnings_of(card),
        "versions": commit.versions(),
        "git_commit": commit.git_commit(),
        "counts": {"planned": plan.summary.planned, **counts, "skipped": plan.summary.skipped}
        | {"duplicates": plan.summary.duplicates},
        "ignored_files": plan.summary.ignored,
        "seconds": commit.seconds_of(files) | {"wall": round(wall_s, 3)},
        "images_per_s": round(images_per_s, 3),
        "files": commit.file_records(files),
    }
    try:
        layout.write_json(layout.commit_path, record, once=True)
    except FileExistsError as exc:
        raise ClaimError(f"run {layout.run_id!r} was committed by another process at this moment") from exc
    return record


def warnings_of(card: ModelCard) -> list[str]:
    return [] if card.trained else [UNTRAINED]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


UNTRAINED = (
    "The model is untrained: its weights are random. Scores and masks show that the pipeline runs; "
    "they say nothing about the pictures."
)
