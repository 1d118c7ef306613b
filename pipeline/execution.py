"""Where the work runs: this machine or a Ray cluster, how many model actors, with what."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.data import DataContext, Dataset

from pipeline.cluster_log import quieten_ray
from pipeline.config import ScoreConfig
from pipeline.decode import PEAK_BYTES_PER_PIXEL
from pipeline.errors import InputError, RunError
from pipeline.local_ray import start_local_ray
from pipeline.machines import START_S, Machines, may_come, wait_for
from pipeline.watchdog import Patience

_PACKAGES = Path(__file__).resolve().parents[1]  # holds cops/ and pipeline/
_OBJECT_STORE_BYTES = 2 * 2**30  # at least, for blocks in flight and the model
_OBJECT_STORE_BYTES_PER_CPU = 2**28  # what a CPU decodes ahead of the models: two blocks of 64 images
_NO_PROGRESS_S = 600.0  # and a call of the model's: then Ray Data ends the run, and says what stood still
_PLANNING_S = 3600.0  # as long for the shards' index: one of a million members takes its time
_SILENT_S = 60.0  # without a sign of life from an actor: then it is ended, and another takes its place
_BATCH_S = 60.0  # for a batch of the model, and so much an image more: then it is stuck, and ended, too
_IMAGE_S = {"cuda": 5.0, "cpu": 30.0}
_CPU_BATCH, _GPU_BATCH = 4, 32
_TASK_BYTES = 256 * 2**20  # of a task beside its largest picture: 64 MiB encoded, its results, Python
_LOCALIZE_BYTES_PER_PIXEL = 16  # a picture that is hot all over: map, labels, masks
TASKS_AHEAD = 2  # calls queued at each actor, so that it never waits
_TASKS_PER_CPU, _LEAST_TASKS = 32, 128  # a task of Ray's costs some ten milliseconds of processor time, all told
_CALLS = 32  # of each actor at least, so that its stages overlap and the first scores come early
_CALL_ROWS = 64  # at most in a call

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The model's actor pool: how many, of what size, on which device."""

    device: str
    min_actors: int
    max_actors: int
    num_gpus: float
    num_cpus: float
    threads: int
    batch_size: int
    calls_per_actor: int = 1  # at a time; on a GPU two, so that one prepares and hands on while the other computes
    decode_cpus: float = 1.0
    tail_cpus: float = 0.25  # of localizing and writing, which are light
    decode_memory: int = 2**30  # bytes; Ray starts no more tasks than fit the node
    localize_memory: int = 2**30
    machines_come: bool = False  # the cluster grows to max_actors while the run goes on
    cpus: int = 0  # that it will have then

    @property
    def patience(self) -> Patience:
        return Patience(silent_s=_SILENT_S, work_s=_BATCH_S + _IMAGE_S[self.device] * self.batch_size)

    @property
    def no_progress_s(self) -> float:
        """How long nothing may move in the whole flow, s: the model's calls, which may be long, come out whole.

        Where machines come and go, all of them may be taken back at once: then as long as others take to start, too.
        """
        start_s = START_S if self.machines_come else 0.0
        return start_s + _NO_PROGRESS_S + _IMAGE_S[self.device] * max(_CALL_ROWS, self.batch_size)


def wanted_tasks(execution: Execution | None = None) -> int:
    """Into how many tasks work on images or shards is cut: enough to keep every CPU of the cluster busy to the end."""
    return max(_LEAST_TASKS, _TASKS_PER_CPU * max(Machines.there().cpus, execution.cpus if execution else 0))


def rows_per_call(rows: int, execution: Execution) -> int:
    """How many images an actor is handed at once: whole batches of the model's."""
    wanted = min(_CALL_ROWS, rows // (_CALLS * execution.max_actors))
    return max(1, wanted // execution.batch_size) * execution.batch_size


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names (Ray sets it within a job), or start Ray on this machine.

    Workers import `cops` and `pipeline` from the files of this very process, installed there or not.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ core talks of inner matters on stderr
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of tasks that end with a job that was stopped
        with _own_sigterm():
            if address := os.environ.get("RAY_ADDRESS"):
                _join(address)
            else:
                start_local_ray(
                    _PACKAGES, object_store_memory=object_store_bytes(os.cpu_count() or 1, _shared_memory_bytes())
                )
    quieten_ray()
    _let_go_of_unmade_datasets()
    context = DataContext.get_current()
    context.enable_progress_bars = False  # ours counts images
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = _PLANNING_S
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(
            handler, logging.StreamHandler
        ):  # stderr, where we tell what ends a run in one line; files get all
            handler.setLevel(logging.CRITICAL)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # that its bars are off is our doing


def _let_go_of_unmade_datasets() -> None:
    """One that Ctrl-C stops in its making has no executor yet; asked for it at its end, it would print a traceback."""
    Dataset._current_executor = None


def _join(address: str) -> None:
    """Raises:  InputError: it is no address.   RunError: the cluster does not answer, or is of another version."""
    # Tries, of 40 s each where nobody answers; Ray's own 20 take a quarter of an hour.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "2")
    packages = [str(_PACKAGES / name) for name in ("cops", "pipeline")]
    try:
        ray.init(runtime_env={"py_modules": packages}, logging_level=logging.ERROR)
    except (ValueError, RuntimeError, ConnectionError) as exc:
        why = str(exc).strip().partition("\n")[0][:300]
        if isinstance(exc, ValueError):
            expected = "the host:port of a Ray cluster's head, or auto"
            raise InputError(f"RAY_ADDRESS: expected {expected}; got {address!r:.200} ({why})") from exc
        raise RunError(f"the Ray cluster at {address} (RAY_ADDRESS) cannot be joined: {why}") from exc


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """What SIGTERM does stays what it was. Ray would have it print a stack of C++ and abort."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as exc:  # Ray's answer to one that comes while it starts
        raise KeyboardInterrupt from exc
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def object_store_bytes(cpus: int, shared_memory: int) -> int:
    """What blocks in flight may take: more where more is decoded at once, half of the shared memory at most.

    Ray's own default is 30 % of the machine's memory, which our users' other programs want.
    """
    return max(_OBJECT_STORE_BYTES, min(cpus * _OBJECT_STORE_BYTES_PER_CPU, shared_memory // 2))


def _shared_memory_bytes() -> int:
    shared = Path("/dev/shm")  # noqa: S108 -- asked for its size; Ray puts the store there
    return shutil.disk_usage(shared).free if shared.is_dir() else 0


def plan_execution(config: ScoreConfig) -> Execution:
    """Actors for what the cluster has: one a GPU; without GPUs, half of the CPUs go to models, half to the rest.

    A cluster that RAY_ADDRESS names may grow: what --device and --actors want at the least is asked of it, and waited
    for; at the most --actors may name more than there is.
    Raises:  InputError: a GPU is asked for and there is none, or more actors than can ever run.
             RunError: the machines asked for did not come.
    """
    device = _choose_device(config, Machines.there())
    wanted = config.actor_range()
    low = wanted[0] if wanted else 1
    had = _room(device, Machines.there())
    if low > had and may_come():
        log.info("the cluster has room for %d model actors on %s: asked for %d", had, device, low)
        wait_for(low, "GPU" if device == "cuda" else "CPU", patience_s=START_S)
    machines = Machines.there()
    room = _room(device, machines)
    if low > room:
        there = f"this cluster has room for {room} ({machines.gpus} GPUs, {machines.cpus} CPUs)"
        if may_come():
            raise RunError(f"--actors {config.actors}: {there}: machines that came are gone again")
        raise InputError(f"--actors {config.actors}: {there}")
    high = wanted[1] if wanted else max(low, room if device == "cuda" else machines.cpus // 2)
    max_actors = high if may_come() else min(high, room)
    return _execution(config, device, machines, low, max_actors, machines_come=max_actors > had)


def _choose_device(config: ScoreConfig, machines: Machines) -> str:
    """Raises:  InputError: there is no GPU nor will be, or nothing says which machines there will be."""
    if config.device == "cuda" and not machines.gpus and not may_come():
        raise InputError("--device cuda: no node of this Ray cluster has a GPU")
    if config.device == "auto" and not machines.count and may_come():
        raise InputError(
            "--device auto: this cluster has no machine yet that takes work, so nothing says whether it will have "
            "GPUs; expected --device cuda or cpu, and --actors MIN:MAX"
        )
    if config.device == "auto":
        return "cuda" if machines.gpus else "cpu"
    return config.device


def _room(device: str, machines: Machines) -> int:
    """Actors that can run at once; a CPU must be left for decoding."""
    return machines.gpus if device == "cuda" else max(min(1, machines.cpus), machines.cpus - 1)


def _execution(
    config: ScoreConfig, device: str, machines: Machines, low: int, high: int, *, machines_come: bool
) -> Execution:
    cpus, gpus = max(1, machines.cpus), device == "cuda"
    now = min(high, _room(device, machines))  # actors that run at once from the beginning
    # Ray Data reserves room for a task of every stage. On one or two CPUs whole ones do not fit, and the last stages
    # would wait until the first are done, with nothing written till then.
    scale = 1.0 if gpus else min(1.0, cpus / 2)
    largest = config.decode.max_pixels
    has_masks = config.pixel_threshold is not None or config.thresholds is not None
    return Execution(
        device=device,
        min_actors=low,
        max_actors=high,
        num_gpus=1.0 if gpus else 0.0,
        num_cpus=0.0 if gpus else scale,
        # On CPUs the model is what takes long: its threads may use what decoding leaves idle.
        threads=max(1, cpus // machines.count // max(1, -(-now // machines.count))),
        batch_size=config.batch_size or (_GPU_BATCH if gpus else _CPU_BATCH),
        calls_per_actor=2 if gpus else 1,
        decode_cpus=1.0 if cpus > 2 else 0.5 * scale,
        tail_cpus=0.25 * scale,
        decode_memory=decode_memory(largest),
        localize_memory=map_memory(largest * has_masks),
        machines_come=machines_come,
        cpus=cpus * max(1, high // now),
    )


def decode_memory(pixels: int) -> int:
    """Bytes that a task reserves which decodes pictures of so many pixels."""
    return _task_memory(PEAK_BYTES_PER_PIXEL * pixels)


def map_memory(pixels: int) -> int:
    """Bytes that a task reserves which makes maps and masks of so many pixels."""
    return _task_memory(_LOCALIZE_BYTES_PER_PIXEL * pixels)


def _task_memory(num_bytes: int) -> int:
    """What the largest picture takes, but no more than a third of the smallest node, where tasks would never start."""
    return int(min(Machines.there().least_memory / 3, _TASK_BYTES + num_bytes))
