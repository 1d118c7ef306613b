"""How well an epoch's model tells the validation set's images and pixels apart: means over its categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from cops.model import CoPS
from cops.training.fit import Team
from cops.vision import VisionFeatures
from pipeline.errors import InputError
from pipeline.metrics import AUPRO, PixelCounts, category_metrics, mean, rank_images
from pipeline.training.config import LOSS, Metric
from pipeline.training.features import FeatureSource, Usable

_AT_ONCE = 8  # images
_NAMES: Mapping[Metric, str] = {
    "image_auroc": "I-AUROC",
    "image_ap": "I-AP",
    "image_f1_max": "I-F1-max",
    "pixel_auroc": "P-AUROC",
    "pixel_ap": "P-AP",
    "pixel_f1_max": "P-F1-max",
    "aupro": AUPRO,
}


@dataclass
class Tally:
    """What is counted of a category's images."""

    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    pixels: PixelCounts = field(default_factory=PixelCounts)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.scores + other.scores, self.labels + other.labels, self.pixels + other.pixels)


def check_for_metric(metric: Metric, images: Sequence[Usable], name: str) -> None:
    """Raises:  InputError: no category of a validation set has what the metric is computed from."""
    if metric == LOSS:
        return
    labels: dict[str, set[int]] = defaultdict(set)
    for one in images:
        if one.has_mask or metric.startswith("image"):
            labels[one.item.category].add(one.item.label)
    lacks = "a normal and an anomalous image" if metric.startswith("image") else "an anomalous image with a mask"
    enough = {0, 1} if metric.startswith("image") else {1}
    if not any(enough <= found for found in labels.values()):
        raise InputError(f"--metric {metric}: expected {lacks} in a category of {name}, found none that has")


@torch.no_grad()
def validate(model: CoPS, source: FeatureSource, images: Sequence[Usable], team: Team) -> dict[str, float]:
    """Each metric's mean over the categories where there is one; one process's share each, counted together."""
    mine: dict[str, Tally] = defaultdict(Tally)
    share = images[team.rank :: team.size]
    for start in range(0, len(share), _AT_ONCE):
        part = share[start : start + _AT_ONCE]
        for one, score, grid, mask in _scores(model, source, part):
            tally = mine[one.item.category]
            tally.scores.append(score)
            tally.labels.append(one.item.label)
            if mask is not None:
                tally.pixels.add(model.anomaly_map(grid), mask)
    categories: dict[str, Tally] = defaultdict(Tally)
    for part_of_team in team.gather(dict(mine)):
        for category, tally in part_of_team.items():
            categories[category] += tally
    found = [category_metrics(rank_images(one.scores, one.labels), one.pixels) for one in categories.values()]
    means = {name: mean(one[metric] for one in found).metric.value for name, metric in _NAMES.items()}
    return {name: value for name, value in means.items() if value is not None}


def _scores(
    model: CoPS, source: FeatureSource, images: Sequence[Usable]
) -> Iterator[tuple[Usable, float, npt.NDArray[np.float16], npt.NDArray[np.bool_] | None]]:
    """Image score, g×g patch scores as the tables of jobs/score.py hold them, and mask."""
    features = source.get(images)
    kept = VisionFeatures(
        image=torch.stack([one.image for one in features]).to(model.device).float(),
        patches=torch.stack([one.patches for one in features]).to(model.device).float(),
    )
    passed = model.align(kept)
    grids = passed.patch_scores.reshape(-1, model.grid, model.grid).cpu().numpy().astype(np.float16)
    for one, score, grid, found in zip(images, passed.pred_score.tolist(), grids, features, strict=True):
        yield one, score, grid, found.mask
