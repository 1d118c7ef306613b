"""jobs/score.py on a local Ray, as a user starts it; its tables read by other engines."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from real_parts import Job, clean_environment, score_command
from small_training import write_checkpoint

import pipeline
from pipeline import masks


def scores(output: Path) -> pd.DataFrame:
    found = (
        duckdb.sql(f"SELECT * FROM '{output}/scores/*/*.parquet' ORDER BY content_hash").to_arrow_table().to_pandas()
    )
    assert not found.empty
    return found


@pytest.fixture(scope="module")
def scored(archives: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images archive, scored with thresholds and columns from the path."""
    output = tmp_path_factory.mktemp("scored")
    options = ["--image-threshold", "0.5", "--pixel-threshold", "0.3", "--path-fields", "{category}/{defect}/{name}"]
    job("--input", str(archives / "images/images"), "--output", str(output), "--run-id", "r", *options)
    return output


def test_every_image_once_and_the_record_says_so(scored: Path) -> None:
    """planned = scored + quarantined; the record names every file with its rows; nothing else is left behind."""
    record = json.loads((scored / "runs/r.json").read_text())
    assert record["counts"] | {"bytes": 0} == {
        "planned": 24, "scored": 24, "quarantined": 0, "skipped": 0, "duplicates": 0, "unmatched": 0,
        "bytes": 0,
    }  # fmt: skip
    assert sum(file["rows"] for file in record["files"]) == 24
    assert {str(path.relative_to(scored)) for path in scored.rglob("*.parquet")} == {f["path"] for f in record["files"]}
    assert record["warnings"] == []
    assert not (scored / "runs/r").exists()
    assert scores(scored)["image_id"].nunique() == 24


def test_other_engines_read_the_same_rows(scored: Path) -> None:
    """DuckDB, pandas and Polars see one table, metadata columns included."""
    by_duckdb = scores(scored).sort_values("image_id")
    glob = str(scored / "scores/run_id=r/*.parquet")
    by_polars = pl.read_parquet(glob).sort("image_id")
    by_pandas = pd.concat(map(pd.read_parquet, sorted((scored / "scores/run_id=r").glob("*.parquet"))))
    assert by_polars["pred_score"].to_list() == pytest.approx(by_duckdb["pred_score"].tolist(), abs=0)
    assert sorted(by_pandas["image_id"]) == by_polars["image_id"].to_list()
    assert set(by_polars["defect"]) >= {"good"}
    assert by_polars["category"].null_count() == 0


def test_a_mask_lies_on_its_picture(scored: Path) -> None:
    """decode(row) has the picture's size; area and regions agree with it."""
    run = pipeline.open_run(str(scored))
    for row in run.scores.to_table().to_pylist():
        mask = masks.decode(row)
        assert mask.shape == (row["height"], row["width"])
        assert mask.sum() == row["mask_area"] == sum(region["area"] for region in row["regions"])
        assert row["pred_label"] == int(row["pred_score"] >= 0.5)


def test_a_complete_run_changes_nothing(scored: Path, archives: Path, job: Job) -> None:
    """The same command again: exit 0, told so, no file touched. Other values: exit 2, told which.

    A plan that is left, of a driver that was killed after its commit, is removed.
    """
    before = {path: path.stat().st_mtime_ns for path in scored.rglob("*") if path.is_file()}
    (scored / "runs/r").mkdir()
    (scored / "runs/r/plan.json").write_text("{}")
    options = ["--image-threshold", "0.5", "--pixel-threshold", "0.3", "--path-fields", "{category}/{defect}/{name}"]
    images = str(archives / "images/images")
    again = job("--input", images, "--output", str(scored), "--run-id", "r", *options)
    assert "nothing to do" in again.stdout
    other = job("--input", images, "--output", str(scored), "--run-id", "r", check=False)
    assert other.returncode == 2
    assert "image_threshold was 0.5, is now None" in other.stderr
    assert {path: path.stat().st_mtime_ns for path in scored.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("form", ["webdataset", "parquet", "manifest"])
def test_one_picture_one_score_in_every_form(form: str, scored: Path, archives: Path, job: Job, tmp_path: Path) -> None:
    """The same bytes as file, in a tar, in Parquet or by manifest: equal scores to 1e-5, equal maps; columns kept."""
    source = archives / form / ("manifest.parquet" if form == "manifest" else "")
    job("--input", str(source), "--output", str(tmp_path), "--batch-size", "3", "--keep-columns", "line,label")
    expected, found = scores(scored), scores(tmp_path)
    assert found["content_hash"].tolist() == expected["content_hash"].tolist()
    assert found["pred_score"].tolist() == pytest.approx(expected["pred_score"].tolist(), abs=1e-5)
    assert found["category"].tolist() == expected["category"].tolist()
    assert found["line"].notna().all()
    assert found["pred_label"].isna().all()
    assert found["pred_mask"].isna().all()


def test_incremental_skips_what_is_scored_and_unchanged(archives: Path, job: Job, tmp_path: Path) -> None:
    """A second night: one picture replaced, one new; these two are scored, the others skipped, and one that was bad
    before spoils the night no more.
    """
    images = tmp_path / "images"
    pictures = sorted((archives / "images/images").rglob("*.jpg"))
    images.mkdir()
    for number, picture in enumerate(pictures[:6]):
        (images / f"{number}.jpg").write_bytes(picture.read_bytes())
    (images / "bad.jpg").write_bytes(b"no picture")
    options = ["--input", str(images), "--output", str(tmp_path / "out"), "--incremental"]
    assert job(*options, "--run-id", "first", check=False).returncode == 3
    (images / "0.jpg").write_bytes(pictures[7].read_bytes())
    (images / "new.jpg").write_bytes(pictures[8].read_bytes())
    job(*options, "--run-id", "second")
    counts = pipeline.open_run(str(tmp_path / "out"), "second").record["counts"]
    assert (counts["planned"], counts["scored"], counts["skipped"], counts["known_bad"]) == (3, 2, 5, 1)
    job(*options, "--run-id", "third", "--limit", "3", "--alpha-background", "#000000")
    counts = pipeline.open_run(str(tmp_path / "out"), "third").record["counts"]
    assert (counts["scored"], counts["skipped"]) == (3, 0)  # other decoding, other scores


def test_hostile_files_are_quarantined_and_exit_code_3_says_so(job: Job, archives: Path, tmp_path: Path) -> None:
    """Bad files are rows with stage and reason; the good ones are scored; above the share the exit code is 3."""
    images = tmp_path / "images"
    images.mkdir()
    good = next((archives / "images/images").rglob("*.jpg")).read_bytes()
    files = {"good.jpg": good, "cut.jpg": good[: len(good) // 2], "empty.jpg": b"", "page.jpg": b"<html>no</html>"}
    files |= {"line\nbreak #%.jpg": good, "x.txt": b"not an image"}
    for name, content in files.items():
        (images / name).write_bytes(content)
    done = job("--input", str(images), "--output", str(tmp_path / "out"), "--run-id", "r", check=False)
    assert done.returncode == 3, done.stderr
    run = pipeline.open_run(str(tmp_path / "out"))
    found = {
        row["image_uri"].rpartition("/")[2]: (row["stage"], row["reason"])
        for row in run.quarantine.to_table().to_pylist()
    }
    assert found == {
        "cut.jpg": ("decode", "truncated"), "empty.jpg": ("read", "empty"), "page.jpg": ("decode", "not_an_image"),
    }  # fmt: skip
    assert run.scores.count_rows() == 2
    assert run.record["ignored_files"] == {".txt": 1}


def test_dry_run_writes_nothing(archives: Path, job: Job, tmp_path: Path) -> None:
    """Counts, model and what it warns of, time; no output folder."""
    output, model = tmp_path / "out", write_checkpoint(tmp_path / "random.safetensors")
    options = ["--model", str(model), "--dry-run", "--limit", "7"]
    told = job("--input", str(archives / "webdataset"), "--output", str(output), *options).stdout
    assert "images     7" in told
    assert "untrained" in told
    assert "time       about" in told
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "/no/such/place"], "no such file"),
        (["--input", "s3://key:secret@bucket/x"], "carries credentials"),
        (["--input", "{images}", "--run-id", "../x"], "--run-id"),
        (["--input", "{images}", "--model", "/no/such/model"], "/no/such/model"),
        (["--input", "{images}", "--device", "cuda"], "no node of this Ray cluster has a GPU"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    arguments: list[str], words: str, archives: Path, job: Job, tmp_path: Path
) -> None:
    """A clear line on stderr and an exit code; no secret in it; nothing committed."""
    given = [argument.replace("{images}", str(archives / "images/images")) for argument in arguments]
    done = job(*given, "--output", str(tmp_path / "out"), check=False)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr + done.stdout
    assert not list((tmp_path / "out").glob("runs/*.json"))


def test_a_killed_driver_loses_nothing_and_nothing_is_scored_twice(job: Job, tmp_path: Path, many: Path) -> None:
    """kill -9 in the middle; the same command finishes; what the first attempt wrote stays as it was."""
    output = tmp_path / "out"
    arguments = ["--input", str(many), "--output", str(output), "--run-id", "night"]
    driver = subprocess.Popen(
        score_command(*arguments), env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    try:
        while not list(output.glob("scores/run_id=night/*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
    first = {path: path.read_bytes() for path in output.glob("scores/run_id=night/*.parquet")}
    assert first, "the run wrote nothing before it was killed"
    assert not (output / "runs/night.json").exists(), "the run was over before it was killed"
    again = job(*arguments)
    assert "resuming" in again.stderr
    run = pipeline.open_run(str(output))
    ids = run.scores.to_table(columns=["image_id"])["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == run.record["counts"]["planned"]
    assert run.record["attempts"] == 2
    assert {path: path.read_bytes() for path in first} == first


def test_sigterm_ends_in_order(tmp_path: Path, many: Path) -> None:
    """As a scheduler or a cluster stops a job: it says so, gives its claim back, and keeps what is scored."""
    output = tmp_path / "out"
    arguments = ["--input", str(many), "--output", str(output), "--run-id", "night"]
    driver = subprocess.Popen(score_command(*arguments), env=clean_environment(), stderr=subprocess.PIPE, text=True)
    assert driver.stderr
    try:
        said = [next(line for line in driver.stderr if "planned" in line)]
        driver.terminate()
        said += driver.stderr.readlines()
        assert driver.wait(60) == 130, said
    finally:
        driver.kill()
        driver.wait()
    assert said[-1] == "stopped. What is scored is kept; --run-id night goes on with it\n", said
    assert not any("Traceback" in line or "SIGTERM" in line for line in said)
    (claim,) = output.glob("runs/night/claim-*.json")
    assert json.loads(claim.read_text())["released"] is True
