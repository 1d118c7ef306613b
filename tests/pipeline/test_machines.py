"""Which machines a run counts on: those that take work, and those that a growing cluster is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline import execution, machines
from pipeline.config import ScoreConfig
from pipeline.errors import InputError, RunError
from pipeline.execution import Execution, plan_execution, wanted_tasks
from pipeline.machines import Machines

GIB = 2**30
HEAD = {"memory": 3 * GIB, "node:__internal_head__": 1.0}  # of `ray start --num-cpus=0`: it has no CPU at all
GPU_NODE = {"CPU": 8.0, "GPU": 1.0, "memory": 30 * GIB}
CPU_NODE = {"CPU": 4.0, "memory": 12 * GIB}

Cluster = Callable[..., None]


def config(**options: Any) -> ScoreConfig:
    return ScoreConfig(inputs=("images",), **options)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """What Ray says of its nodes; `then` is what they are after the cluster was asked for more."""
    asked: list[tuple[int, str]] = []

    def use(*nodes: dict[str, float], joined: bool = True, then: tuple[dict[str, float], ...] = ()) -> None:
        state = {"nodes": [HEAD, *nodes]}
        monkeypatch.setattr(Machines, "there", lambda: Machines.of(state["nodes"]))

        def wait_for(actors: int, kind: str, *, patience_s: float) -> None:
            asked.append((actors, kind))
            assert patience_s == machines.START_S
            state["nodes"] = [HEAD, *then]

        monkeypatch.setattr(execution, "wait_for", wait_for)
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379") if joined else monkeypatch.delenv("RAY_ADDRESS", False)

    use.asked = asked  # type: ignore[attr-defined]
    yield use


def test_a_head_that_takes_no_work_does_not_count() -> None:
    """Its memory would bound decoding on machines that it has nothing to do with."""
    there = Machines.of([HEAD, GPU_NODE, CPU_NODE])
    assert there == Machines(count=2, cpus=12, gpus=1, least_memory=12 * GIB)
    assert Machines.of([HEAD]) == Machines(count=0, cpus=0, gpus=0, least_memory=math.inf)


def test_what_actors_name_at_the_least_is_waited_for(cluster: Cluster) -> None:
    """No GPU yet, `--device cuda --actors 1:8`: one is asked for, and the pool may grow to eight."""
    cluster(then=(GPU_NODE,))
    chosen = plan_execution(config(device="cuda", actors="1:8"))
    assert cluster.asked == [(1, "GPU")]  # type: ignore[attr-defined]
    assert (chosen.device, chosen.min_actors, chosen.max_actors, chosen.num_gpus) == ("cuda", 1, 8, 1.0)
    assert chosen.threads == 8  # of a machine with one GPU, not of eight GPUs on it
    assert chosen.machines_come
    assert chosen.decode_memory == execution._TASK_BYTES + 20 * 100_000_000


def test_what_is_there_is_not_waited_for(cluster: Cluster) -> None:
    """A cluster that has what is asked for, and no more: as before."""
    cluster(GPU_NODE, GPU_NODE)
    for actors in (None, "2", "1:2"):
        chosen = plan_execution(config(actors=actors))
        assert (chosen.device, chosen.max_actors, chosen.machines_come) == ("cuda", 2, False)
    assert cluster.asked == []  # type: ignore[attr-defined]


def test_machines_of_cpus_are_waited_for_too(cluster: Cluster) -> None:
    cluster(then=(CPU_NODE,))
    chosen = plan_execution(config(device="cpu", actors="2:6"))
    assert cluster.asked == [(2, "CPU")]  # type: ignore[attr-defined]
    assert (chosen.device, chosen.min_actors, chosen.max_actors, chosen.machines_come) == ("cpu", 2, 6, True)


def test_an_empty_cluster_must_be_told_the_device(cluster: Cluster) -> None:
    """`auto` would put the model on the CPUs of the GPU machines that come."""
    cluster()
    with pytest.raises(InputError, match=r"--device auto: .* no machine yet .* expected --device cuda or"):
        plan_execution(config(actors="1:8"))
    assert cluster.asked == []  # type: ignore[attr-defined]


def test_ray_on_this_machine_never_grows(cluster: Cluster) -> None:
    """There it is wrong use, told at once."""
    cluster(CPU_NODE, joined=False)
    with pytest.raises(InputError, match="--device cuda: no node"):
        plan_execution(config(device="cuda"))
    with pytest.raises(InputError, match="room for 3 "):
        plan_execution(config(actors="4:8"))
    assert plan_execution(config(actors="1:8")).max_actors == 3
    assert cluster.asked == []  # type: ignore[attr-defined]


def test_a_machine_that_came_and_went_is_no_wrong_use(cluster: Cluster) -> None:
    """The same command, given again, may find it: exit code 1."""
    cluster(then=())
    with pytest.raises(RunError, match="gone again"):
        plan_execution(config(device="cuda", actors="1:8"))


def test_where_machines_come_the_run_is_cut_for_all_of_them(cluster: Cluster) -> None:
    """One machine of 8 CPUs at the start, eight in the end: tasks for 64 CPUs."""
    cluster(GPU_NODE)
    chosen = plan_execution(config(device="cuda", actors="1:8"))
    assert (chosen.cpus, wanted_tasks(chosen), wanted_tasks()) == (64, 32 * 64, 256)


def test_where_machines_come_and_go_the_run_waits_longer_before_it_is_called_stuck() -> None:
    """As long as machines take to start, on top of what calls take: docs/operations.md, "When nothing moves"."""
    pool = {"min_actors": 1, "max_actors": 8, "num_gpus": 1.0, "num_cpus": 0.0, "threads": 1, "batch_size": 32}
    fixed, growing = (Execution(device="cuda", machines_come=come, **pool) for come in (False, True))
    assert growing.no_progress_s - fixed.no_progress_s == machines.START_S == 30 * 60
