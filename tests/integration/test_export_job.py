"""jobs/export.py on a real run over files, tars and Parquet, as a user starts it; into a real S3 store, too."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from real_parts import ROOT, Job, Store, clean_environment, client, upload

import pipeline
from pipeline.masks import decode

# pycocotools hands NumPy an object of an older protocol.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.timeout(600),  # the first test also waits for the run
]

TURNED = (120, 80)  # (width, height) as shown; stored lying


def export(*arguments: str, expected: int = 0, **environment: str) -> str:
    command = [sys.executable, str(ROOT / "jobs" / "export.py"), *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=200, env=clean_environment(**environment)
    )
    assert done.returncode == expected, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scored(archives: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures in tars, 24 in Parquet, and one that its EXIF turns; thresholds low enough for masks."""
    images, output = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("scored")
    exif = Image.Exif()
    exif[0x0112] = 6
    first = next((archives / "images/images").rglob("*.*g"))
    Image.open(first).convert("RGB").resize(TURNED[::-1]).save(images / "turned.jpg", exif=exif)
    inputs = [images, archives / "webdataset", archives / "parquet"]
    thresholds = ["--image-threshold", "0.3", "--pixel-threshold", "0.1", "--run-id", "r"]
    job(*(part for one in inputs for part in ("--input", str(one))), "--output", str(output), *thresholds)
    return output


def test_pictures_masks_and_coco_agree(scored: Path, tmp_path: Path) -> None:
    """From shards: the copies, their COCO file and the tables tell the same of each image, upright."""
    told = export("coco", "--output", str(scored), "--save", str(tmp_path / "c.json"), expected=2)
    assert "lie in shards" in told
    copies = tmp_path / "set"
    export("pictures", "--output", str(scored), "--what", "original", "--save", str(copies))
    export("coco", "--output", str(scored), "--pictures", str(copies), "--save", str(tmp_path / "c.json"))
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO(str(tmp_path / "c.json"))
    rows = {row["image_id"]: row for row in pipeline.open_run(str(scored)).scores.to_table().to_pylist()}
    assert len(rows) == len(found.imgs)
    sizes = []
    for image in found.imgs.values():
        row = rows[image["image_id"]]
        with Image.open(copies / image["file_name"]) as copy:
            assert copy.size == (image["width"], image["height"]) == (row["width"], row["height"])
            sizes.append(copy.size)
        shapes = [found.annToMask(one) for one in found.imgToAnns[image["id"]]]
        np.testing.assert_array_equal(sum(shapes, np.zeros((row["height"], row["width"]))), decode(row))
    assert TURNED in sizes
    assert {row["shard"].rpartition(".")[2] for row in rows.values() if row["shard"]} == {"tar", "parquet"}
    assert len(found.anns) > 5


def test_overlays_of_the_highest(scored: Path, tmp_path: Path) -> None:
    """Five pictures and their index, in the order that was asked for."""
    options = ["--order-by", "pred_score DESC", "--limit", "5", "--save", str(tmp_path / "o")]
    assert "5 overlays" in export("pictures", "--output", str(scored), *options)
    with (tmp_path / "o/overlays.csv").open(newline="") as file:
        index = list(csv.DictReader(file))
    scores = [float(row["pred_score"]) for row in index]
    assert scores == sorted(scores, reverse=True)
    assert len(list((tmp_path / "o").glob("*.overlay.png"))) == 5


def test_back_from_review(scored: Path, tmp_path: Path) -> None:
    """An unchanged COCO file is a manifest of as many anomalous images as have a mask; the copies are its pictures."""
    copies = tmp_path / "set"
    chosen = ["--output", str(scored), "--where", "shard IS NOT NULL"]
    export("pictures", *chosen, "--what", "original", "--save", str(copies))
    export("coco", *chosen, "--pictures", str(copies), "--save", str(tmp_path / "c.json"))
    told = export("reviewed", *chosen, "--pictures", str(copies), "--from", str(tmp_path / "c.json"),
                  "--save", str(tmp_path / "r.csv"))  # fmt: skip
    document = json.loads((tmp_path / "c.json").read_text())
    marked = len({one["image_id"] for one in document["annotations"]})
    assert f"{marked} images were found anomalous, {len(document['images']) - marked} normal" in told
    with (tmp_path / "r.csv").open(newline="") as file:
        assert all(Path(row["uri"]).exists() for row in csv.DictReader(file))


def test_originals_out_of_s3(rclone: Store, archives: Path, job: Job, tmp_path: Path) -> None:
    """Members of a tar in a store, and tables in it, by the same command."""
    upload(rclone, archives / "webdataset", "bucket/tars")
    job("--input", "s3://bucket/tars", "--output", "s3://bucket/out", "--run-id", "r", **rclone.environment)
    options = ["--output", "s3://bucket/out", "--what", "original", "--save", str(tmp_path / "set")]
    assert "24 originals" in export("pictures", *options, **rclone.environment)
    sizes = {Image.open(path).size for path in (tmp_path / "set").glob("*.png")}
    assert sizes == {(64, 64)}


def test_into_s3(scored: Path, rclone: Store, tmp_path: Path) -> None:
    """Files and folders in a store are the same as on a disk."""
    chosen = ["--output", str(scored), "--where", "shard IS NOT NULL", "--limit", "3"]
    export("pictures", *chosen, "--what", "mask", "--save", "s3://bucket/export/masks", **rclone.environment)
    export("label-studio", *chosen, "--pictures", "s3://bucket/export/set", "--save", "s3://bucket/export/t.json",
           **rclone.environment)  # fmt: skip
    export("label-studio", *chosen, "--pictures", "s3://bucket/export/set", "--save", str(tmp_path / "t.json"))
    store = client(rclone)
    found = sorted(path.removeprefix("bucket/export/") for path in store.find("bucket/export"))
    assert [name for name in found if not name.startswith("masks/")] == ["t.json", "t.xml"]
    assert len(found) == 2 + 3 + 1
    assert store.cat_file("bucket/export/t.json") == (tmp_path / "t.json").read_bytes()
