"""Training by several workers of Ray Train, each with a GPU or a share of the CPUs."""

from __future__ import annotations

import logging
import os
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from cops.errors import CopsError
from cops.training.fit import TorchTeam
from pipeline.errors import InputError, RunError
from pipeline.execution import connect
from pipeline.training.config import TrainConfig
from pipeline.training.progress import following
from pipeline.training.start import read_base

if TYPE_CHECKING:
    from pipeline.training.run import Job, Outcome

# Workers wait for one another while features are computed, which may take days on CPUs. Ray itself sees who dies.
_PATIENCE_S = 30 * 24 * 3600

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Resources:
    gpus: int
    cpus: int


def find_count(config: TrainConfig) -> int:
    """How many workers: as many as asked for; else one a GPU, at most one an image of a batch; one without GPUs."""
    if config.workers is not None:
        return config.workers
    if config.device == "cpu":
        return 1
    gpus = _resources().gpus if os.environ.get("RAY_ADDRESS") else torch.cuda.device_count()
    return max(1, min(gpus, config.find_recipe().batch_size))


def train_with_ray(job: Job, count: int) -> Outcome:
    """Raises:  InputError: there are too few GPUs or CPUs.   RunError: a worker was lost.   And what workers raise."""
    found = _resources()
    use_gpu = job.config.device == "cuda" or (job.config.device == "auto" and found.gpus >= count)
    room, kind = (found.gpus, "GPU") if use_gpu else (found.cpus, "CPU")
    if count > room:
        raise InputError(
            f"--workers {count}: each needs a {kind} of its own; there are {found.gpus} GPUs and {found.cpus} CPUs"
        )
    folder = job.folder
    folder.root.mkdir(parents=True, exist_ok=True)
    scratch = folder.root / ".ray"  # Ray Train wants a place for checkpoints of its own, of which there are none
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(timeout_s=_PATIENCE_S),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=use_gpu),
        run_config=RunConfig(storage_path=str(scratch), name="training"),
    )
    log.info("%d workers, each with %s", count, "a GPU" if use_gpu else "a CPU")
    try:
        with following(folder.messages):
            outcome: Outcome = trainer.fit().return_value
    except WorkerGroupError as exc:
        raise _first_cause(exc) from exc
    except (TrainingFailedError, ray.exceptions.RayError) as exc:
        raise RunError(f"Ray Train stopped: {exc}. The same command goes on from the last epoch") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return outcome


def _worker(given: dict[str, Any]) -> Outcome:
    from pipeline.training.run import work  # noqa: PLC0415 -- which starts this module

    job: Job = given["job"]
    if not job.folder.root.is_dir():
        raise InputError(
            f"--output: there is no {job.folder.root} on node {platform.node()}; workers on several machines need "
            "a folder that all of them share"
        )
    base = read_base(job.config)
    if base.checkpoint.model_id() != job.identity["base_model"]["model_id"]:
        raise InputError("this node reads another --model than the command did; give one that all nodes share")
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return work(job, base, TorchTeam(), device)


def _resources() -> _Resources:
    connect()
    found = ray.cluster_resources()
    return _Resources(int(found.get("GPU", 0)), int(found.get("CPU", 1)))


def _first_cause(error: WorkerGroupError) -> CopsError:
    """What a worker refused, as it said it; else what became of it."""
    for failure in error.worker_failures.values():
        if isinstance(failure, CopsError):
            return failure
    rank, failure = next(iter(error.worker_failures.items()))
    way_on = "The same command goes on from the last epoch"
    return RunError(f"worker {rank} was lost: {type(failure).__name__}: {failure}. {way_on}")
