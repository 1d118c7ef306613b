"""jobs/score.py --table as a user starts it: tables in an S3 store, a catalog in SQLite, read by other engines."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from real_parts import KEYS, Job, Store, client

import pipeline

TABLE = "iceberg://lake/inspection.scores"


@pytest.fixture(scope="module")
def lake(rclone: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Properties of the catalog, the store's keys among them."""
    return {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path_factory.mktemp('catalog')}/catalog.db",
        "warehouse": "s3://bucket/lake",
        "s3.endpoint": rclone.endpoint,
        "s3.access-key-id": KEYS[0],
        "s3.secret-access-key": KEYS[1],
        "s3.region": "us-east-1",
    }


@pytest.fixture(scope="module")
def environment(lake: dict[str, str]) -> dict[str, str]:
    """The same, as pyiceberg reads it."""
    names = {name: name.upper().replace(".", "__").replace("-", "_") for name in lake}
    plain = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}  # rclone does not know uploads in signed chunks
    return plain | {f"PYICEBERG_CATALOG__LAKE__{names[name]}": lake[name] for name in lake}


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A place of its own for Ray's logs; its path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="c", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def open_lake(properties: dict[str, str]) -> Catalog:
    return load_catalog("lake", **properties)


def rows_of(table: Any) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["image_id"])


@pytest.mark.timeout(600)
def test_a_run_is_published(
    archives: Path, job: Job, lake: dict[str, str], environment: dict[str, str], rclone: Store, ray_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A dry run makes nothing; a run that was committed before it could be published is published by the same command;
    pyiceberg and DuckDB read what the Parquet holds; a column that conflicts stops a run before it scores; no key of
    the store is told, logged or written.
    """
    bad = tmp_path / "in" / "cable" / "bad" / "cut.png"
    shutil.copytree(archives / "images/images", tmp_path / "in")
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    output = str(tmp_path / "out")
    places = ["--input", str(tmp_path / "in"), "--output", output, "--max-error-fraction", "1", "--run-id"]
    options = ["--pixel-threshold", "0.3", "--path-fields", "{category}/{defect}/{name}"]
    environment = environment | {"RAY_TMPDIR": str(ray_folder)}

    dry = job(*places, "r1", *options, "--table", TABLE, "--dry-run", **environment)
    assert f"table      {TABLE}  (to be made)" in dry.stdout
    assert open_lake(lake).list_namespaces() == []

    job(*places, "r1", *options, **environment)  # as one that was killed behind its commit
    done = job(*places, "r1", *options, "--table", TABLE, **environment)
    assert "nothing to do" in done.stdout
    assert f"table       {TABLE}  (24 rows, snapshot " in done.stdout
    assert f"table       {TABLE}_quarantine  (1 row, snapshot " in done.stdout

    table = open_lake(lake).load_table("inspection.scores")
    committed = pipeline.open_run(output)
    expected = [row | {"run_id": "r1"} for row in rows_of(committed.scores.to_table())]
    assert rows_of(table.scan().to_arrow()) == expected
    by_duckdb = table.scan().to_duckdb("scores", duckdb.connect())
    highest = max(row["pred_score"] for row in expected)
    assert by_duckdb.sql("SELECT count(*), max(pred_score) FROM scores").fetchall() == [(24, highest)]
    (cut,) = open_lake(lake).load_table("inspection.scores_quarantine").scan().to_arrow().to_pylist()
    assert (cut["run_id"], cut["image_uri"], cut["stage"]) == ("r1", str(bad), "decode")

    other = ["--path-fields", "{category}/{Defect}/{name}", "--table", TABLE]
    stopped = job(*places, "r2", *other, check=False, **environment)
    assert stopped.returncode == 2, stopped.stderr
    assert "the table has a column 'defect', the run 'Defect'" in stopped.stderr
    assert not (tmp_path / "out/scores/run_id=r2").exists()

    texts = [done.stdout, done.stderr, dry.stdout, dry.stderr, stopped.stdout, stopped.stderr]
    files = [path.read_bytes() for folder in (tmp_path / "out", ray_folder) for path in files_in(folder)]
    fs = client(rclone)
    in_store = [fs.cat_file(path) for path in fs.find("bucket/lake")]
    assert len(in_store) > 6
    assert not any(KEYS[1].encode() in data for data in [*files, *in_store, *(text.encode() for text in texts)])


@pytest.mark.timeout(300)
def test_a_run_in_one_command(
    archives: Path, job: Job, lake: dict[str, str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Scored, committed and published beside the runs that are there; the same again leaves the tables alone."""
    command = ["--input", str(archives / "parquet"), "--output", str(tmp_path), "--run-id", "r9", "--table", TABLE]
    done = job(*command, **environment)
    assert "Run r9 is committed" in done.stdout
    assert f"table       {TABLE}  (24 rows, snapshot " in done.stdout
    table = open_lake(lake).load_table("inspection.scores")
    assert table.scan("run_id == 'r9'").count() == 24
    again = job(*command, **environment)
    assert f"snapshot {table.current_snapshot().snapshot_id}, there already)" in again.stdout
    assert open_lake(lake).load_table("inspection.scores").metadata_location == table.metadata_location


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
