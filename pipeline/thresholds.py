"""Thresholds: given as numbers, or per category from the table that jobs/calibrate.py writes; never guessed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import check_threshold
from pipeline.errors import InputError
from pipeline.storage import open_root, redact
from pipeline.store_errors import describe

COLUMNS = ("model_id", "category", "image_threshold", "pixel_threshold")


@dataclass(frozen=True)
class Threshold:
    """Scores at or above it are anomalous; None where there is none."""

    image: float | None = None
    pixel: float | None = None


@dataclass(frozen=True)
class Thresholds:
    """A threshold per category; `pooled` for every other category and for images without one."""

    pooled: Threshold = Threshold()
    by_category: Mapping[str, Threshold] = field(default_factory=dict)

    def of(self, category: str | None) -> Threshold:
        return self.by_category.get(category, self.pooled) if category is not None else self.pooled

    @property
    def digest(self) -> str:
        """Changes with every threshold: a table may be written anew under its old name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


def read_thresholds(uri: str, model_id: str) -> Thresholds:
    """The thresholds that were calibrated for this model.

    Raises:  InputError: no such table, other columns, thresholds of another model, or two rows for one category.
    """
    root = open_root(uri)
    name = redact(uri)
    try:
        with root.fs.open(root.path, "rb") as file:
            table = pq.read_table(file)
        missing = [column for column in COLUMNS if column not in table.column_names]
        rows = [] if missing else table.select(COLUMNS).to_pylist()
    except FileNotFoundError as exc:
        raise InputError(f"--thresholds: there is no {name}") from exc
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as exc:  # ValueError: text that is none
        raise InputError(f"--thresholds: {name} cannot be read as a Parquet file: {describe(exc)}") from exc
    if missing:
        raise InputError(f"--thresholds: {name}: expected the columns {', '.join(COLUMNS)}; missing: {missing}")
    category = table.schema.field("category").type
    if not (pa.types.is_string(category) or pa.types.is_large_string(category) or pa.types.is_null(category)):
        raise InputError(f"--thresholds: {name}: expected text in category, got {category}")
    others = sorted({str(row["model_id"]) for row in rows} - {model_id})
    if others or not rows:
        raise InputError(
            f"--thresholds: {name} is for model {', '.join(others) or '(none)'}, this run uses {model_id}: "
            "thresholds of one model mean nothing for another: calibrate again"
        )
    for column in COLUMNS[2:]:
        kind = table.schema.field(column).type
        if not (
            pa.types.is_floating(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_null(kind)
        ):
            raise InputError(f"--thresholds: {name}: expected numbers in {column}, got {kind}")
    found = {row["category"]: Threshold(*(_value(row, column, name) for column in COLUMNS[2:])) for row in rows}
    if len(found) != len(rows):
        raise InputError(f"--thresholds: {name} has more than one row for a category")
    pooled = found.pop(None, Threshold())
    return Thresholds(pooled, found)


def _value(row: Mapping[str, Any], column: str, table: str) -> float | None:
    """A cell's threshold; NaN is none, as Polars and NumPy write it."""
    value = row[column]
    if value is None or math.isnan(value):
        return None
    check_threshold(f"--thresholds: {table}: {column} of {row['category']!r}", value)
    return float(value)
