"""Small evaluations, made without a model: categories with scores, maps and masks of a few pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.items import Dataset, LabelledImage
from pipeline.datasets.pixels import Flawed
from pipeline.evaluation.counting import Counted
from pipeline.evaluation.evaluate import EvaluateConfig, Evaluation, MethodResult
from pipeline.evaluation.measures import CategoryMeasures, measure
from pipeline.layout import RunLayout
from pipeline.metrics import PixelCounts
from pipeline.model import ModelCard
from pipeline.run import RunResult
from pipeline.storage import open_root


def counted(seed: int = 0, *, normal: int = 3, anomalous: int = 3, masks: bool = True) -> Counted:
    """A category whose anomalous images score higher on the whole."""
    rng = np.random.default_rng(seed)
    labels = [0] * normal + [1] * anomalous
    scores = [float(score) for score in rng.random(len(labels)) + 0.4 * np.array(labels)]
    if not masks:
        return Counted(scores=scores, labels=labels)
    pixels = PixelCounts()
    for label in labels:
        mask = np.zeros((8, 8), bool)
        mask[2:5, 3:6] = label == 1
        pixels.add(rng.random((8, 8)) + 0.3 * mask, mask)
    return Counted(scores=scores, labels=labels, pixels=pixels, marked=(normal, anomalous))


def image(name: str, category: str, label: int) -> LabelledImage:
    kind = "good" if label == 0 else "crack"
    mask = f"/d/{name}_mask.png" if label else None
    return LabelledImage(image_uri=f"/d/{name}.png", mask_uri=mask, label=label, category=category, kind=kind)


def flawed(name: str, category: str, problem: Any = "empty_mask") -> Flawed:
    return Flawed(image(name, category, 1), problem, "an anomalous image whose mask marks nothing")


def method_result(
    method: str,
    categories: list[CategoryMeasures],
    output: Path,
    *,
    bad: list[dict[str, Any]] | None = None,
    trained_on: str | None = None,
) -> MethodResult:
    images = sum(sum(one.images) for one in categories)
    record = {
        "run_id": "r" if method == "CoPS" else "r-clip",
        "counts": {"planned": images + len(bad or []), "scored": images, "quarantined": len(bad or [])},
        "warnings": [],
    }
    card = ModelCard(
        name="tiny",
        method="cops" if method == "CoPS" else "clip",
        model_id=f"id-of-{method}",
        precision="float32",
        image_size=56,
        sigma_px=4.0,
        trained=True,
        provenance={"auxiliary_dataset": {"name": trained_on}} if trained_on else {},
    )
    run = RunResult(record=record, layout=RunLayout.at(str(output), "r"), card=card, was_complete=False)
    return MethodResult(method=method, run=run, categories=categories, bad=bad or [])


def evaluation(
    output: Path,
    *results: MethodResult,
    dataset: Any = "mvtec-ad",
    images: tuple[LabelledImage, ...] = (),
    backbone: str | dict[str, Any] = "ViT-B-16",
) -> Evaluation:
    return Evaluation(
        config=EvaluateConfig(dataset=dataset, data="/d", output=str(output), run_id="r"),
        dataset=Dataset(name=dataset, root="/d", images=images),
        root=open_root(str(output)),
        backbone=backbone,
        image_size=56,
        results=results,
    )


def two_categories() -> list[CategoryMeasures]:
    """One with everything, one without normal images."""
    return [measure("bottle", counted(1)), measure("screw", counted(2, normal=0))]
