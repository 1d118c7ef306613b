"""jobs/query.py and queries/*.sql on real runs of jobs/score.py: two nights, bad files, a new category, copies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import s3fs
from real_parts import KEYS, ROOT, Job, Store, clean_environment

import pipeline
from pipeline import masks
from pipeline.queries import Query, answer

QUERIES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "queries").glob("*.sql"))}
MACROS, VIEWS = QUERIES.pop("macros"), QUERIES.pop("views")


def asked(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / "query.py"), *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, env=clean_environment(**environment)
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def output(archives: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The second night has the first one's pictures again under other names, some as a new category."""
    root = tmp_path_factory.mktemp("nights")
    pictures = archives / "images" / "images"
    days = {"n1": root / "2026-03-02", "n2": root / "2026-03-03"}
    for day in days.values():
        shutil.copytree(pictures, day / "line-a")
        (day / "line-a" / "wood" / "good").mkdir(parents=True, exist_ok=True)
        (day / "line-a" / "wood" / "good" / "bad.jpg").write_bytes(b"no picture")
    known = sorted(path.name for path in pictures.iterdir())[0]
    shutil.copytree(pictures / known, days["n2"] / "line-b" / "spring")
    for night, day in days.items():
        fields = ["--path-fields", "{line}/{category}/{defect}/{name}", "--image-threshold", "0.3"]
        options = [*fields, "--pixel-threshold", "0.2", "--max-error-fraction", "1", "--run-id", night]
        job("--input", str(day), "--output", str(root / "out"), *options)
    return str(root / "out")


@pytest.fixture(scope="module")
def shell(output: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET VARIABLE output = ?", [output])
        connection.execute(VIEWS)
        yield connection


def table(output: str, query: str, sql: str | None = None, **values: str) -> pa.Table:
    asking = Query(name=query, sql=sql or QUERIES[query], values=values, macros=MACROS)
    with answer(output, asking) as found:
        return pa.Table.from_batches(found.batches, found.schema)


@pytest.mark.parametrize("query", sorted(set(QUERIES) - {"label_sets_compare"}))
def test_every_query(output: str, shell: duckdb.DuckDBPyConnection, query: str) -> None:
    """It gives rows, and the same by `pipeline.open_views` and by views.sql alone."""
    found = table(output, query)
    assert found.num_rows > 0
    assert found.equals(shell.sql(QUERIES[query]).to_arrow_table())


def test_they_agree_with_the_records(output: str) -> None:
    """Counts of the commit, told by queries that never look there."""
    rates = {row["run_id"]: row for row in table(output, "anomaly_rate_over_time").to_pylist()}
    for run_id in ("n1", "n2"):
        counts = pipeline.open_run(output, run_id).record["counts"]
        assert rates[run_id]["images"] == rates[run_id]["labelled"] == counts["scored"]
        bad = table(output, "quarantine_by_reason", night=run_id).to_pylist()
        assert sum(row["images"] for row in bad) == counts["quarantined"] == 1
    assert table(output, "new_categories")["category"].to_pylist() == ["spring"]


def test_what_the_second_night_is(output: str) -> None:
    """Its pictures are copies of the first one's: the same scores, within what a batch may change."""
    copies = table(output, "duplicates_by_content_hash").to_pylist()
    assert len(copies) == len({row["content_hash"] for row in copies}) > 1
    assert max(row["score_spread"] for row in copies) < 1e-5
    assert sorted({row["copies"] for row in copies}) == [2, 3]
    parts = table(output, "same_part_over_time", count="1000").to_pylist()
    changes = [row["change"] for row in parts if row["change"] is not None]
    assert len(changes) >= 24
    assert not [row for row in parts if row["category"] == "spring"]  # once is no history
    assert max(map(abs, changes)) < 1e-5


def test_masks_and_maps(output: str) -> None:
    """SQL's are those of `pipeline.masks`, row by row."""
    macros = "patch_grid(patch_scores, map_size) AS grid, mask_runs(pred_mask.counts) AS runs"
    rows = table(output, "--sql", f"SELECT *, {macros}, mask_area_of(pred_mask.counts) AS area FROM scores").to_pylist()
    assert any(row["mask_area"] for row in rows)
    for row in rows:
        np.testing.assert_array_equal(np.array(row["grid"], np.float32), masks.patch_grid(row))
        assert row["area"] == row["mask_area"] == masks.decode(row).sum()
        assert row["runs"] == masks.run_lengths(row["pred_mask"]["counts"]).tolist()


def test_the_job(output: str, tmp_path: Path) -> None:
    """As a user types it: a table, JSON, a file, and one line for what is wrong."""
    told = asked("worst_of_the_night_per_line", "--output", output, "--set", "count=2")
    lines = [line.split("  ")[0] for line in told.stdout.splitlines()]
    assert (told.returncode, lines[:4]) == (0, ["line", "line-a", "line-a", "line-b"])
    rows = json.loads(asked("throughput", "--output", output, "--format", "json").stdout)
    assert [row["run_id"] for row in rows] == ["n1", "n2"]
    assert asked("drift", "--output", output, "--save", str(tmp_path / "drift.csv")).returncode == 0
    assert (tmp_path / "drift.csv").read_text().startswith('"scope","category","verdict"')
    wrong = asked("--sql", "SELECT station FROM scores", "--output", output)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "these scores have line, defect, name" in wrong.stderr


def test_on_s3(output: str, rclone: Store) -> None:
    """The same answer from a store, and saved into it."""
    s3 = s3fs.S3FileSystem(key=KEYS[0], secret=KEYS[1], endpoint_url=rclone.endpoint)
    for path in Path(output).rglob("*"):
        if path.is_file():
            s3.put_file(str(path), f"bucket/asked/{path.relative_to(output)}")
    uri = "s3://bucket/asked"
    told = asked("threshold_what_if", "--output", uri, "--format", "csv", **rclone.environment)
    assert told.stdout == asked("threshold_what_if", "--output", output, "--format", "csv").stdout
    assert asked("drift", "--output", uri, "--save", f"{uri}/drift.json", **rclone.environment).returncode == 0
    assert json.loads(s3.cat("bucket/asked/drift.json"))[0]["scope"] == "all"
