"""The bare model against the whole job, on the same pictures: already decoded, and as JPEG and PNG of three sizes.

`python benchmarks/pipeline_job.py`; `--device cuda` on a GPU. Writes a page to benchmarks/results/.

Every round scores the pictures by the bare model, in this process, and then by the job, from files. A ratio is of two
rates of one round, and the middle one of all rounds is reported. The job's rate is that of its steady part: from the
first tenth of its scores to the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow.parquet as pq
from model import pictures
from pages import ROOT, footer, table, write
from PIL import Image
from watching import KINDS, Watched, watch

import cops

MEGAPIXELS = (0.3, 2.0, 12.0)
_ENCODED = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 6}}
_DRAWN = 12  # pictures; their files are written again and again


@dataclass(frozen=True)
class Round:
    """One run of the job."""

    bare: float
    job: float
    busy: float
    first_s: float
    """From the command to its first score."""
    watched: Watched
    record: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--model", default="embedded", help="a checkpoint")
    parser.add_argument("--count", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--megapixels", type=float, nargs="*", default=MEGAPIXELS)
    parser.add_argument("--results", type=Path, help="default: benchmarks/results/pipeline-DEVICE.md")
    options = parser.parse_args()
    model = cops.load(options.model, device=options.device, precision=options.precision)
    rows = []
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        for name, files in archives(Path(folder), options.count, model.image_size, options.megapixels):
            rounds = [measure(model, files, Path(folder), options) for _ in range(options.rounds)]
            rows.append(row(name, rounds, options.count))
    header = [
        "", "images/s", "of the bare model's", "model busy", "first score, s", *(f"{kind}, ms" for kind in KINDS),
        "read, ms", "decode, ms", "score, ms", "bytes in tables",
    ]  # fmt: skip
    page = [
        f"# The whole job against the bare model, on {'a GPU' if options.device == 'cuda' else 'the CPU'}",
        "",
        f"`python benchmarks/pipeline_job.py {' '.join(sys.argv[1:])}`",
        "",
        *table(header, rows),
        "",
        "images/s, and the model's busy share: from the first tenth of the scores to the last. Driver, worker and ray:",
        "processor time an image by kind of process, what starting takes included. Read, decode and score: seconds of",
        "the stages' own clocks, an image.",
        "",
        *footer(
            f"{options.count} pictures each, model `{options.model}` in {options.precision}.", device=options.device
        ),
    ]
    write(page, options.results or ROOT / f"benchmarks/results/pipeline-{options.device}.md")


def archives(folder: Path, count: int, side: int, megapixels: list[float]) -> Iterator[tuple[str, Path]]:
    """Folders with the same pictures, one after the other; a folder is removed when the next is asked for."""
    kinds: list[tuple[str, str, int]] = [("decoded (BMP at the model's side)", "BMP", side)]
    for size in megapixels:
        kinds += [(f"{form}, {size:g} MP", form, round((size * 1e6) ** 0.5)) for form in _ENCODED]
    for at, (name, form, px) in enumerate(kinds):
        place = folder / f"kind-{at}"
        place.mkdir()
        for number, pixels in enumerate(pictures(min(count, _DRAWN), min(px, 1024))):
            image = Image.fromarray(pixels)
            if px > image.width:  # with grain, as a camera's has
                grown = np.asarray(image.resize((px, px), Image.Resampling.BICUBIC), np.int16)
                grain = np.random.default_rng(number).integers(-3, 4, grown.shape, np.int16)
                image = Image.fromarray(np.clip(grown + grain, 0, 255).astype(np.uint8))
            first = place / f"{number:05d}.{form.lower()}"
            image.save(first, form, **_ENCODED.get(form, {}))
            for again in range(number + _DRAWN, count, _DRAWN):
                (place / f"{again:05d}.{form.lower()}").hardlink_to(first)
        yield name, place
        for file in place.iterdir():
            file.unlink()


def measure(model: cops.CoPS, files: Path, folder: Path, options: argparse.Namespace) -> Round:
    paths = sorted(files.iterdir())
    images = np.stack([to_side(path, model.image_size) for path in paths[:_DRAWN]])
    images = images[np.arange(len(paths)) % len(images)]
    model.predict(images[:32])
    began = time.perf_counter()
    model.predict(images)
    bare = len(images) / (time.perf_counter() - began)
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = [sys.executable, str(ROOT / "jobs/score.py"), "--input", str(files), "--output", output]
        command += ["--run-id", "bench", "--top", "0", "--model", options.model, "--device", options.device]
        started = time.time()
        watched = watch([*command, "--precision", options.precision])
        record = json.loads(Path(output, "runs/bench.json").read_text())
        at = pq.read_table(Path(output, "scores/run_id=bench"), columns=["scored_at"])["scored_at"].to_numpy()
    assert record["counts"]["scored"] == len(paths), record["counts"]
    at = np.sort(at).astype("datetime64[us]").astype(np.int64) / 1e6
    job = steady(at)
    calls = record["execution"]["max_actors"] * record["execution"]["calls_per_actor"]  # at a time
    busy = job * (record["seconds"]["score"] / len(paths)) / calls
    return Round(bare, job, min(1.0, busy), float(at[0]) - started, watched, record)


def to_side(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def steady(seconds: np.ndarray) -> float:
    """Images a second from the first tenth of the scores to the last."""
    start = seconds[len(seconds) // 10]
    after = int((seconds > start).sum())
    span = float(seconds[-1] - start)
    return after / span if span else float("nan")


def row(name: str, rounds: list[Round], count: int) -> list[str]:
    last = rounds[-1]
    stages = (1000 * last.record["seconds"][stage] / count for stage in ("read", "decode", "score"))
    return [
        name,
        f"{median(one.job for one in rounds):.1f}",
        f"{100 * median(one.job / one.bare for one in rounds):.0f} %",
        f"{100 * median(one.busy for one in rounds):.0f} %",
        f"{median(one.first_s for one in rounds):.1f}",
        *(f"{1000 * median(one.watched.cpu_s[kind] for one in rounds) / count:.1f}" for kind in KINDS),
        *(f"{value:.1f}" for value in stages),
        f"{sum(file['num_bytes'] for file in last.record['files']) / count:,.0f}",
    ]


if __name__ == "__main__":
    main()
