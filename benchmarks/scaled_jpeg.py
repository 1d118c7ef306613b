"""What decoding large JPEGs at a fraction gives and costs: seconds, and the change of the packaged model's scores.

`python benchmarks/scaled_jpeg.py`: sample pictures drawn at full size, with grain. Writes a page to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from model import pictures
from pages import ROOT, footer, table, write
from PIL import Image
from scipy.stats import spearmanr

import cops
from pipeline.decode import DecodeRules, decode_to_side

_SIDES = (1414, 3464)  # 2 and 12 megapixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/scaled-jpeg.md")
    options = parser.parse_args()
    model = cops.load()
    rows = [measure(model, side, options.count) for side in _SIDES]
    header = ["megapixels", "whole, ms", "scaled, ms", "times as fast", "score", "Spearman", "patch score"]
    told = (
        f"Largest changes of scores over {options.count} sample pictures, model `embedded`; side {model.image_size} px."
    )
    write(
        ["# JPEGs decoded at a fraction (`--scaled-jpeg`)", "", *table(header, rows), "", *footer(told)],
        options.results,
    )


def measure(model: cops.CoPS, side: int, count: int) -> list[str]:
    generator = np.random.default_rng(0)
    encoded = []
    for pixels in pictures(count, side):
        grain = generator.integers(-3, 4, pixels.shape, np.int16)
        out = io.BytesIO()
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
        encoded.append(out.getvalue())
    seconds: dict[bool, list[float]] = {False: [], True: []}
    squares: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for data in encoded:
        for scaled in (False, True):
            began = time.perf_counter()
            squares[scaled].append(decode_to_side(data, DecodeRules(scaled_jpeg=scaled), model.image_size)[1])
            seconds[scaled].append(time.perf_counter() - began)
    whole, fraction = (model.predict(np.stack(squares[scaled])) for scaled in (False, True))
    ratio = np.median([a / b for a, b in zip(seconds[False], seconds[True], strict=True)])
    return [
        f"{side**2 / 1e6:.0f}",
        *(f"{1000 * np.median(seconds[scaled]):.0f}" for scaled in (False, True)),
        f"{ratio:.1f}",
        f"{np.abs(whole.pred_score - fraction.pred_score).max():.1e}",
        f"{spearmanr(whole.pred_score, fraction.pred_score).statistic:.4f}",
        f"{np.abs(whole.patch_scores - fraction.patch_scores).max():.1e}",
    ]


if __name__ == "__main__":
    main()
