"""How the work is cut and what it may take, from the size of the machine and of the run."""

import pytest
from ray.data import Dataset

from pipeline import execution
from pipeline.errors import InputError
from pipeline.execution import Execution, object_store_bytes, rows_per_call

GIB = 2**30


@pytest.mark.parametrize(
    ("rows", "batch_size", "actors", "expected"),
    [
        (10_000, 4, 1, 64),  # many images: the most that a call takes
        (10_000, 48, 1, 48),  # whole batches alone
        (10_000, 100, 1, 100),  # and one at least
        (640, 4, 1, 20),  # few: every actor has 32 calls, so that the stages overlap
        (640, 4, 4, 4),
        (1, 32, 2, 32),
    ],
)
def test_images_in_a_call_of_an_actor(rows, batch_size, actors, expected):
    pool = {"min_actors": actors, "max_actors": actors, "num_gpus": 0.0, "num_cpus": 1.0, "threads": 1}
    assert rows_per_call(rows, Execution(device="cpu", batch_size=batch_size, **pool)) == expected


@pytest.mark.parametrize(
    ("cpus", "shared_memory", "expected"),
    [
        (2, 12 * GIB, 2 * GIB),
        (16, 64 * GIB, 4 * GIB),
        (128, 24 * GIB, 12 * GIB),  # half of what there is
        (128, 2**26, 2 * GIB),  # a container's, where Ray takes a file in its place
        (4, 0, 2 * GIB),
    ],
)
def test_the_object_store_grows_with_the_machine(cpus, shared_memory, expected):
    assert object_store_bytes(cpus, shared_memory) == expected


@pytest.mark.parametrize(
    ("device", "batch_size", "image_s", "work_s", "no_progress_min"),
    [("cuda", execution._GPU_BATCH, 5, 220, 15), ("cpu", execution._CPU_BATCH, 30, 180, 42)],
)
def test_what_is_stuck_is_ended_when_the_operations_page_says(
    device: str, batch_size: int, image_s: int, work_s: int, no_progress_min: int
) -> None:
    """docs/operations.md, "When nothing moves": 60 s of silence; 60 s a batch and so many an image; the whole flow."""
    pool = {"min_actors": 1, "max_actors": 1, "num_gpus": 0.0, "num_cpus": 1.0, "threads": 1}
    usual = Execution(device=device, batch_size=batch_size, **pool)
    assert (usual.patience.silent_s, usual.patience.work_s) == (60, work_s)
    assert work_s == 60 + image_s * batch_size
    assert usual.no_progress_s // 60 == no_progress_min
    large = Execution(device=device, batch_size=100, **pool)
    assert large.patience.work_s == 60 + image_s * 100
    assert large.no_progress_s > large.patience.work_s


@pytest.mark.parametrize("address", ["head-node", "head-node:port", "http://127.0.0.1:8265"])
def test_what_is_no_address_is_wrong_use(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which variable, what was expected, and what came."""
    for name in ("RAY_BACKEND_LOG_LEVEL", "RAY_gcs_server_port_wait_time_s"):
        monkeypatch.setenv(name, "1")  # so that no other test has what is set for Ray
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"RAY_ADDRESS: expected the host:port of .*, or auto; got '{address}'"):
        execution.connect()


def test_a_dataset_that_was_never_made_ends_silently() -> None:
    """As Ctrl-C may leave it: nothing follows the job's own last line."""
    execution._let_go_of_unmade_datasets()
    Dataset.__new__(Dataset).__del__()
