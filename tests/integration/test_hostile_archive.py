"""The sample archive with every hostile file, shard and row, through the job: each has the outcome that is listed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from real_parts import ROOT, Job

import pipeline
from pipeline.samples.hostile import KINDS

PICTURES = 12


def make(output: Path, form: str) -> list[dict[str, Any]]:
    """The archive; what its list says of each hostile thing."""
    command = [sys.executable, str(ROOT / "jobs" / "make_samples.py"), "--output", str(output), "--format", form]
    options = ["--count", str(PICTURES), "--size", "48", "--hostile", str(len(KINDS)), "--shard-size", "6"]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=200)
    listed: list[dict[str, Any]] = json.loads((output / "hostile.json").read_text())
    return listed


def uri_of(row: dict[str, Any], output: Path) -> str:
    """How the tables name it."""
    if row["name"] is None:  # the manifest's row before the last
        return f"{output}/manifest.parquet#{pq.read_metadata(output / 'manifest.parquet').num_rows - 2}"
    if row["shard"] is None:
        return str(row["name"]) if "://" in row["name"] else str(output / row["name"])
    if row["shard"].endswith(".tar"):
        return f"{output}/{row['shard']}#{row['name'].rpartition('.')[0]}"
    names = pq.read_table(output / row["shard"], columns=["name"])["name"].to_pylist()
    return f"{output}/{row['shard']}#{names.index(row['name'])}"


@pytest.mark.parametrize("form", ["images", "webdataset", "parquet", "manifest"])
def test_every_hostile_thing_has_the_outcome_that_is_listed(form: str, job: Job, tmp_path: Path) -> None:
    """Scored, or quarantined for the very reason; each picture beside them is scored; exit code 3 tells the share."""
    archive, output = tmp_path / "archive", tmp_path / "out"
    listed = make(archive, form)
    source = {"images": "images", "manifest": "manifest.parquet"}.get(form, "")
    done = job("--input", str(archive / source), "--output", str(output), "--run-id", "r", check=False)
    assert done.returncode == 3, done.stderr
    run = pipeline.open_run(str(output), "r")
    found: dict[str, set[str | None]] = defaultdict(set)
    for row in run.quarantine.to_table(["image_uri", "reason"]).to_pylist():
        found[row["image_uri"]].add(row["reason"])
    for uri in run.scores.to_table(["image_uri"])["image_uri"].to_pylist():
        found[uri].add(None)
    expected = {(uri_of(row, archive), row["reason"]) for row in listed if row["expected"] != "nothing"}
    assert {(uri, reason) for uri, reason in expected if reason not in found[uri]} == set()
    hostile = {uri for uri, _ in expected}
    beside = [reasons for uri, reasons in found.items() if uri not in hostile and reasons]
    assert len(beside) == PICTURES - (form == "manifest")  # one of them is listed: it is there twice
    assert all(reasons == {None} for reasons in beside)
    counts = run.record["counts"]
    assert counts["planned"] == counts["scored"] + counts["quarantined"]
    assert counts["duplicates"] == (form == "manifest")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "out"]
