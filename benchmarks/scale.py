"""The whole job with a model that looks at nothing: images, actors, shards and files, many and few.

`python benchmarks/scale.py`; `--most 10000` for a shorter form. Writes a page to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import pictures
from pages import ROOT, footer, table, write
from PIL import Image
from watching import KINDS, Watched, watch

_SIDE_PX = 64


@dataclass(frozen=True)
class Run:
    """One archive, scored by so many actors."""

    images: int
    shards: int
    """0: every image is a file."""
    actors: int
    watched: Watched
    images_per_s: float
    decode_s: float
    """Of all images together, as the stage itself measures it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000, help="images of the largest archive")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/scale.md")
    options = parser.parse_args()
    most, middle = options.most, options.most // 10
    encoded = [encode_jpeg(pixels) for pixels in pictures(8, _SIDE_PX)]
    by_images = [run(encoded, count, max(1, count // 1000), 1) for count in (most // 100, middle, most)]
    by_actors = [run(encoded, middle, max(1, middle // 1000), actors) for actors in (2, 4, 8)]
    by_shards = [run(encoded, middle, shards, 1) for shards in (middle // 100, middle // 10, middle)]
    files = run(encoded, middle, 0, 1)
    page = [
        "# The job alone: a model that looks at nothing",
        "",
        f"`python benchmarks/scale.py --most {most}`",
        "",
        *section("Images, in shards of a thousand", by_images),
        *marginal(by_images),
        *section("Actors", [by_images[1], *by_actors]),
        *section("Shards, and every image a file", [*by_shards, files]),
        "Seconds: of the command, from start to end. images/s: of reading, scoring and writing alone. Milliseconds of",
        "processor time an image by kind of process, starting included. MiB: peak of private memory of the largest",
        "process of a kind; all: every process, shared pages once.",
        "",
        *footer(f"JPEGs of {_SIDE_PX} px, resized to the packaged model's side."),
    ]
    write(page, options.results)


def run(encoded: Sequence[bytes], images: int, shards: int, actors: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        archive = Path(folder, "archive")
        archive.mkdir()
        make_archive(archive, encoded, images, shards)
        command = [sys.executable, str(ROOT / "benchmarks/null_job.py"), f"{folder}/out", str(archive)]
        watched = watch([*command, "--actors", str(actors)])
        record = json.loads(Path(folder, "out/runs/null.json").read_text())
    assert record["counts"]["scored"] == images, record["counts"]
    return Run(images, shards, actors, watched, record["images_per_s"], record["seconds"]["decode"])


def make_archive(folder: Path, encoded: Sequence[bytes], images: int, shards: int) -> None:
    if not shards:
        for at in range(images):
            (folder / f"{at:07d}.jpg").write_bytes(encoded[at % len(encoded)])
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for at in range(shard * images // shards, (shard + 1) * images // shards):
                member = tarfile.TarInfo(f"{at:07d}.jpg")
                member.size = len(encoded[at % len(encoded)])
                tar.addfile(member, io.BytesIO(encoded[at % len(encoded)]))


def section(title: str, runs: Sequence[Run]) -> list[str]:
    header = ["images", "shards", "actors", "seconds", "images/s", *(f"{kind}, ms" for kind in KINDS)]
    header += [f"{kind}, MiB" for kind in ("driver", "worker", "all")]
    rows = [
        [
            f"{one.images:,}",
            f"{one.shards:,}" if one.shards else "files",
            str(one.actors),
            f"{one.watched.wall_s:.0f}",
            f"{one.images_per_s:.0f}",
            *(f"{1000 * one.watched.cpu_s[kind] / one.images:.2f}" for kind in KINDS),
            *(f"{one.watched.peak(kind):,.0f}" for kind in ("driver", "worker", "all")),
        ]
        for one in runs
    ]
    return [f"## {title}", "", *table(header, rows), ""]


def marginal(runs: Sequence[Run]) -> list[str]:
    """What an image more costs, from the middle archive to the largest."""
    few, many = runs[-2:]
    more = many.images - few.images
    each = {kind: 1000 * (many.watched.cpu_s[kind] - few.watched.cpu_s[kind]) / more for kind in KINDS}
    told = ", ".join(f"{kind} {value:.2f}" for kind, value in each.items())
    decode_ms = 1000 * (many.decode_s - few.decode_s) / more
    beside_ms = sum(each.values()) - decode_ms
    whole_ms = 1000 * (sum(many.watched.cpu_s.values()) - many.decode_s) / many.images
    growth = ", ".join(
        f"{kind} ×{many.watched.peak(kind) / few.watched.peak(kind):.2f}" for kind in ("driver", "worker")
    )
    return [
        f"From {few.images:,} to {many.images:,} images, each one more costs, ms of processor time: {told}; "
        f"{1000 * (many.watched.wall_s - few.watched.wall_s) / more:.2f} ms of the clock. Of it decoding takes "
        f"{decode_ms:.2f} and the pipeline {beside_ms:.2f}; with its start, the pipeline takes {whole_ms:.2f} an image "
        f"of {many.images:,}. Peak memory: {growth}.",
        "",
    ]


def encode_jpeg(pixels: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)  # type: ignore[arg-type]
    return out.getvalue()


if __name__ == "__main__":
    main()
