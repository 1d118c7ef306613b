"""Which kind of machine Ray's autoscaler starts next: spot first, on demand where spot has just been refused.

Ray's own choice looks at what a kind of machine has: of two that are alike it takes the same one for ever, though the
cloud has none of it. Its second autoscaler knows priorities, and steps back from a kind whose machines do not come up
(`ALLOCATION_TIMEOUT`); EC2 refuses at once (`ALLOCATION_FAILED`), which it does not count. The first one keeps what was
refused and hands it to a scorer that RAY_AUTOSCALER_UTILIZATION_SCORER names: this one. So it is in Ray 2.60, and
tests/deploy/test_spot_first.py holds Ray to it.

It runs in the autoscaler on the cluster's head, where nothing of ours but this file is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _resource_based_utilization_scorer

SPOT = "spot-"  # what the names of spot kinds begin with


def score(
    node_resources: Mapping[str, float],
    resources: Sequence[Mapping[str, float]],
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[Any, ...] | None:
    """How well a kind of machine fits the demand, the highest wins; None where it meets none of it."""
    fit = _resource_based_utilization_scorer(
        node_resources, resources, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    last_try = node_availability_summary.node_availabilities.get(node_type)
    refused = last_try is not None and not last_try.is_available
    return (not refused, node_type.startswith(SPOT), *fit)
