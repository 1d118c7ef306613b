"""Train a few epochs with cached features and without, in turn: seconds for reading and for each epoch.

`python benchmarks/training.py`. Sample pictures, the embedded model, the CPU. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pages import footer, table
from PIL import Image

from pipeline.samples.catalog import CATEGORIES, draw
from pipeline.training.config import Data, TrainConfig
from pipeline.training.run import train

ROOT = Path(__file__).resolve().parents[1]
_KINDS = {"cached": None, "computed in each epoch": "none"}


@dataclass(frozen=True)
class Run:
    kind: str
    total_s: float
    epochs_s: list[float]
    loss: float

    @property
    def reading_s(self) -> float:
        """Model, images and, where they are cached, features."""
        return self.total_s - sum(self.epochs_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="images")
    parser.add_argument("--size", type=int, default=256, help="side of the sample images, px")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "training.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        images = write_images(Path(folder) / "images", options.count, options.size)
        runs = [
            measure(kind, images, Path(folder) / f"{number}-{kind}", options.epochs)
            for number in range(options.rounds)
            for kind in _KINDS
        ]
    page = render(runs, options)
    print(page)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(page)


def write_images(root: Path, count: int, size: int) -> Path:
    """Every second one defective, with its mask, as MVTec AD is laid out."""
    for number in range(count):
        category = list(CATEGORIES)[number % 8]
        defect = CATEGORIES[category].defects[number % 7] if number // 8 % 2 else None
        picture = draw(category, defect, seed=0, index=number, size_px=size)
        images, masks = root / category / "test" / (defect or "good"), root / category / "ground_truth" / (defect or "")
        for folder in (images, masks):
            folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.image).save(images / f"{number}.png")
        if defect:
            Image.fromarray(picture.mask).save(masks / f"{number}_mask.png")
    return root


def measure(kind: str, images: Path, output: Path, epochs: int) -> Run:
    """One training, from the request to the last checkpoint; each begins with nothing kept."""
    config = TrainConfig(
        data=Data(name="plain", uri=str(images)),
        output=str(output),
        overrides={"epochs": epochs},
        constants={"k": 3},
        cache=_KINDS[kind],
        workers=1,
        device="cpu",
    )
    began = time.monotonic()
    outcome = train(config)
    total_s = time.monotonic() - began
    return Run(kind, total_s, [epoch["seconds"] for epoch in outcome.epochs], outcome.epochs[-1]["loss"])


def render(runs: list[Run], options: argparse.Namespace) -> str:
    an_epoch = {kind: mean(s for run in runs if run.kind == kind for s in run.epochs_s) for kind in _KINDS}
    total = {kind: mean(run.total_s for run in runs if run.kind == kind) for kind in _KINDS}
    cached, computed = _KINDS
    assert len({run.loss for run in runs}) == 1, "the cache changed the result"
    lines = [
        "# Training with cached features",
        "",
        f"`python benchmarks/training.py --count {options.count} --epochs {options.epochs} --rounds {options.rounds}`",
        "",
        *table(
            ["features", "reading, s", "each epoch, s", "total, s"],
            [
                [run.kind, f"{run.reading_s:.1f}", ", ".join(f"{s:.1f}" for s in run.epochs_s), f"{run.total_s:.1f}"]
                for run in runs
            ],
        ),
        "",
        f"Without the cache an epoch takes {an_epoch[computed] / an_epoch[cached]:.1f} times as long, "
        f"the whole training {total[computed] / total[cached]:.2f} times; the losses are equal to the bit.",
        "",
        *footer(
            f"{options.count} pictures of {options.size} px, no validation set, model `embedded` in float32 on the CPU."
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
