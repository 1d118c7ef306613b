"""What lower precisions cost: scores and maps of the packaged model against its own in float32, on photographs.

`python benchmarks/precision.py FOLDER`: every picture below FOLDER; without one, pieces of the two photographs that
come with scikit-learn. `--device cuda` on a GPU. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from pages import ROOT, footer, table, write
from PIL import Image
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images

import cops
from cops.precision import PRECISIONS, TOLERANCES, Tolerance

_ENDINGS = {".png", ".jpg", ".jpeg"}
_PIECE_PX, _STEP_PX = 214, 106


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--results", type=Path, help="default: benchmarks/results/precision-DEVICE.md")
    options = parser.parse_args()
    kind = options.device.partition(":")[0]
    images = pictures_below(options.folder) if options.folder else pieces()
    exact = cops.load().predict(images, batch_size=1)
    rows = [row(precision, images, exact, options) for precision in PRECISIONS if precision != "int8" or kind == "cpu"]
    header = ["", "score", "Spearman of scores", "map", "within", f"batches of 1 and of {options.batch}"]
    whence = f"the {len(images)} pictures of a folder" if options.folder else f"{len(images)} pieces of two photographs"
    page = [
        f"# Lower precisions against float32, on {'a GPU' if kind == 'cuda' else 'the CPU'}",
        "",
        f"Largest differences of scores and maps over {whence}, packaged model: from float32 on the CPU, and between",
        "batches of two sizes. In brackets what is published, and tested.",
        "",
        *table(header, rows),
        "",
        *footer(device=options.device),
    ]
    write(page, options.results or ROOT / f"benchmarks/results/precision-{kind}.md")


def row(
    precision: str, images: Sequence[Image.Image], exact: cops.Prediction, options: argparse.Namespace
) -> list[str]:
    model = cops.load(device=options.device, precision=precision)
    alone, together = (model.predict(images, batch_size=size) for size in (1, options.batch))
    found, limit = difference(model, alone, exact), TOLERANCES[precision]
    is_within = found.score <= limit.score and found.spearman >= limit.spearman and found.map <= limit.map
    by_batch = difference(model, alone, together)
    return [
        precision,
        f"{found.score:.1e} ({limit.score:g})",
        f"{found.spearman:.5f} ({limit.spearman:g})",
        f"{found.map:.1e} ({limit.map:g})",
        "yes" if is_within else "NO",
        f"{max(by_batch.score, by_batch.map):.1e}",
    ]


def difference(model: cops.CoPS, found: cops.Prediction, exact: cops.Prediction) -> Tolerance:
    """What a tolerance would have to be."""
    maps = [
        float(np.abs(model.anomaly_map(one) - model.anomaly_map(other)).max())
        for one, other in zip(found.patch_scores, exact.patch_scores, strict=True)
    ]
    return Tolerance(
        score=float(np.abs(found.pred_score - exact.pred_score).max()),
        spearman=float(spearmanr(found.pred_score, exact.pred_score).statistic),
        map=max(maps),
    )


def pictures_below(folder: Path) -> list[Image.Image]:
    """Photographs of a folder, without what lies under `ground_truth`."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    return [Image.open(path).convert("RGB") for path in paths if "ground_truth" not in path.parts]


def pieces() -> list[Image.Image]:
    """Overlapping squares of the two photographs that come with scikit-learn."""
    found = []
    for photograph in load_sample_images().images:
        height, width = photograph.shape[:2]
        for top, left in product(range(0, height - _PIECE_PX + 1, _STEP_PX), range(0, width - _PIECE_PX + 1, _STEP_PX)):
            found.append(Image.fromarray(photograph[top : top + _PIECE_PX, left : left + _PIECE_PX]))
    return found


if __name__ == "__main__":
    main()
