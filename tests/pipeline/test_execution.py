"""How the work is cut and what it may take, from the size of the machine and of the run."""

import pytest

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
