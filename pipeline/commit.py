"""The single point at which a run comes into being: everything checked, then one file written once."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import cops
from pipeline import ledger
from pipeline.errors import RunError
from pipeline.layout import Parts, RunLayout, Table
from pipeline.parts import footer_digest
from pipeline.write import STAGES, TOTALS_KEY

_FOOTERS_AT_ONCE = 16
_PACKAGES = (
    "ray",
    "torch",
    "open_clip_torch",
    "pyarrow",
    "pandas",
    "numpy",
    "pillow",
    "fsspec",
    "duckdb",
)


@dataclass(frozen=True)
class DataFile:
    """One part file of a run; `path` is relative to the output root."""

    table: Table
    path: str
    rows: int
    num_bytes: int
    footer_sha256: str
    totals: Mapping[str, float]


def data_files(layout: RunLayout, parts: Parts) -> list[DataFile]:
    """The part files with their row counts, from their footers."""
    named = [(table, path) for table, paths in parts.items() for path in paths]
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as threads:
        return list(threads.map(lambda one: _data_file(layout, *one), named))


def _data_file(layout: RunLayout, table: Table, path: str) -> DataFile:
    with layout.root.fs.open(path, "rb") as opened:
        metadata = pq.read_metadata(opened)
        digest = footer_digest(opened)
        size = opened.seek(0, 2)
    totals = json.loads((metadata.metadata or {}).get(TOTALS_KEY, b"{}"))
    return DataFile(table, layout.below_root(path), metadata.num_rows, size, digest, totals)


def verify(layout: RunLayout, plan_files: Sequence[str], parts: Parts) -> None:
    """Hold the parts that are to be committed against the plan.

    Raises:  RunError: an image is missing, there twice, or was never planned.
    """
    with ledger.tables(
        layout.root, plan=list(plan_files), scores=parts["scores"], quarantine=parts["quarantine"]
    ) as sql:
        balance = ledger.balance(sql)
    if not balance.is_even:
        raise RunError(
            f"run {layout.run_id!r} is not committed: of its planned images {balance.missing} are in no table, "
            f"{balance.twice} are there twice, and {balance.unplanned} were never planned "
            f"(such as image_id {', '.join(balance.examples)}). Run the same command again to do what is missing."
        )


def counts_of(files: Sequence[DataFile]) -> dict[str, int]:
    """Rows of both tables, and the encoded bytes of the images behind them."""
    rows: Counter[str] = Counter()
    for file in files:
        rows[file.table] += file.rows
    num_bytes = int(sum(file.totals.get("num_bytes", 0) for file in files))
    return {"scored": rows["scores"], "quarantined": rows["quarantine"], "bytes": num_bytes}


def seconds_of(files: Sequence[DataFile]) -> dict[str, float]:
    """Seconds of work by stage, summed over tasks and attempts."""
    stages = {stage.removesuffix("_s"): stage for stage in STAGES}
    return {name: round(sum(file.totals.get(stage, 0.0) for file in files), 3) for name, stage in stages.items()}


def file_records(files: Sequence[DataFile]) -> list[dict[str, Any]]:
    kept = ("table", "path", "rows", "num_bytes", "footer_sha256")
    return [{name: getattr(file, name) for name in kept} for file in files]


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "cops-inspection": cops.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the code that runs; None where neither a checkout nor COPS_GIT_COMMIT tells."""
    # Ray's --working-dir leaves .git out; `make submit` sets the variable.
    if told := os.environ.get("COPS_GIT_COMMIT"):
        return told
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
