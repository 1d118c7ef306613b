"""What becomes of a worker's errors, and how many workers there are."""

from pathlib import Path

import pytest
from ray.train import WorkerGroupError
from small_training import request

from pipeline.errors import InputError, RunError
from pipeline.training.workers import _first_cause


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
