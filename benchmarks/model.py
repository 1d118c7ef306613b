"""The model alone: our path against the published procedure written plainly, on the same weights, in turn.

`python benchmarks/model.py`: ViT-L/14 at 518 px with seeded random weights, then the packaged model, on the CPU;
`--device cuda` on a GPU. Writes a page to benchmarks/results/.

Every round runs every side once on the same pictures; a ratio is of two times of one round, and the middle one of all
rounds is reported. The peak is that of a large square product in the same precision, measured in the same rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import plain
import torch
from fp8 import use_fp8
from pages import ROOT, footer, table, write

import cops
from cops import alignment, products
from cops.model import CoPS
from cops.vision import encode_images
from pipeline.samples.catalog import CATEGORIES, draw

BACKBONES = {"ViT-L/14 at 518 px": ("ViT-L-14-336-quickgelu", 518), "embedded": ("embedded", None)}
_PEAK_SIDE = {"cpu": 2048, "cuda": 8192}
_MIB = 2**20
PLAIN, COMPILED, FP8 = "published procedure", "ours, compiled", "ours, image tower in FP8"


@dataclass(frozen=True)
class Side:
    """One way to score pictures."""

    precision: str
    batch: int
    way: str = "ours"

    @property
    def name(self) -> str:
        return f"{self.way}, {self.precision}, batch {self.batch}"

    @property
    def plainly(self) -> bool:
        return self.way == PLAIN

    @property
    def model(self) -> tuple[str, str]:
        """What tells its model from other sides'."""
        return self.precision, "ours" if self.plainly else self.way


@dataclass
class Timed:
    """Seconds a picture in each round, and what was said of the pictures."""

    side: Side
    seconds: list[float] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    peak: list[float] = field(default_factory=list)
    """FLOP/s of a large product in this precision, in each round."""
    memory_mib: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--pictures", type=int, help="in a round; 2 on the CPU, 64 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="4 on the CPU, 32 on a GPU")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results/model-DEVICE.md")
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    kind = options.device.partition(":")[0]
    options.pictures = options.pictures or {"cpu": 2}.get(kind, 64)
    options.batch = options.batch or {"cpu": 4}.get(kind, 32)
    if options.memory_of:
        print(memory_here(*options.memory_of, options))
        return
    told = " ".join(sys.argv[1:])
    page = [
        f"# The model alone, on {'a GPU' if kind == 'cuda' else 'the CPU'}",
        "",
        f"`python benchmarks/model.py {told}`",
    ]
    for name in options.models:
        page += ["", f"## {name}", "", *measure(name, options)]
    write([*page, "", *footer(device=options.device)], options.results or ROOT / f"benchmarks/results/model-{kind}.md")


def sides(options: argparse.Namespace) -> list[Side]:
    on_gpu, batch = options.device.startswith("cuda"), options.batch
    ways = [Side("float32", 1, PLAIN), Side("float32", 1)]
    ways += [Side(precision, 1) for precision in ("bfloat16", *(() if on_gpu else ("int8",)))]
    ways += [Side(precision, batch) for precision in ("float32", "bfloat16", "float16" if on_gpu else "int8")]
    if on_gpu:
        ways.append(Side("bfloat16", batch, COMPILED))
        if torch.cuda.get_device_capability(options.device) >= (8, 9):
            ways.append(Side("bfloat16", batch, FP8))
    return ways


def load(name: str, side: Side, device: str) -> CoPS:
    backbone, size = BACKBONES[name]
    precision = "float32" if side.way == FP8 else side.precision
    if size is None:
        model = cops.load(backbone, device=device, precision=precision)
    else:
        model = cops.build(backbone, image_size=size, profile="published-visa", device=device, precision=precision)
    if side.way == COMPILED:
        model.compile(dynamic=False)
    if side.way == FP8:
        use_fp8(model)
    return model


def measure(name: str, options: argparse.Namespace) -> list[str]:
    """The lines of one model's tables."""
    found = [Timed(one) for one in sides(options)]
    loaded = {kind: load(name, one, options.device) for kind, one in {o.side.model: o.side for o in found}.items()}
    models = [loaded[one.side.model] for one in found]
    images = pictures(options.pictures, models[0].image_size)
    for number in range(options.rounds + 1):  # the first warms up
        for one, model in zip(found, models, strict=True):
            score = partial(score_all, model, images, one.side)
            scores, seconds = timed(score, options.device)
            if number:
                one.seconds.append(seconds / len(images))
                one.scores = scores
                one.peak.append(matmul_rate(one.side.precision, options.device))
    for one in found:
        one.memory_mib = memory_apart(name, one.side, options)
    return render(models[0], found, parts(models, found, images, options))


def score_all(model: CoPS, images: np.ndarray, side: Side) -> dict[str, np.ndarray]:
    """Every picture's scores, from 8-bit pixels to arrays."""
    if not side.plainly:
        return dict(vars(model.predict(images, batch_size=side.batch)))
    found = [plain.score(model, model.normalise(one[None])) for one in images]
    names = ("pred_score", "class_score", "patch_scores")
    return {key: torch.cat(values).cpu().numpy() for key, values in zip(names, zip(*found, strict=True), strict=True)}


def parts(
    models: Sequence[CoPS], found: Sequence[Timed], images: np.ndarray, options: argparse.Namespace
) -> list[list[str]]:
    """Milliseconds a picture of each part on its own, with the device waited for between them."""
    rows = []
    for one, model in zip(found, models, strict=True):
        batch = images[: one.side.batch]
        with torch.inference_mode():
            pixels = model.normalise(batch)
            steps = plain_steps(model, pixels) if one.side.plainly else own_steps(model, pixels)
            times = []
            for step in steps:
                step()
                spent = [timed(step, options.device)[1] for _ in range(3)]
                times.append(f"{1000 * median(spent) / len(batch):.1f}")
        rows.append([one.side.name, *times])
    return rows


def own_steps(model: CoPS, pixels: torch.Tensor) -> list[Callable[[], object]]:
    seen = encode_images(model.visual, pixels)
    learner = model.prompt_learner
    patches = alignment.spatial_average(seen.patches, model.config.k)
    normal, anomaly = learner.extractor(learner.t_n, patches), learner.extractor(learner.t_a, patches)
    return [
        lambda: encode_images(model.visual, pixels),
        lambda: model.text_features(normal, anomaly),
        lambda: model.align(seen),
    ]


def plain_steps(model: CoPS, pixels: torch.Tensor) -> list[Callable[[], object]]:
    image, raw = plain.encode_image(model, pixels)
    learner = model.prompt_learner
    patches = alignment.spatial_average(raw, model.config.k)
    normal, anomaly = learner.extractor(learner.t_n, patches), learner.extractor(learner.t_a, patches)
    return [
        lambda: plain.encode_image(model, pixels),
        lambda: plain.encode_prompts(model, plain.compose(model, normal, anomaly)),
        lambda: plain.align(model, image, raw),
    ]


def matmul_rate(precision: str, device: str) -> float:
    """FLOP/s of a large square product, by the quickest of the ways to compute it."""
    side = _PEAK_SIDE[device.partition(":")[0]]
    factors = torch.randn(2, side, side, device=device)
    left, right = (factors * 20).to(torch.int8) if precision == "int8" else factors.to(getattr(torch, precision))
    ways: list[Callable[[], object]] = [lambda: torch.mm(left, right.t()), lambda: products.linear(left, right)]
    if precision == "int8":
        ways = [lambda: torch._int_mm(left, right.t())]
    for way in ways:
        way()
    return 2 * side**3 / min(timed(way, device)[1] for way in ways for _ in range(3))


def flop(model: CoPS) -> float:
    """Of one picture, multiply and add apart: what our path computes, by the sizes of its products."""
    visual, config = model.visual, model.config
    n, d = model.grid**2, visual.conv1.weight.shape[0]
    hidden = visual.transformer.resblocks[0].mlp.c_fc.weight.shape[0]
    layers, patch = len(visual.transformer.resblocks), visual.conv1.weight[0].numel()
    t = n + 1
    ordinary = t * (8 * d * d + 4 * d * hidden) + 4 * t * t * d
    dense = n * 2 * d * d + 4 * n * t * d
    last = 6 * t * d * d + 2 * d * d + 4 * d * hidden + 4 * t * d  # of the ordinary path, the class token alone
    image = 2 * n * patch * d + (layers - 1) * ordinary + last + layers * dense
    c = model.ln_final.weight.shape[0]
    own = model.transformer.resblocks[0].mlp.c_fc.weight.shape[0]
    steps = 2 * (config.state_tokens + config.samples * (config.class_tokens + 2))
    text = len(model.transformer.resblocks) * steps * (8 * c * c + 4 * c * own)
    extractor = 2 * (2 * n * 2 * c * c)  # keys and values of the patches, for both sets of queries
    return float(image + text + extractor)


def memory_apart(name: str, side: Side, options: argparse.Namespace) -> float:
    """MiB at the peak of scoring, beyond what stood there before, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, side.name, "--device", options.device]
    command += ["--batch", str(options.batch)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout.split()[-1])


def memory_here(name: str, side_name: str, options: argparse.Namespace) -> float:
    side = next(one for one in sides(options) if one.name == side_name)
    model = load(name, side, options.device)
    images = pictures(side.batch, model.image_size)
    if options.device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        score_all(model, images, side)
        return (torch.cuda.max_memory_allocated() - before) / _MIB
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status_mib("VmRSS")
    score_all(model, images, side)
    return _status_mib("VmHWM") - before


def pictures(count: int, side: int) -> np.ndarray:
    """Sample pictures at the model's side, every second one damaged."""
    names = list(CATEGORIES)
    drawn = []
    for at in range(count):
        product = CATEGORIES[names[at % len(names)]]
        kind = product.defects[at % len(product.defects)] if at % 2 else None
        image = draw(names[at % len(names)], kind, seed=0, index=at, size_px=side).image
        drawn.append(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1))
    return np.stack(drawn)


def timed(work: Callable[[], Any], device: str) -> tuple[Any, float]:
    """A result and the seconds it took, the GPU's queue included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    began = time.perf_counter()
    result = work()
    wait()
    return result, time.perf_counter() - began


def render(model: CoPS, found: Sequence[Timed], of_parts: list[list[str]]) -> list[str]:
    base = found[0]
    rows = []
    for one in found:
        faster = median(a / b for a, b in zip(base.seconds, one.seconds, strict=True))
        share = median(flop(model) / s / peak for s, peak in zip(one.seconds, one.peak, strict=True))
        off = max(
            float(np.abs(one.scores[key].reshape(-1) - base.scores[key].reshape(-1)).max()) for key in base.scores
        )
        rows.append(
            [
                one.side.name,
                f"{1 / median(one.seconds):.3g}",
                f"{1000 * median(one.seconds):.4g}",
                f"{faster:.2f}",
                "" if one.side.plainly else f"{100 * share:.0f} %",
                f"{one.memory_mib:,.0f}",
                "" if one is base else f"{off:.1e}",
            ]
        )
    header = ["", "images/s", "ms an image", "times the published", "of the matmul peak", "MiB", "largest difference"]
    rates = ", ".join(
        f"{one.side.precision} {median(one.peak) / 1e9:,.0f}" for one in {o.side.precision: o for o in found}.values()
    )
    return [
        *table(header, rows),
        "",
        f"Our path computes {flop(model) / 1e9:,.1f} GFLOP an image. Peak, GFLOP/s: {rates}.",
        "MiB: beyond the weights, at the peak. Largest difference: of a score or patch score, from the published one.",
        "",
        "Milliseconds an image of each part alone:",
        "",
        *table(["", "image tower", "prompts", "all but the image tower"], of_parts),
    ]


def _status_mib(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
