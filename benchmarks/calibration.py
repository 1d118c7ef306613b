"""What a calibration promises against what fresh normal images do: false alarms of images, of masks and of pixels.

`python benchmarks/calibration.py`; `--images 1200` for a shorter form; `--output FOLDER` takes scores that are there
already (a run `normal` of it). Half of the images calibrate, the other half is fresh. Writes a page to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pages import ROOT, footer, table, write

import pipeline
from pipeline.calibration import CalibrateConfig
from pipeline.calibration.maps import BLOCKS, PixelValues, at_pixel_rate
from pipeline.calibration.output import calibrate_and_write
from pipeline.calibration.rates import at_rate
from pipeline.labelling import LabelConfig, label_run
from pipeline.metrics import ordered_values
from pipeline.runs import map_settings

_RUN = "normal"
_CATEGORIES = "bolt,carpet,leather,tablet"
_CALIBRATING, _FRESH = "image_id < '8'", "image_id >= '8'"  # ids are hashes in hex
_SPLITS = 1_000
_PIXEL_DRAWS = 100
_MEASURED = f"""
    SELECT coalesce(category, ''), count(*), avg(pred_label), avg((mask_area > 0)::INT),
        avg(mask_area / (width::DOUBLE * height))
    FROM scores WHERE {_FRESH} GROUP BY ROLLUP (category) ORDER BY ALL
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_400)
    parser.add_argument("--output", type=Path, help="scored already")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/calibration.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cops-bench-") as folder:
        output = str(options.output or scored(Path(folder), options.images))
        page = [
            "# False alarms of calibrated thresholds on fresh normal images",
            "",
            "Procedural pictures without defects, scored by `embedded`; those whose ids begin with 0 to 7 calibrate,",
            "the others are fresh. `jobs/calibrate.py`, then `jobs/label.py`, then counting what the labels say.",
        ]
        for rate in (0.01, 0.05):
            page += ["", *of_rate(output, rate, Path(folder))]
        page += ["", *of_splits(output), "", *of_pixel_draws(output)]
        write([*page, "", *footer("`python benchmarks/calibration.py`;")], options.results)


def scored(folder: Path, images: int) -> Path:
    make = ["jobs/make_samples.py", "--output", str(folder / "in"), "--count", str(images), "--format", "webdataset"]
    run([*make, "--seed", "7", "--anomaly-rate", "0", "--categories", _CATEGORIES])
    given = ["--input", f"{folder}/in/*.tar", "--keep-columns", "category", "--top", "0"]
    run(["jobs/score.py", *given, "--output", str(folder / "out"), "--run-id", _RUN])
    return folder / "out"


def run(command: list[str]) -> None:
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def of_rate(output: str, rate: float, folder: Path) -> list[str]:
    """Each category's target, its interval, and what came."""
    found, told = {}, {}
    for rule in ("images", "pixels"):
        save, name = str(folder / f"{rule}-{rate}.parquet"), f"bench-{rule}-{int(rate * 100)}-{time.time_ns():x}"
        config = CalibrateConfig(
            output=output, run_ids=(_RUN,), where=_CALIBRATING, image_rate=rate, pixel_rate=rate, pixel_rule=rule
        )
        began = time.perf_counter()
        calibrate_and_write(config, save=save)
        took = time.perf_counter() - began
        label_run(LabelConfig(output=output, run_id=_RUN, thresholds=save, label_set=name))
        told[rule] = (pq.read_table(save).to_pylist(), took)
        with pipeline.open_views(output, [_RUN], label_set=name) as sql:
            found[rule] = {row[0]: row[1:] for row in sql.execute(_MEASURED).fetchall()}
    rows = []
    by_images, by_pixels = ({row["category"]: row for row in told[rule][0]} for rule in ("images", "pixels"))
    for category, (count, flagged, masked, _) in sorted(found["images"].items()):
        key = category or None
        one, other = by_images[key], by_pixels[key]
        rows.append(
            [
                category or "all, thresholds of each category",
                f"{one['num_images']:,}"
                if key
                else f"{sum(row['num_images'] for name, row in by_images.items() if name):,}",
                f"{count:,}",
                f"**{flagged:.2%}**",
                interval(one, "image") if key else "",
                f"**{masked:.2%}**",
                interval(one, "pixel") if key else "",
                f"**{found['pixels'][category][3]:.2%}**",
                interval(other, "pixel") if key else "",
            ]
        )
    header = [
        "category",
        "calibrating",
        "fresh",
        "flagged",
        "promised",
        "with a mask",
        "promised",
        "of pixels",
        "promised",
    ]
    seconds = f"{told['images'][1]:.0f} s with the peaks of all maps, {told['pixels'][1]:.0f} s with all pixels"
    return [
        f"## Target {rate:.0%}",
        "",
        *table(header, rows),
        "",
        f"Calibrating took {seconds}, Ray's start in the first.",
    ]


def interval(row: dict, what: str) -> str:
    return f"{row[f'{what}_rate_low']:.2%} – {row[f'{what}_rate_high']:.2%}"


def of_splits(output: str) -> list[str]:
    """The same of image scores alone, split at random a thousand times."""
    with pipeline.open_views(output, [_RUN]) as sql:
        scores = sql.sql("SELECT category, pred_score FROM scores").to_arrow_table()
    generator = np.random.default_rng(1)
    rows = []
    categories = np.array(scores["category"].to_pylist())
    values = scores["pred_score"].to_numpy()
    for category in np.unique(categories):
        own = values[categories == category]
        for rate in (0.01, 0.05):
            shares, inside = [], []
            for _ in range(_SPLITS):
                drawn = generator.permutation(own)
                half = len(own) // 2
                one, fresh = at_rate(drawn[:half], rate), drawn[half:]
                shares.append((fresh >= np.float32(one.value)).mean())
                inside.append(one.rate_low <= shares[-1] <= one.rate_high)
            rows.append(
                [
                    str(category),
                    f"{rate:.0%}",
                    f"{np.mean(shares):.3%}",
                    f"{np.std(shares):.2%}",
                    f"{np.mean(inside):.1%}",
                ]
            )
    title = f"## Split at random {_SPLITS:,} times"
    header = ["category", "target", "mean share flagged", "standard deviation", "inside the interval"]
    note = (
        "The mean is at most the target, as proven, within the scatter of so many splits (standard deviation / 32). "
        "The interval is of the true share; a fresh half of finite size scatters about that, too, so fewer than 95 % "
        "of the counted shares lie inside."
    )
    return [title, "", *table(header, rows), "", note]


def of_pixel_draws(output: str) -> list[str]:
    """Whether the intervals of the rule `pixels` hold the share that is the truth where a category's images are all.

    As many images as a half are drawn with replacement: what is promised of them can be held against all, exactly.
    """
    run = pipeline.open_run(output, _RUN)
    work = PixelValues(**map_settings(run.record))
    scores = pa.concat_tables(run.tables(["category", "height", "width", "map_size", "patch_scores"]))
    categories = np.array(scores["category"].to_pylist())
    generator = np.random.default_rng(2)
    rows = []
    for category in np.unique(categories):
        places = np.flatnonzero(categories == category)
        counts = np.stack([work(scores.slice(place, 1)) for place in places])
        values, everywhere = ordered_values(), counts.sum(axis=0)
        shares, inside = [], []
        for _ in range(_PIXEL_DRAWS):
            drawn = generator.integers(len(places), size=len(places) // 2)
            blocks = np.stack([counts[drawn[at::BLOCKS]].sum(axis=0) for at in range(BLOCKS)])
            found = at_pixel_rate(blocks, 0.01)
            shares.append(everywhere[values >= found.value].sum() / everywhere.sum())
            inside.append(found.rate_low <= shares[-1] <= found.rate_high)
        rows.append([str(category), "1%", f"{np.mean(shares):.3%}", f"{np.std(shares):.2%}", f"{np.mean(inside):.0%}"])
    title = f"## Of pixels, drawn at random {_PIXEL_DRAWS:,} times"
    header = ["category", "target", "mean share of pixels", "standard deviation", "inside the interval"]
    note = (
        "Half as many images as a category has, drawn from them with replacement; the share is that of all of its "
        "images. Of intervals of 95 %, about that many should hold it."
    )
    return [title, "", *table(header, rows), "", note]


if __name__ == "__main__":
    main()
