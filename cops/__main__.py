"""`python -m cops IMAGE…`: score single pictures, and show where the score comes from. No Ray, no tables."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from cops.assembly import load
from cops.errors import ConfigError, CopsError, ImageError, is_wrong_use
from cops.images import to_rgb
from cops.model import CoPS, Prediction
from cops.overlay import heat_overlay, with_colour_bar
from cops.terminal import printable

ALL_FAILED, WRONG_USE, SOME_FAILED = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score pictures with CoPS; higher is more anomalous."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE…", help_behavior_hint="")]
    """Picture files of 8 bits a channel; jobs/score.py scales deeper ones."""
    model: str = "embedded"
    """A CoPS checkpoint; by default the small one that comes with the package."""
    clip_weights: Path | None = None
    """A local file with CLIP's weights, for a checkpoint without them."""
    device: str = "auto"
    """cpu, cuda or auto."""
    precision: str = "float32"
    """float32, bfloat16, float16, int8 (on a CPU) or auto."""
    save: Path | None = None
    """Folder for one overlay per picture, all on one colour scale."""


def run(options: Options) -> int:
    """Score each picture and print a line for it; a bad one gets a message, and the others are done all the same."""
    above = [options.save, *options.save.parents] if options.save else []
    if found := next((path for path in above if path.exists() and not path.is_dir()), None):
        raise ConfigError(f"--save: expected a folder, {found} is none")
    model = load(options.model, options.device, options.precision, options.clip_weights)
    for warning in model.warnings:
        print(f"note: {warning}", file=sys.stderr)
    print(f"{'score':>8} {'class':>8} {'patch':>8}  picture")
    scored = [(path, prediction) for path in options.images if (prediction := _score(model, path))]
    if options.save is not None and scored:
        save_overlays(model, scored, options.save)
    if len(scored) == len(options.images):
        return 0
    return SOME_FAILED if scored else ALL_FAILED


def save_overlays(model: CoPS, scored: Sequence[tuple[Path, Prediction]], folder: Path) -> None:
    """One overlay per picture; the colours run from 0 to the hottest patch of them all, so that they compare."""
    folder.mkdir(parents=True, exist_ok=True)
    vmax = max(float(prediction.patch_score_max[0]) for _, prediction in scored) or 1.0
    taken: set[str] = set()
    for path, prediction in scored:
        image = read_image(path)
        heat = model.anomaly_map(prediction.patch_scores[0], (image.height, image.width))
        overlay = with_colour_bar(heat_overlay(image, heat, vmin=0.0, vmax=vmax), vmin=0.0, vmax=vmax)
        overlay.save(folder / _free_name(path.stem, taken))
    print(f"overlays in {folder}, colours from 0 to {vmax:.4f}")


def read_image(path: Path) -> Image.Image:
    """The picture upright, in RGB and on white.

    Raises:  ImageError: it cannot be read, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except ImageError:
        raise
    except Exception as exc:  # the row guard: whatever a broken header does to Pillow is this picture's
        raise ImageError(f"cannot be read: {type(exc).__name__}: {exc}") from exc


def _score(model: CoPS, path: Path) -> Prediction | None:
    try:
        prediction = model.predict([read_image(path)])
    except ImageError as exc:
        print(printable(f"{path}: {exc}"), file=sys.stderr)
        return None
    parts = (prediction.pred_score, prediction.class_score, prediction.patch_score_max)
    print(" ".join(f"{np.float32(part[0]):8.4f}" for part in parts) + f"  {printable(str(path))}")
    return prediction


def _free_name(stem: str, taken: set[str]) -> str:
    """Pictures of one name from different folders get a number."""
    name, count = f"{stem}.overlay.png", 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}.overlay.png"
    taken.add(name)
    return name


def main() -> int:
    options = tyro.cli(Options, prog="python -m cops")
    if not options.images:
        print("error: give at least one picture; --help lists the options", file=sys.stderr)
        return WRONG_USE
    try:
        return run(options)
    except CopsError as exc:
        print(f"error: {printable(str(exc))}", file=sys.stderr)
        return WRONG_USE if is_wrong_use(exc) else ALL_FAILED
    except OSError as exc:
        print(f"error: {printable(str(exc))}", file=sys.stderr)
        return ALL_FAILED


if __name__ == "__main__":
    sys.exit(main())
