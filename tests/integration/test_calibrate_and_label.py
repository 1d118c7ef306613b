"""jobs/calibrate.py, jobs/label.py and jobs/score.py --thresholds, as a user starts them, one after the other."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from real_parts import ROOT, Job, Store, clean_environment, client

import pipeline
from cops.maps import anomaly_map
from pipeline import masks
from pipeline.label_sets import LABEL_COLUMNS
from pipeline.metrics import PixelCounts, rank_images
from pipeline.runs import map_settings

CALIBRATE = ("--by", "category,line", "--min-images", "20", "--image-rate", "0.05", "--pixel-rate", "0.1")


def start(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments]
    done = subprocess.run(  # noqa: PLW1510 -- the caller looks at the exit code
        command, capture_output=True, text=True, timeout=200, env=clean_environment(**environment)
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def well(name: str, *arguments: str, **environment: str) -> str:
    done = start(name, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def output(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 pictures of two categories from two lines, a third of them damaged, of other sizes than the model's."""
    root = tmp_path_factory.mktemp("thresholds")
    make = [sys.executable, str(ROOT / "jobs" / "make_samples.py"), "--categories", "bolt,leather", "--size", "80"]
    for line, count in (("a", "60"), ("b", "30")):
        options = ["--output", str(root / "in" / line), "--count", count, "--anomaly-rate", "0.33", "--seed", count]
        subprocess.run([*make, *options], check=True, capture_output=True, timeout=120)
    template = "{line}/images/{category}/{defect}/{name}"
    job(
        "--input",
        f"{root}/in/*/images/*/*/*",
        "--output",
        str(root / "out"),
        "--path-fields",
        template,
        "--run-id",
        "r1",
    )
    return root / "out"


@pytest.fixture(scope="module")
def table(output: Path) -> Path:
    save = output.parent / "thresholds.parquet"
    text = well("calibrate", "--output", str(output), "--where", "defect = 'good'", *CALIBRATE, "--save", str(save))
    assert f"Written: {save}" in text
    return save


def scores_of(output: Path, **options: Any) -> pa.Table:
    return pa.concat_tables(pipeline.open_run(str(output), **options).tables())


def test_the_readmes_morning(output: Path, tmp_path: Path) -> None:
    """Its commands run as they stand there, one after the other, on an output of `out`."""
    (block,) = re.findall(r"## In the morning\n\n```\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    shutil.copytree(output, tmp_path / "out")
    for name in ("jobs", "queries"):
        (tmp_path / name).symlink_to(ROOT / name)
    commands = block.replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-eu", "-c", commands],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(0 rows)" not in done.stdout
    assert json.loads((tmp_path / "found.json").read_text("utf-8"))["annotations"]
    assert "<svg" in next((tmp_path / "out" / "reports").glob("*.html")).read_text("utf-8")


def test_a_calibration_holds_its_rates(output: Path, table: Path) -> None:
    """Of the images that it was found on: no more than the target, of images by score and of images by mask."""
    rows = {(row["category"], row["line"]): row for row in pq.read_table(table).to_pylist()}
    assert set(rows) == {(None, None), *((kind, line) for kind in ("bolt", "leather") for line in "ab")}
    size = map_settings(pipeline.open_run(str(output)).record)
    scored = scores_of(output).to_pylist()
    for (category, line), row in rows.items():
        own = category is not None and row["image_source"] == "group"
        normal = [
            one for one in scored
            if one["defect"] == "good" and (not own or (one["category"], one["line"]) == (category, line))
        ]  # fmt: skip
        peaks = [
            anomaly_map(masks.patch_grid(one), size_hw=(one["height"], one["width"]), **size).max() for one in normal
        ]
        flagged = [sum(np.float32(one["pred_score"]) >= np.float32(row["image_threshold"]) for one in normal)]
        flagged += [sum(peak >= np.float32(row["pixel_threshold"]) + 1e-6 for peak in peaks)]
        for count, rate in zip(flagged, (0.05, 0.1), strict=True):
            assert count <= rate * (len(normal) + 1)
        if own:
            assert row["num_images"] == len(normal)
            assert flagged == [row["num_flagged"], row["num_map_flagged"]]
    assert {row["image_source"] for row in rows.values()} == {"pooled", "group"}


def test_labels_without_inference_are_those_of_a_scoring(output: Path, table: Path, job: Job, tmp_path: Path) -> None:
    """jobs/label.py writes, without the pictures, what jobs/score.py --thresholds writes with them: bit for bit."""
    before = {path: path.read_bytes() for path in output.glob("scores/**/*.parquet")}
    text = well("label", "--output", str(output), "--thresholds", str(table), "--label-set", "cal")
    assert "Label set cal of run r1 is committed." in text
    assert before == {path: path.read_bytes() for path in output.glob("scores/**/*.parquet")}
    record = pipeline.open_run(str(output)).record
    given = ["--input", record["config"]["inputs"][0], "--path-fields", record["config"]["path_fields"]]
    job(*given, "--output", str(tmp_path / "again"), "--thresholds", str(table), "--run-id", "again")
    wanted = ["image_id", *LABEL_COLUMNS]
    labelled, scored = scores_of(output, label_set="cal"), scores_of(tmp_path / "again")
    assert labelled.select(wanted).sort_by("image_id") == scored.select(wanted).sort_by("image_id")
    assert 0 < sum(label or 0 for label in labelled["pred_label"].to_pylist()) < len(labelled)
    assert "nothing to do" in well("label", "--output", str(output), "--thresholds", str(table), "--label-set", "cal")


def test_a_share_of_pixels(output: Path, tmp_path: Path) -> None:
    """--pixel-rule pixels: the masks of normal images have that share of their pixels, and a little lower has more."""
    save = tmp_path / "t.parquet"
    options = ["--where", "defect = 'good'", "--min-images", "20", "--image-rate", "0.05", "--by", "line"]
    well("calibrate", "--output", str(output), *options, "--pixel-rule", "pixels", "--save", str(save))
    (row,) = (row for row in pq.read_table(save).to_pylist() if row["line"] == "a")
    size = map_settings(pipeline.open_run(str(output)).record)
    normal = [one for one in scores_of(output).to_pylist() if (one["defect"], one["line"]) == ("good", "a")]
    values = np.concatenate([anomaly_map(masks.patch_grid(one), **size).ravel() for one in normal])
    assert (values >= row["pixel_threshold"]).mean() <= 0.01 < (values >= row["pixel_threshold"] * 0.995).mean()
    assert row["pixel_rate_low"] <= 0.01 <= row["pixel_rate_high"]
    assert row["num_map_images"] == len(normal)


def test_thresholds_by_a_column_that_the_run_has_not(output: Path, table: Path, job: Job, tmp_path: Path) -> None:
    """Refused before anything is scored; nothing is left behind."""
    pictures = next((output.parent / "in/a/images/bolt").iterdir())
    given = ["--input", str(pictures), "--output", str(tmp_path / "out"), "--thresholds", str(table)]
    done = job(*given, check=False)
    assert done.returncode == 2
    assert "they are given by category, line, and this run has no column 'line'" in done.stderr
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_thresholds_that_are_for_no_image_are_told(output: Path, job: Job, tmp_path: Path) -> None:
    """Pictures without a category under thresholds by category: a warning in the summary and in the record."""
    model_id = pipeline.open_run(str(output)).record["model_id"]
    row = {"model_id": model_id, "category": "bolt", "image_threshold": 0.5, "pixel_threshold": 0.5}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    given = ["--input", str(output.parent / "in/a/images/bolt"), "--thresholds", str(tmp_path / "t.parquet")]
    done = job(*given, "--output", str(tmp_path / "out"), "--limit", "4")
    said = "no image is of any of their 1 groups (by category, such as bolt), so none has a label"
    assert f"WARNING: --thresholds: {said}" in done.stdout
    assert [said in warning for warning in pipeline.open_run(str(tmp_path / "out")).record["warnings"]].count(True) == 1
    with_category = job(*given, "--output", str(tmp_path / "as"), "--limit", "4", "--category", "bolt")
    assert said not in with_category.stdout


def test_thresholds_never_cross_models(output: Path, table: Path, job: Job, tmp_path: Path) -> None:
    """Of another precision is another model, too: refused by both jobs, with both models' names."""
    other = job(
        "--input", str(output.parent / "in/a/images"), "--output", str(tmp_path), "--precision", "bfloat16",
        "--thresholds", str(table), check=False,
    )  # fmt: skip
    assert other.returncode == 2
    assert "thresholds of one model mean nothing for another" in other.stderr
    foreign = pq.read_table(table)
    names = pa.array(["f" * 32] * len(foreign))
    pq.write_table(
        foreign.set_column(foreign.schema.get_field_index("model_id"), "model_id", names), tmp_path / "f.parquet"
    )
    done = start("label", "--output", str(output), "--thresholds", str(tmp_path / "f.parquet"))
    assert done.returncode == 2
    assert f"is for model {'f' * 32}, this run uses" in done.stderr


def test_killed_while_it_labels(output: Path, table: Path, tmp_path: Path) -> None:
    """kill -9: no label set exists; the same command makes it, and the run is sound."""
    copy = Path(shutil.copytree(output, tmp_path / "out"))
    command = [sys.executable, str(ROOT / "jobs/label.py"), "--output", str(copy), "--thresholds", str(table)]
    process = subprocess.Popen([*command, "--label-set", "k"], env=clean_environment(), stderr=subprocess.DEVNULL)
    folder = copy / "labels/run_id=r1/label_set=k"
    deadline = time.monotonic() + 100
    while not list(folder.glob("*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    if not (copy / "label_sets/r1/k.json").exists():  # it was not done already
        with pytest.raises(pipeline.errors.InputError, match="no label set 'k'"):
            pipeline.open_run(str(copy), label_set="k")
    well("label", "--output", str(copy), "--thresholds", str(table), "--label-set", "k")
    assert "as recorded" in well("runs", "verify", "--output", str(copy))


def test_in_an_object_store(output: Path, rclone: Store, tmp_path: Path) -> None:
    """Output, thresholds and labels in S3; an address that is signed or has a password is refused."""
    client(rclone).put(str(output), "bucket/thresholds-out", recursive=True)
    place, environment = "s3://bucket/thresholds-out", rclone.environment
    save = "s3://bucket/t.parquet"
    well("calibrate", "--output", place, "--where", "defect = 'good'", *CALIBRATE, "--save", save, **environment)
    text = well("label", "--output", place, "--thresholds", save, "--label-set", "s3", **environment)
    assert "s3://bucket/thresholds-out/label_sets/r1/s3.json" in text
    assert "as recorded" in well("runs", "verify", "--output", place, **environment)
    done = start("calibrate", "--output", "s3://me:secret@bucket/out")
    assert done.returncode == 2
    assert "secret" not in done.stderr


def test_labels_and_masks(output: Path, job: Job, tmp_path: Path) -> None:
    """--labels on a labelled dataset: F1-max of images, and of pixels by the masks that people drew."""
    folder = output.parent / "in/a"
    labels = pd.read_csv(folder / "labels.csv", keep_default_na=False)
    labels["uri"] = [str(folder / path) for path in labels["path"]]
    labels["mask_uri"] = [str(folder / path) if path else "" for path in labels["mask_path"]]
    labels[["uri", "label", "category", "mask_uri"]].to_csv(tmp_path / "manifest.csv", index=False)
    job("--input", str(tmp_path / "manifest.csv"), "--format", "plain", "--output", str(tmp_path / "out"))
    save = tmp_path / "t.parquet"
    well("calibrate", "--output", str(tmp_path / "out"), "--labels", "label", "--min-images", "20", "--save", str(save))
    pooled = next(row for row in pq.read_table(save).to_pylist() if row["category"] is None)
    scored = scores_of(tmp_path / "out").to_pylist()
    ranking = rank_images([row["pred_score"] for row in scored], [row["label"] for row in scored])
    assert pooled["image_f1"] == pytest.approx(ranking.f1_max().value)
    assert (pooled["pixel_rule"], pooled["num_map_images"]) == ("f1_max", len(scored))
    counts = PixelCounts()
    for row in scored:
        size = map_settings(pipeline.open_run(str(tmp_path / "out")).record)
        heat = anomaly_map(masks.patch_grid(row), **size)
        drawn = np.zeros(heat.shape, bool)
        if row["mask_uri"]:
            side = (size["image_size"],) * 2
            drawn = np.asarray(Image.open(row["mask_uri"]).convert("L").resize(side, Image.Resampling.NEAREST)) > 0
        counts.add(heat, drawn)
    assert pooled["pixel_f1"] == pytest.approx(counts.ranking().f1_max().value, abs=0.02)
