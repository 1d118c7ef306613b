"""What publishing a run into Iceberg tables costs: ours, and Ray's write_iceberg, of the same committed run."""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pyarrow as pa

from pipeline import commit, publication
from pipeline.layout import RunLayout
from pipeline.parts import parquet_bytes, part_name
from pipeline.runs import open_run
from pipeline.schema import RUN_FORMAT, SCORES

RUN, SIDE = "run-2026-11-23T01-00-00Z", 37
PART_ROWS = 8192
SAME = "the same again"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--result", type=Path, default=pages.ROOT / "benchmarks/results/iceberg.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cops-iceberg-") as folder:
        output, lake = f"{folder}/out", f"{folder}/lake"
        # In a process of its own, so that its memory is not counted.
        making = multiprocessing.get_context("spawn").Process(target=make_run, args=(output, options.rows))
        making.start()
        making.join()
        num_bytes = sum(path.stat().st_size for path in Path(output).rglob("*.parquet"))
        Path(lake).mkdir()
        configure(lake)
        lines = [ours(output, num_bytes, "publish, a new run"), *again(output, num_bytes)]
        lines += [rays(output, num_bytes)]
    header = ("", "seconds", "MB/s", "ms an image", "driver, MiB at most", "snapshots", "data files")
    head = ["# Publishing into Iceberg tables", "", f"`python benchmarks/iceberg.py --rows {options.rows}`", ""]
    told = f"{options.rows:,} rows with a map of {SIDE}×{SIDE} and no mask, {num_bytes / 1e6:,.0f} MB in parts of "
    told += f"{PART_ROWS:,} rows; a local disk, a catalog in SQLite. "
    told += f"Load of the machine before it, of other work: {load:.0f}."
    pages.write([*head, *pages.table(header, lines), "", *pages.footer(told)], options.result)


def configure(lake: str) -> None:
    """Before pyiceberg is imported, which reads it then."""
    given = {"TYPE": "sql", "URI": f"sqlite:///{lake}/catalog.db", "WAREHOUSE": f"file://{lake}"}
    os.environ |= {f"PYICEBERG_CATALOG__LAKE__{name}": value for name, value in given.items()}


def make_run(output: str, rows: int) -> None:
    layout = RunLayout.at(output, RUN)
    rng = np.random.default_rng(0)
    now = datetime.datetime.now(datetime.UTC)
    for start in range(0, rows, PART_ROWS):
        count = min(PART_ROWS, rows - start)
        ids = [rng.bytes(16).hex() for _ in range(count)]
        maps = rng.random((count, SIDE * SIDE)).astype("<f2")
        columns = {
            "image_id": ids,
            "image_uri": [f"s3://bucket/line-3/2026-11-23/{start + at:09d}.jpg" for at in range(count)],
            "content_hash": [rng.bytes(32).hex() for _ in range(count)],
            "pred_score": rng.random(count).astype(np.float32),
            "patch_scores": [row.tobytes() for row in maps],
            "map_size": [[SIDE, SIDE]] * count,
            "scored_at": [now] * count,
        }
        filled = [columns.get(one.name, [None] * count) for one in SCORES]
        table = pa.Table.from_arrays(
            [pa.array(values, one.type) for values, one in zip(filled, SCORES, strict=True)], schema=SCORES
        )
        path = Path(layout.part_path("scores", part_name(1, ids)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes(table))
    files = commit.file_records(commit.data_files(layout, layout.all_parts()))
    record = {"format": RUN_FORMAT, "run_id": RUN, "committed_at": now.isoformat(), "files": files}
    Path(layout.commit_path).parent.mkdir(parents=True)
    Path(layout.commit_path).write_text(json.dumps(record))


def ours(output: str, num_bytes: int, what: str) -> list[str]:
    began, cpu = time.monotonic(), time.process_time()
    publication.publish(output, RUN, "iceberg://lake/ours.scores")
    return line(what, began, num_bytes, "ours.scores", output, cpu)


def again(output: str, num_bytes: int) -> list[list[str]]:
    """The same run again; and the run in the place of another of its id, as after a discard."""
    same = ours(output, num_bytes, SAME)
    path = Path(RunLayout.at(output, RUN).commit_path)
    record = json.loads(path.read_text())
    record["files"][0]["footer_sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    return [same, ours(output, num_bytes, "publish, in the place of another")]


def rays(output: str, num_bytes: int) -> list[str]:
    """Ray's overwrite of a run that is there, in a table as pyiceberg makes it."""
    import ray.data  # noqa: PLC0415 -- seconds, which ours does not take
    from ray.data import SaveMode  # noqa: PLC0415
    from ray.data.expressions import col  # noqa: PLC0415

    catalog = load_catalog()
    catalog.create_namespace("rays")
    run = open_run(output, RUN)
    schema = pa.schema([pa.field("run_id", pa.string()), *run.scores.schema])
    with catalog.create_table_transaction("rays.scores", schema) as made, made.update_spec() as spec:
        spec.add_identity("run_id")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)

    def with_run(rows: pa.Table) -> pa.Table:
        return rows.append_column("run_id", pa.array([RUN] * len(rows))).select(schema.names)

    began = cpu = 0.0
    for _ in range(2):
        began, cpu = time.monotonic(), time.process_time()
        read = ray.data.read_parquet(run.scores.files, columns=run.scores.schema.names)
        # Not materialized, the sink takes the columns of Ray's list of files for ours.
        rows = read.map_batches(with_run, batch_format="pyarrow", batch_size=None).materialize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.write_iceberg(
                "rays.scores",
                catalog_kwargs={"name": "lake"},
                mode=SaveMode.OVERWRITE,
                overwrite_filter=col("run_id") == RUN,
            )
    what = "Ray's write_iceberg, in the place of another, two workers"
    return line(what, began, num_bytes, "rays.scores", output, cpu)


def load_catalog() -> Any:
    from pyiceberg import catalog  # noqa: PLC0415 -- it reads its configuration then

    return catalog.load_catalog("lake")


def line(what: str, began: float, num_bytes: int, name: str, output: str, cpu: float) -> list[str]:
    took, work = time.monotonic() - began, time.process_time() - cpu
    rows = open_run(output, RUN).scores.count_rows()
    table = load_catalog().load_table(name)
    assert table.scan().count() == rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = len(list(table.scan().plan_files()))
    rate = f"{num_bytes / 1e6 / took:,.0f}" if what != SAME else "–"
    cells = [f"{took:.1f}", rate, f"{work * 1000 / rows:.3f}", f"{peak:,.0f}"]
    return [what, *cells, f"{len(table.snapshots())}", f"{files}"]


if __name__ == "__main__":
    main()
