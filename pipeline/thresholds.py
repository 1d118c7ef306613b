"""Thresholds: given as numbers, or per group from the table that jobs/calibrate.py writes; never guessed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cops.shown import shown
from pipeline.config import check_threshold
from pipeline.errors import InputError
from pipeline.storage import Root, open_root, redact
from pipeline.store_errors import describe

VERSION = 1
COLUMNS = ("model_id", "category", "image_threshold", "pixel_threshold")  # what a table must have
_BY_CATEGORY = ("category",)
_BOUNDS = ("max_pixels", "max_bytes")  # rules of decoding that change no score


@dataclass(frozen=True)
class Threshold:
    """Scores at or above it are anomalous; None where there is none."""

    image: float | None = None
    pixel: float | None = None


@dataclass(frozen=True)
class Thresholds:
    """A threshold per group, which is what a row has in the columns `by`; `pooled` for rows of every other group."""

    pooled: Threshold = Threshold()
    by_group: Mapping[tuple[Any, ...], Threshold] = field(default_factory=dict)
    by: tuple[str, ...] = _BY_CATEGORY

    def of(self, row: Mapping[str, Any]) -> Threshold:
        return self.by_group.get(tuple(row.get(name) for name in self.by), self.pooled)

    @property
    def digest(self) -> str:
        """Changes with every threshold: a table may be written anew under its old name."""
        groups = sorted((str(key), one.image, one.pixel) for key, one in self.by_group.items())
        told = [self.pooled.image, self.pooled.pixel, self.by, groups]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    def require_columns(self, there: Mapping[str, pa.DataType], *, where: str) -> None:
        """Held against the columns that rows have, before any is looked at.

        Raises:  InputError: a column that groups are told by is missing, or can hold none of the groups' values.
        """
        for at, name in enumerate(self.by):
            if name not in there:
                has = ", ".join(sorted(there)) or "none"
                raise InputError(
                    f"--thresholds: they are given by {', '.join(self.by)}, and {where} has no column {name!r} "
                    f"(its own are: {has}); --path-fields and --keep-columns make columns"
                )
            values = [key[at] for key in self.by_group if key[at] is not None]
            _require_type(name, values, there[name], where)


def _require_type(name: str, values: Iterable[Any], kind: pa.DataType, where: str) -> None:
    """Text "7" and number 7 are no equals: every row would silently be of another group."""
    for value in values:
        if pa.types.is_string(kind) != isinstance(value, str):
            raise InputError(f"--thresholds: their {name} {value!r} is no {kind}, which {where} has in that column")


def scoring_rules(decode: Mapping[str, Any]) -> str:
    """Of a run record's `config.decode` what changes pixels, and with them scores, as JSON."""
    return json.dumps({name: value for name, value in decode.items() if name not in _BOUNDS}, sort_keys=True)


def warn_of_other_groups(thresholds: Thresholds, root: Root, parts: Sequence[str]) -> list[str]:
    """What to say where thresholds have groups, and no row of these parts is of any: mostly, none has a category.

    Parts are read up to the first such row, so it costs a run that is as it should be one small read.
    """
    by, groups = thresholds.by, thresholds.by_group
    if not groups or not parts:
        return []
    for path in parts:
        with root.fs.open(path, "rb") as file:
            rows = pq.read_table(file, columns=list(by)).to_pylist()
        if any(tuple(row[name] for name in by) in groups for row in rows):
            return []
    example = shown(", ".join(map(str, next(iter(groups)))))
    effect = "none has a label" if thresholds.pooled == Threshold() else "all are labelled by the pooled threshold"
    return [
        f"--thresholds: no image is of any of their {len(groups):,} groups (by {', '.join(by)}, such as {example}), so "
        f"{effect}; --path-fields and --keep-columns make columns, and jobs/label.py labels anew"
    ]


def read_thresholds(uri: str, model_id: str, decode: Mapping[str, Any] | None = None) -> Thresholds:
    """The thresholds that were calibrated for this model.

    Args:    decode: the rules of decoding of the scores that they are for, as a run's record has them.
    Raises:  InputError: no such table, other columns, another version's, thresholds of another model or of scores
             decoded by other rules, or two rows for one group.
    """
    table, name = read_table(uri), redact(uri)
    rows = table.to_pylist()
    others = sorted({str(row["model_id"]) for row in rows} - {model_id})
    if others or not rows:
        raise InputError(
            f"--thresholds: {name} is for model {', '.join(others) or '(none)'}, this run uses {model_id}: "
            "thresholds of one model mean nothing for another: calibrate again"
        )
    if decode is not None:
        _check_rules(rows, scoring_rules(decode), name)
    by = _groups_by(rows, table.column_names, name)
    found: dict[tuple[Any, ...] | None, Threshold] = {}
    for row in rows:
        group = tuple(row[one] for one in by)
        key = None if is_pooled(row, by) else group
        if key in found:
            raise InputError(f"--thresholds: {name} has more than one row for one {' and '.join(by)}")
        found[key] = Threshold(*(_value(row, one, name) for one in COLUMNS[2:]))
    pooled = found.pop(None, Threshold())
    return Thresholds(pooled, {group: one for group, one in found.items() if group is not None}, by)


def is_pooled(row: Mapping[str, Any], by: Sequence[str]) -> bool:
    """Whether a table's row is for images of every other group: as it says, or as it has no value of its own."""
    return bool(row.get("is_pooled", all(row[name] is None for name in by)))


def _check_rules(rows: list[dict[str, Any]], rules: str, name: str) -> None:
    """A table without the column is of somebody's own, who knows."""
    if others := sorted({str(row["decode"]) for row in rows if row.get("decode") is not None} - {rules}):
        raise InputError(
            f"--thresholds: {name} is for pictures decoded by {', '.join(others)}, these are decoded by {rules}: "
            "their scores mean nothing beside each other: calibrate again"
        )


def read_table(uri: str) -> pa.Table:
    """A table of thresholds with all that it says, of whichever model.

    Raises:  InputError: no such table, other columns, another version's, or no numbers where thresholds belong.
    """
    root, name = open_root(uri), redact(uri)
    try:
        with root.fs.open(root.path, "rb") as file:
            table = pq.read_table(file)
        table.validate(full=True)  # its text, too
    except FileNotFoundError as exc:
        raise InputError(f"--thresholds: there is no {name}") from exc
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as exc:  # ValueError: text that is none
        raise InputError(f"--thresholds: {name} cannot be read as a Parquet file: {describe(exc)}") from exc
    missing = [column for column in COLUMNS if column not in table.column_names]
    if missing:
        raise InputError(f"--thresholds: {name}: expected the columns {', '.join(COLUMNS)}; missing: {missing}")
    if len(table):
        _check_types(table, name)
    versions = set(table["version"].to_pylist()) if "version" in table.column_names else {VERSION}
    if versions - {VERSION}:
        got = ", ".join(sorted(map(str, versions)))
        raise InputError(f"--thresholds: {name}: expected a table of version {VERSION}, got {got}: calibrate again")
    return table


def _check_types(table: pa.Table, name: str) -> None:
    category = table.schema.field("category").type
    if not (pa.types.is_string(category) or pa.types.is_large_string(category) or pa.types.is_null(category)):
        raise InputError(f"--thresholds: {name}: expected text in category, got {category}")
    for column in COLUMNS[2:]:
        kind = table.schema.field(column).type
        if not (
            pa.types.is_floating(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_null(kind)
        ):
            raise InputError(f"--thresholds: {name}: expected numbers in {column}, got {kind}")


def _groups_by(rows: list[dict[str, Any]], columns: list[str], name: str) -> tuple[str, ...]:
    """The columns that groups are told by: what `group_by` names in each row, `category` in a table without it."""
    if "group_by" not in columns:
        return _BY_CATEGORY
    told = {tuple(row["group_by"]) if isinstance(row["group_by"], list) else None for row in rows}
    by = next(iter(told))
    if len(told) != 1 or not by or any(one not in columns for one in by):
        raise InputError(f"--thresholds: {name}: expected in group_by the same names of its columns in every row")
    return by


def _value(row: Mapping[str, Any], column: str, table: str) -> float | None:
    """A cell's threshold; NaN is none, as Polars and NumPy write it."""
    value = row[column]
    if value is None or math.isnan(value):
        return None
    check_threshold(f"--thresholds: {table}: {column} of {row['category']!r}", value)
    return float(value)
