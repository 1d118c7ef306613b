"""A labelled dataset, a model and a request, small enough for a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

import cops
from cops.assembly import assemble, find_device
from cops.checkpoint import save_checkpoint
from cops.training.fit import Team
from pipeline.datasets import Dataset
from pipeline.datasets.plain import read_plain
from pipeline.decode import DecodeRules
from pipeline.training.cache import FeatureCache, describe_features
from pipeline.training.config import Data, Start, TrainConfig
from pipeline.training.features import FeatureSource
from pipeline.training.run import Outcome, prepare, work

ARCH = {
    "embed_dim": 48,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14, "head_width": 32},
    "text_cfg": {"context_length": 20, "vocab_size": 5, "width": 48, "heads": 3, "layers": 3},
}
RULES = DecodeRules()


def small_checkpoint(**constants: Any) -> cops.Checkpoint:
    return assemble(ARCH, **({"image_size": 56, "sot_id": 0, "stop_id": 1, "eot_id": 4} | constants))


def write_checkpoint(path: Path, checkpoint: cops.Checkpoint | None = None, *, clip: bool = True) -> Path:
    """A model's file, with CLIP's weights or without."""
    made = checkpoint or small_checkpoint()
    tensors = {name: one for name, one in made.tensors.items() if clip or name.startswith("prompt_learner.")}
    save_checkpoint(path, config=made.config, tensors=tensors, provenance=made.provenance)
    return path


def write_images(root: Path, *, normal: int = 5, anomalous: int = 6, seed: int = 0, category: str = "part") -> Path:
    """MVTec AD's layout: noise, and where it is anomalous a bright square, which the mask marks."""
    draws = np.random.default_rng(seed)
    truth, test = root / category / "ground_truth" / "spot", root / category / "test"
    for folder in (truth, test / "good", test / "spot"):
        folder.mkdir(parents=True)
    (truth.parent / "about.txt").touch()  # folders are seen by the files in them
    for number in range(normal + anomalous):
        pixels, mask = draws.integers(60, 120, (64, 80, 3), dtype=np.uint8), np.zeros((64, 80), bool)
        if number < normal:
            Image.fromarray(pixels).save(test / "good" / f"{number}.png")
            continue
        top, left = draws.integers(0, 40, 2)
        mask[top : top + 20, left : left + 20] = True
        pixels[mask] = 250
        Image.fromarray(pixels).save(test / "spot" / f"{number}.png")
        Image.fromarray(mask).save(truth / f"{number}_mask.png")
    return root


def source_of(root: Path, cache: Path | None, model: cops.CoPS | None = None) -> tuple[Dataset, FeatureSource]:
    """A dataset, and where its features come from."""
    model = model or cops.from_checkpoint(small_checkpoint())
    kept = FeatureCache(cache, describe_features(model, RULES)) if cache else None
    return read_plain(str(root)), FeatureSource(model, RULES, kept)


def request(root: Path, output: Path, model: Path, **changes: Any) -> TrainConfig:
    given = {
        "data": Data(name="plain", uri=str(root)),
        "output": str(output),
        "start": Start(model=str(model)),
        "overrides": {"epochs": 3, "batch_size": 4},
        "workers": 1,
        "device": "cpu",
    }
    return TrainConfig(**(given | changes))


def train_here(config: TrainConfig) -> Outcome:
    """As `run.train` does in one process, without Ray's seconds to be imported."""
    job, base = prepare(config)
    return work(job, base, Team(), find_device(config.device))


class PartOf(Team):
    """One member of a team whose other members' values are given."""

    def __init__(self, rank: int, size: int, others: list[Any] | None = None) -> None:
        self.rank, self.size, self.others = rank, size, others or []

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.others]


def content(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors of a safetensors file, whose bytes differ in the header's order alone."""
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping


def assert_same_tensors(left: Path, right: Path) -> None:
    """Bit for bit."""
    one, other = content(left)[1], content(right)[1]
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), f"{name} differs in {left.name}"
