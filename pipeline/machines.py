"""Machines that a cluster has, and those that it has not started yet: asked for, and waited for."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from pipeline.errors import RunError

_TELL_EVERY_S = 60.0
# What a cloud takes to find a machine, start it and install what setup commands name, and as much again where the first
# kind of machine that is asked for is not to be had.
START_S = 1800.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machines:
    """What the cluster's machines that take work have in sum; a head that takes none is not among them."""

    count: int
    cpus: int
    gpus: int
    least_memory: float  # of the smallest one, bytes

    @classmethod
    def there(cls) -> Machines:
        return cls.of(node["Resources"] for node in ray.nodes() if node["Alive"])

    @classmethod
    def of(cls, resources: Iterable[Mapping[str, Any]]) -> Machines:
        work = [one for one in resources if one.get("CPU") or one.get("GPU")]
        return cls(
            count=len(work),
            cpus=int(sum(one.get("CPU", 0) for one in work)),
            gpus=int(sum(one.get("GPU", 0) for one in work)),
            least_memory=min((one.get("memory", math.inf) for one in work), default=math.inf),
        )


def may_come() -> bool:
    """Whether this is a cluster that somebody else started, which an autoscaler may make larger."""
    return bool(os.environ.get("RAY_ADDRESS"))


def wait_for(actors: int, kind: str, *, patience_s: float) -> None:
    """Ask for room for so many actors, of a GPU each, or of a CPU each and one to decode with; return when it is there.

    A placement group is the question: an autoscaler sees it, and it ends with this process however that ends.
    `request_resources` would outlive a driver that was killed, and keep machines up that nobody uses.
    Raises:  RunError: it was not there in time.
    """
    count = actors if kind == "GPU" else actors + 1
    wanted = f"{count} {kind}{'s' if count > 1 else ''}"
    asked = placement_group([{kind: 1}] * count)
    began = time.monotonic()
    try:
        while not asked.wait(min(_TELL_EVERY_S, patience_s)):
            waited_s = time.monotonic() - began
            if waited_s >= patience_s:
                raise RunError(_none_came(wanted, _had(kind), patience_s))
            log.info(
                "waiting for %s: the cluster has %s; %.0f of %.0f min",
                wanted, _had(kind), waited_s / 60, patience_s / 60,
            )  # fmt: skip
    finally:
        remove_placement_group(asked)
    log.info("%s came after %.0f s", wanted, time.monotonic() - began)


def _had(kind: str) -> str:
    there = Machines.there()
    number = there.gpus if kind == "GPU" else there.cpus
    return f"{number or 'none'}, on {there.count} machine{'s' if there.count != 1 else ''} that take work"


def _none_came(wanted: str, had: str, patience_s: float) -> str:
    return (
        f"the cluster was asked for {wanted} and had not got so many free in {patience_s / 60:.0f} minutes; it has "
        f"{had}. `ray status` on its head says what its autoscaler tries: no capacity, a "
        "quota, setup commands that fail; a cluster without one never grows. The same command may be given again"
    )
