"""What becomes of a worker's errors, and how many workers there are."""

from pathlib import Path

import pytest
from ray.train import WorkerGroupError
from small_training import request

from pipeline.config import Device
from pipeline.errors import InputError, RunError
from pipeline.training.workers import _first_cause, _use_gpus


def test_a_workers_refusal_is_the_commands() -> None:
    """As the worker said it; what happened to the others follows from it."""
    refusal = InputError("no anomalous image can be used")
    assert _first_cause(WorkerGroupError("", {0: ConnectionError("reset by peer"), 1: refusal})) is refusal


def test_a_lost_worker_is_a_run_that_may_go_on() -> None:
    """In one line, with the way on."""
    found = _first_cause(WorkerGroupError("", {1: OSError("gone")}))
    assert isinstance(found, RunError)
    assert str(found) == "worker 1 was lost: OSError: gone. The same command goes on from the last epoch"


@pytest.mark.parametrize(
    ("workers", "device", "gpus", "count"),
    [(3, "auto", 0, 3), (None, "auto", 0, 1), (None, "auto", 2, 2), (None, "cuda", 9, 4), (None, "cpu", 9, 1)],
)
def test_a_worker_for_each_gpu(workers: int | None, device: str, gpus: int, count: int, tmp_path: Path) -> None:
    """Unless told otherwise; one without GPUs, and no more than images in a batch, here 4."""
    config = request(tmp_path, tmp_path, tmp_path / "m", workers=workers, device=device)
    assert config.count_workers(gpus) == count


@pytest.mark.parametrize(
    ("device", "count", "gpus", "expected"),
    [("auto", 2, 2, True), ("auto", 2, 0, False), ("cuda", 1, 1, True), ("cpu", 2, 1, False)],
)
def test_workers_take_the_gpus_that_there_are(device: Device, count: int, gpus: int, expected: bool) -> None:
    """CPUs where there is no GPU, or where they are asked for."""
    assert _use_gpus(device, count, gpus=gpus, cpus=4) is expected


@pytest.mark.parametrize(
    ("device", "count", "words"),
    [
        ("auto", 2, "each needs a GPU of its own; there are 1 GPUs and 4 CPUs; --device cpu trains on CPUs"),
        ("cuda", 2, "each needs a GPU of its own; there are 1 GPUs and 4 CPUs"),
        ("cpu", 5, "each needs a CPU of its own; there are 1 GPUs and 4 CPUs"),
    ],
)
def test_more_workers_than_there_is_room_for(device: Device, count: int, words: str) -> None:
    """Refused with the way out: GPUs never stay idle without a word."""
    with pytest.raises(InputError) as refused:
        _use_gpus(device, count, gpus=1, cpus=4)
    assert str(refused.value) == f"--workers {count}: {words}"
