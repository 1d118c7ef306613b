"""Training by several workers of Ray Train, each with a GPU or a share of the CPUs."""

from __future__ import annotations

import logging
import platform
import shutil
from typing import Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from cops.errors import CopsError
from cops.training.fit import TorchTeam
from pipeline.config import Device
from pipeline.errors import InputError, RunError
from pipeline.execution import connect
from pipeline.store_errors import describe
from pipeline.training.progress import following
from pipeline.training.run import WAY_ON, Job, Outcome, work
from pipeline.training.start import read_base

# Workers wait for one another while features are computed, which may take days on CPUs. Ray itself sees who dies.
_PATIENCE_S = 30 * 24 * 3600

log = logging.getLogger(__name__)


def train_with_ray(job: Job) -> Outcome:
    """Raises:  InputError: there are too few GPUs or CPUs.   RunError: a worker was lost.   And what workers raise."""
    connect()
    found = ray.cluster_resources()
    gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 1))
    count = job.config.count_workers(gpus)
    use_gpu = _use_gpus(job.config.device, count, gpus=gpus, cpus=cpus)
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
    except TrainingFailedError as exc:
        raise RunError(f"Ray Train stopped: {describe(exc)}. {WAY_ON}") from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return outcome


def _use_gpus(device: Device, count: int, *, gpus: int, cpus: int) -> bool:
    """Whether workers have a GPU each, rather than a CPU. Where there are GPUs, only --device cpu leaves them idle.

    Raises:  InputError: there are too few for so many workers.
    """
    use_gpus = device == "cuda" or (device == "auto" and gpus > 0)
    if count <= (gpus if use_gpus else cpus):
        return use_gpus
    kind = "GPU" if use_gpus else "CPU"
    way_out = "; --device cpu trains on CPUs" if device == "auto" and use_gpus else ""
    raise InputError(
        f"--workers {count}: each needs a {kind} of its own; there are {gpus} GPUs and {cpus} CPUs{way_out}"
    )


def _worker(given: dict[str, Any]) -> Outcome:
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


def _first_cause(error: WorkerGroupError) -> CopsError:
    """What a worker refused, as it said it; else what became of it."""
    for failure in error.worker_failures.values():
        if isinstance(failure, CopsError):
            return failure
    rank, failure = next(iter(error.worker_failures.items()))
    return RunError(f"worker {rank} was lost: {describe(failure)}. {WAY_ON}")
