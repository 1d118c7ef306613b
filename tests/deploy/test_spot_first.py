"""Ray's own autoscaler, given our cluster and our scorer: what it starts, and what it does when EC2 refuses."""

from __future__ import annotations

import importlib
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private import resource_demand_scheduler as ray_scheduler
from ray.autoscaler._private.event_summarizer import EventSummarizer
from ray.autoscaler._private.node_launcher import BaseNodeLauncher
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.prom_metrics import AutoscalerPrometheusMetrics
from ray.autoscaler._private.util import ConcurrentCounter
from ray.autoscaler.node_launch_exception import NodeLaunchException

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "cluster.yaml").read_text())
TYPES = {name: {"max_workers": 0, **spec} for name, spec in CONFIG["available_node_types"].items()}
HEAD_START = " ".join(CONFIG["head_start_ray_commands"])


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What Ray takes by the name in cluster.yaml, from the file that cluster.yaml copies to the head."""
    (name,) = re.findall(r"RAY_AUTOSCALER_UTILIZATION_SCORER=(\S+?);?\s", HEAD_START)
    module = name.partition(".")[0]
    source = CONFIG["file_mounts"][f"~/scorer/{module}.py"]
    assert "PYTHONPATH=$HOME/scorer " in HEAD_START
    monkeypatch.syspath_prepend(str((ROOT / source).parent))
    monkeypatch.setenv(ray_scheduler.AUTOSCALER_UTILIZATION_SCORER_KEY, name)
    scheduler = ray_scheduler.ResourceDemandScheduler(None, TYPES, 8, "head", 1.0)
    yield scheduler.utilization_scorer
    sys.modules.pop(module, None)


class Refusing:
    """A cloud that has no spot machine."""

    def create_node_with_resources_and_labels(self, config: dict[str, Any], *_: Any) -> dict[str, Any]:
        if "InstanceMarketOptions" in config:
            raise NodeLaunchException("InsufficientInstanceCapacity", "no g6.2xlarge", None)
        return {"i-1": None}


def launched(tracker: NodeProviderAvailabilityTracker, node_type: str) -> dict[str, Any] | None:
    """One launch by Ray's own launcher, which tells the tracker what came of it."""
    pending = ConcurrentCounter()
    pending.inc(node_type, 1)
    launcher = BaseNodeLauncher(
        Refusing(), pending, EventSummarizer(), tracker, prom_metrics=AutoscalerPrometheusMetrics("test"),
        node_types=TYPES,
    )  # fmt: skip
    config = {"cluster_name": "c", "auth": {}, "available_node_types": TYPES}
    return launcher.launch_node(config, 1, node_type)


def chosen(scorer: Any, tracker: NodeProviderAvailabilityTracker, gpus: int, running: dict[str, int]) -> dict[str, int]:
    """What Ray would start for actors of a GPU each."""
    score = partial(scorer, node_availability_summary=tracker.summary())
    types, _ = ray_scheduler.get_nodes_for(TYPES, {"head": 1, **running}, "head", 8, [{"GPU": 1}] * gpus, score)
    return dict(types)


def test_spot_comes_first(scorer: Any) -> None:
    tracker = NodeProviderAvailabilityTracker()
    assert chosen(scorer, tracker, 3, {}) == {"spot-gpu": 3}
    assert chosen(scorer, tracker, 12, {}) == {"spot-gpu": 8}  # as many as the cluster may have


def test_on_demand_takes_over_where_spot_was_refused(scorer: Any) -> None:
    """No more of it than its own bound; and when some time has passed, spot is tried again."""
    now = [1000.0]
    tracker = NodeProviderAvailabilityTracker(timer=lambda: now[0], ttl=600)
    tracker.update_node_availability("spot-gpu", 1000, NodeLaunchException("InsufficientInstanceCapacity", "", None))
    assert chosen(scorer, tracker, 1, {}) == {"on-demand-gpu": 1}
    assert chosen(scorer, tracker, 3, {})["on-demand-gpu"] == 2
    now[0] += 601
    assert chosen(scorer, tracker, 3, {}) == {"spot-gpu": 3}
    assert "AUTOSCALER_NODE_AVAILABILITY_MAX_STALENESS_S=600" in HEAD_START


def test_what_ec2_refuses_is_what_the_scorer_is_told(scorer: Any) -> None:
    """Ray's launcher, the refusal as Ray's AWS provider raises it, its record, the next choice."""
    tracker = NodeProviderAvailabilityTracker()
    launched(tracker, "spot-gpu")
    assert chosen(scorer, tracker, 1, {}) == {"on-demand-gpu": 1}
    assert launched(tracker, "on-demand-gpu") == {"i-1": None}
    assert chosen(scorer, tracker, 2, {"on-demand-gpu": 1}) == {"on-demand-gpu": 1, "spot-gpu": 1}


def test_without_it_the_refused_kind_would_be_tried_for_ever() -> None:
    """Why there is a scorer at all. Where this fails, Ray has learnt it, and ours can go."""
    tracker = NodeProviderAvailabilityTracker()
    launched(tracker, "spot-gpu")
    ours = ray_scheduler._default_utilization_scorer
    assert chosen(ours, tracker, 1, {}) == {"spot-gpu": 1}


def test_the_second_autoscaler_does_not_count_what_is_refused() -> None:
    """Why cluster.yaml takes the first one. Where this fails, Ray's priorities can be used."""
    monitor = importlib.import_module("ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor")
    pb2 = importlib.import_module("ray.core.generated.instance_manager_pb2")
    watching = monitor.CloudResourceMonitor()
    refused = pb2.InstanceUpdateEvent(instance_type="spot-gpu", new_instance_status=pb2.Instance.ALLOCATION_FAILED)
    watching.notify([refused])
    assert watching.get_recoverable_resource_availabilities() == {}
    late = pb2.InstanceUpdateEvent(instance_type="spot-gpu", new_instance_status=pb2.Instance.ALLOCATION_TIMEOUT)
    watching.notify([late])
    assert watching.get_recoverable_resource_availabilities() == {"spot-gpu": 0.0}


def test_work_that_no_machine_has_room_for_starts_none(scorer: Any) -> None:
    assert chosen(scorer, NodeProviderAvailabilityTracker(), 0, {}) == {}
    score = partial(scorer, node_availability_summary=NodeProviderAvailabilityTracker().summary())
    assert score(TYPES["spot-gpu"]["resources"], [{"GPU": 2}], "spot-gpu") is None
