"""Dashboard and alerts as they lie in deploy/: their queries, and the metrics that these name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana/dashboard.json").read_text())


def panel_queries() -> dict[str, list[str]]:
    """By their panel's title, Grafana's variables filled in."""
    return {
        f"{panel['id']}: {panel['title']}": [
            target["expr"].replace("$__rate_interval", "1m").replace("$run", ".*") for target in panel["targets"]
        ]
        for panel in dashboard()["panels"]
        if panel["type"] != "row"
    }


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def all_queries() -> list[str]:
    return [query for queries in panel_queries().values() for query in queries] + [rule["expr"] for rule in alerts()]


def metrics_of(query: str) -> set[str]:
    """Names of the metrics in a query.

    Raises:  ValueError: it is no PromQL.
    """
    return {selector.name for selector in _selectors(promql_parser.parse(query))}


def labels_of(query: str) -> dict[str, set[str]]:
    """By metric, the labels that a query asks for."""
    return {one.name: {match.name for match in one.matchers.matchers} for one in _selectors(promql_parser.parse(query))}


def _selectors(expression: Any) -> Iterator[Any]:
    """Of an expression and all in it."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("vector_selector", "expr", "lhs", "rhs"):
        if (inner := getattr(expression, name, None)) is not None:
            yield from _selectors(inner)
    for inner in getattr(expression, "args", ()):
        yield from _selectors(inner)


def known_to_ray_agent() -> set[str]:
    """What Ray's agent may export of a node, GPUs or not: read where it is written."""
    import ray.dashboard.modules.reporter as reporter  # noqa: PLC0415 -- only where it is asked for

    source = (Path(reporter.__file__).parent / "reporter_agent.py").read_text()
    return {f"ray_{name}" for name in re.findall(r'^    "(node_\w+)": Gauge\($', source, re.MULTILINE)}
