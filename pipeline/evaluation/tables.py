"""An evaluation as tables for programs: one row per method, category and metric, the paper's figures among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.config import DatasetName
from pipeline.datasets import LabelledImage
from pipeline.evaluation.evaluate import Evaluation, MethodResult
from pipeline.evaluation.measures import mean_of
from pipeline.metrics import METRICS, Metric
from pipeline.paper import Figure, figures

METRICS_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("category", pa.string()),  # null: the unweighted mean of the categories
        ("method", pa.string()),
        ("source", pa.string()),  # run or paper
        ("metric", pa.string()),
        ("value", pa.float64()),  # in [0, 1]; null where it is undefined
        ("reason", pa.string()),  # why it is
        ("paper_value", pa.float64()),  # the paper's figure of this method, category and metric
        ("difference", pa.float64()),  # value − paper_value
        ("n_normal", pa.int64()),  # images that the metric is of
        ("n_anomalous", pa.int64()),
        ("n_categories", pa.int64()),  # categories that a mean is over: those that have the metric
        ("paper_table", pa.string()),
        ("run_id", pa.string()),
        ("model_id", pa.string()),
    ]
)
FLAWS_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("image_uri", pa.string()),
        ("mask_uri", pa.string()),
        ("category", pa.string()),
        ("label", pa.int8()),
        ("defect", pa.string()),
        ("problem", pa.string()),
        ("message", pa.string()),
    ]
)

PaperFigures = Mapping[tuple[str | None, str, str], Figure]


def paper_figures(dataset: DatasetName) -> PaperFigures:
    """The paper's figures of a dataset by (category, method, metric); the category of an average is None."""
    return {(one.category, one.method, one.metric): one for one in figures() if one.dataset == dataset}


def metrics_table(evaluation: Evaluation) -> pa.Table:
    """Every metric of every method in long form, then every figure that the paper gives for the dataset."""
    name = evaluation.config.dataset
    paper = paper_figures(name)
    rows = [row for result in evaluation.results for row in _own_rows(result, paper)]
    rows += [
        {
            "category": one.category,
            "method": one.method,
            "source": "paper",
            "metric": one.metric,
            "value": one.percent / 100,
            "paper_table": one.table,
        }
        for one in paper.values()
    ]
    return pa.Table.from_pylist([{"dataset": name, **row} for row in rows], METRICS_SCHEMA)


def _own_rows(result: MethodResult, paper: PaperFigures) -> Iterator[dict[str, Any]]:
    fixed = {
        "method": result.method,
        "source": "run",
        "run_id": result.run.record["run_id"],
        "model_id": result.run.card.model_id,
    }
    for one in result.categories:
        for name, metric in one.metrics.items():
            counts = one.counted(name)
            yield fixed | _row(one.category, name, metric, counts, paper.get((one.category, result.method, name)))
    for name in METRICS:
        mean = mean_of(result.categories, name)
        each = [one.counted(name) for one in result.categories]
        counts = (sum(normal for normal, _ in each), sum(anomalous for _, anomalous in each))
        beside = paper.get((None, result.method, name))
        yield fixed | _row(None, name, mean.metric, counts, beside) | {"n_categories": mean.categories}


def _row(
    category: str | None, name: str, metric: Metric, counts: tuple[int, int], figure: Figure | None
) -> dict[str, Any]:
    row = {
        "category": category,
        "metric": name,
        "value": metric.value,
        "reason": metric.reason,
        "n_normal": counts[0],
        "n_anomalous": counts[1],
    }
    if figure is not None:
        row |= {"paper_value": figure.percent / 100, "paper_table": figure.table}
    if figure is not None and metric.value is not None:
        row["difference"] = metric.value - figure.percent / 100
    return row


def flaws_table(evaluation: Evaluation) -> pa.Table:
    """Images that some or all metrics leave out, each with what is wrong with it."""
    known = {image.image_uri: image for image in evaluation.dataset.images}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in evaluation.results:  # they see the same masks, but each its own unreadable images
        for bad in result.bad:
            image = known.get(bad["image_uri"])
            told = {"problem": "not_scored", "message": f"{bad['stage']}, {bad['reason']}: {bad['message']}"}
            rows[bad["image_uri"], "not_scored"] = {"image_uri": bad["image_uri"], **(_known(image)), **told}
        for flaw in (flaw for one in result.categories for flaw in one.flaws):
            told = {"problem": flaw.problem, "message": flaw.message}
            rows[flaw.item.image_uri, flaw.problem] = {"image_uri": flaw.item.image_uri, **_known(flaw.item), **told}
    return pa.Table.from_pylist(
        [{"dataset": evaluation.config.dataset, **rows[key]} for key in sorted(rows)], FLAWS_SCHEMA
    )


def _known(image: LabelledImage | None) -> dict[str, Any]:
    if image is None:
        return {}
    return {"mask_uri": image.mask_uri, "category": image.category, "label": image.label, "defect": image.kind}
