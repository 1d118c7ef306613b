"""Writes dashboard.json beside it: the panels as a list, for a file of Grafana's is long and numbers them.

`python deploy/grafana/make_dashboard.py`. A test holds the file against this, and its queries against a real scrape.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("dashboard.json")
_WIDTH, _HEIGHT = 24, 8  # of Grafana's grid, and of a panel in it
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RUN = 'run_id=~"$run"'
_OPERATOR = 'operator=~"MapBatches.*|Write.*"'


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: queries and their legends.

    Args:    unit: as Grafana calls it.   limits: values from which it is yellow and red.
    """

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    limits: tuple[float, float] | None = None
    stacked: bool = False


def stat(title: str, text: str, query: str, unit: str = "short", limits: tuple[float, float] | None = None) -> Panel:
    """One number of each run, the last one known."""
    queries = ((query, "{{run_id}}"),)
    return Panel(title=title, text=text, queries=queries, unit=unit, kind="stat", width=4, limits=limits)


ROWS: dict[str, list[Panel]] = {
    "The run": [
        stat(
            "Planned",
            "Images of the run that is going on. Empty while none is.",
            f"max by (run_id) (ray_cops_planned_images{{{_RUN}}})",
        ),
        stat(
            "Left",
            "Planned images that are in no table yet, by the tables themselves: exact, whatever was done twice.",
            f"max by (run_id) (ray_cops_left_images{{{_RUN}}})",
        ),
        stat(
            "Time left",
            "What is left, at the model's rate of the last five minutes.",
            f"max by (run_id) (ray_cops_left_images{{{_RUN}}})"
            f" / on (run_id) sum by (run_id) (rate(ray_cops_model_images_total{{{_RUN}}}[5m]))",
            "s",
        ),
        stat(
            "Images/s",
            "What the models score, the last two minutes.",
            f"sum by (run_id) (rate(ray_cops_model_images_total{{{_RUN}}}[2m])) > 0",
            "suffix: images/s",
        ),
        stat(
            "In quarantine",
            "Of the planned images. Above --max-error-fraction, 1 % by default, a run ends with exit code 3.",
            f"sum by (run_id) (ray_cops_quarantined_images_total{{{_RUN}}})"
            f" / on (run_id) max by (run_id) (ray_cops_planned_images{{{_RUN}}})",
            "percentunit",
            (0.005, 0.01),
        ),
        Panel(
            title="Since the last commit",
            text="Of any run that reported to a node that is still scraped, in the last week.",
            queries=(("time() - max(max_over_time(ray_cops_last_commit_timestamp_seconds_total[7d]))", ""),),
            unit="s",
            kind="stat",
            width=4,
            limits=(24 * 3600, 26 * 3600),
        ),
        Panel(
            title="Images per second",
            text="Scored by the models, all actors together.",
            queries=(
                (f"sum by (run_id) (rate(ray_cops_model_images_total{{{_RUN}}}[$__rate_interval]))", "{{run_id}}"),
            ),
            unit="suffix: images/s",
        ),
        Panel(
            title="Left",
            text="Planned images that are in no table yet. It falls in steps: a part is written whole.",
            queries=((f"max by (run_id) (ray_cops_left_images{{{_RUN}}})", "{{run_id}}"),),
        ),
        Panel(
            title="Quarantined, by stage and reason",
            text="Since the run began. What each reason means, and what to do: docs/operations.md.",
            queries=(
                (
                    f"sum by (stage, reason) (ray_cops_quarantined_images_total{{{_RUN}}})",
                    "{{stage}}: {{reason}}",
                ),
            ),
            stacked=True,
        ),
    ],
    "The model": [
        Panel(
            title="Seconds of a batch",
            text="One call of the model. Read from buckets: a value lies between its bucket's bounds.",
            queries=tuple(
                (
                    f"histogram_quantile({quantile}, "
                    f"sum by (le) (rate(ray_cops_batch_seconds_bucket{{{_RUN}}}[$__rate_interval])))",
                    name,
                )
                for quantile, name in ((0.5, "p50"), (0.95, "p95"))
            ),
            unit="s",
        ),
        Panel(
            title="Images in a batch",
            text="Less than --batch-size: the end of a call, or a batch that was halved because memory was short.",
            queries=(
                (
                    f"sum by (run_id) (rate(ray_cops_model_images_total{{{_RUN}}}[$__rate_interval]))"
                    f" / sum by (run_id) (rate(ray_cops_batch_seconds_count{{{_RUN}}}[$__rate_interval]))",
                    "{{run_id}}",
                ),
            ),
        ),
        Panel(
            title="Busy share of each actor",
            text="1: the model never waits. Lower: reading or decoding does not keep up; see the queue.",
            queries=(
                (
                    f"sum by (instance, WorkerId) (rate(ray_cops_busy_seconds_total{{{_RUN}}}[2m])) > 0",
                    "{{instance}} {{WorkerId}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Model actors",
            text="Alive, starting, and coming back after they were lost (Ray Data's count).",
            queries=tuple(
                (f'sum(ray_data_num_{state}_actors{{operator=~".*Scorer.*"}})', state)
                for state in ("alive", "pending", "restarting")
            ),
        ),
        Panel(
            title="Images waiting for a model",
            text="Decoded and not yet scored, those in hand included (Ray Data's rows). Near 0: decoding is too slow.",
            queries=(
                (
                    'sum(ray_data_row_outputs_taken{operator=~".*ReadAndDecode.*"})'
                    ' - sum(ray_data_row_outputs_taken{operator=~".*Scorer.*"})',
                    "images",
                ),
            ),
        ),
        Panel(
            title="Seconds of work an image, by stage",
            text="Of images in the tables. score: of an actor; read, decode, localize: of a CPU task.",
            queries=(
                (
                    f"sum by (stage) (ray_cops_stage_seconds_total{{{_RUN}}})"
                    f" / ignoring (stage) group_left () sum (ray_cops_scored_images_total{{{_RUN}}})",
                    "{{stage}}",
                ),
            ),
            unit="s",
            stacked=True,
        ),
    ],
    "Ray Data": [
        Panel(
            title="Blocks queued before each stage",
            text="What waits for a stage to take it (Ray Data's own).",
            queries=((f"sum by (operator) (ray_data_operator_queued_blocks{{{_OPERATOR}}})", "{{operator}}"),),
            stacked=True,
        ),
        Panel(
            title="Object store, by stage",
            text="Bytes that each stage holds: its results that wait, and what its tasks have in hand.",
            queries=((f"sum by (operator) (ray_data_obj_store_mem_used{{{_OPERATOR}}})", "{{operator}}"),),
            unit="bytes",
            stacked=True,
        ),
        Panel(
            title="Tasks that run, by stage",
            text="And those that failed, which Ray does again.",
            queries=(
                (f"sum by (operator) (ray_data_num_tasks_running{{{_OPERATOR}}})", "{{operator}}"),
                (f"sum by (operator) (ray_data_num_tasks_failed{{{_OPERATOR}}}) > 0", "failed: {{operator}}"),
            ),
        ),
    ],
    "Machines": [
        Panel(
            title="GPUs",
            text="Utilisation, as the driver of the card says. Empty where there are none.",
            queries=(("ray_node_gpus_utilization", "{{instance}} {{GpuIndex}}"),),
            unit="percent",
        ),
        Panel(
            title="GPU memory",
            text="Used.",
            queries=(("ray_node_gram_used", "{{instance}} {{GpuIndex}}"),),
            unit="mbytes",
        ),
        Panel(
            title="CPUs",
            text="Utilisation of each node.",
            queries=(("ray_node_cpu_utilization", "{{instance}}"),),
            unit="percent",
        ),
        Panel(
            title="Memory and disk",
            text="Used, of each node. Ray ends workers above 95 % of memory, and runs where the disk is 95 % full.",
            queries=(
                ("100 * ray_node_mem_used / ray_node_mem_total", "{{instance}}: memory"),
                ("ray_node_disk_utilization_percentage", "{{instance}}: disk"),
            ),
            unit="percent",
        ),
        Panel(
            title="Object store: used, and its size",
            text="Of each node. Full, it spills to disk.",
            queries=(
                ("sum by (instance) (ray_object_store_used_memory)", "{{instance}}"),
                (
                    "sum by (instance) (ray_object_store_used_memory + ray_object_store_available_memory)",
                    "{{instance}}: size",
                ),
            ),
            unit="bytes",
        ),
        Panel(
            title="Spilled",
            text="Bytes on disk for want of room in the object store.",
            queries=(('sum by (instance) (ray_object_store_memory{Location="SPILLED"})', "{{instance}}"),),
            unit="bytes",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The whole file."""
    return {
        "title": "CoPS inspection",
        "uid": "cops-inspection",
        "tags": ["cops", "ray"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), _runs()]},
        "annotations": {"list": []},
        "panels": _laid_out(),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "multi": False}


def _runs() -> dict[str, Any]:
    query = "label_values(ray_cops_planned_images, run_id)"
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "runs"},
        "refresh": 2,
        "sort": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _laid_out() -> list[dict[str, Any]]:
    """Panels from left to right, row by row of the grid."""
    placed: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        placed.append({"id": len(placed) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place})
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y, height = 0, y + height, 0
            height = max(height, _HEIGHT // 2 if panel.kind == "stat" else _HEIGHT)
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_as_json(panel)})
            x += panel.width
        y += height
    return placed


def _as_json(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend or "__auto"}
        for at, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    known: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.limits:
        colours = zip((None, *panel.limits), ("green", "yellow", "red"), strict=True)
        known["thresholds"] = {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in colours],
        }
        known["color"] = {"mode": "thresholds"}
    if panel.kind == "timeseries":
        known["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "showPoints": "never",
        }
    return known


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def text() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
