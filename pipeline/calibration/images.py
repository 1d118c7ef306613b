"""The images that thresholds are found on: which of the committed scores, in which groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pipeline import ledger
from pipeline.calibration.rates import Scores
from pipeline.errors import InputError
from pipeline.schema import SCORES

_MAP_COLUMNS = ("image_id", "height", "width", "map_size", "patch_scores")
_MASK_COLUMNS = ("category", "image_uri", "pred_score", "label", "defect", "mask_uri")
_ROWS_PER_PIECE = 64
_ROWS_AT_ONCE = 2_048

Group = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Images:
    """The scores of one group's distinct images; labels are 0 and 1, None where all are taken as normal."""

    group: Group
    scores: Scores
    labels: np.ndarray | None


def choose(sql: duckdb.DuckDBPyConnection, *, by: Sequence[str], where: str | None, labels: str | None) -> None:
    """Make the table `chosen`: each picture's last score in each group, however often it was scored.

    Pictures are told apart by their bytes: a copy says nothing new.
    Raises:  InputError: a column is not there or does not fit, or the condition cannot be asked.
    """
    columns = {str(name): str(kind) for name, kind, *_ in sql.execute("DESCRIBE scores").fetchall()}
    _check_groups(by, columns)
    label = "NULL" if labels is None else _label_sql(labels, columns)
    keys = ", ".join(_quoted(name) for name in by)
    try:
        sql.execute(
            f"CREATE TEMP TABLE chosen AS SELECT run_id, image_id, {keys}, pred_score, {label} AS taken_as "
            f"FROM scores WHERE (\n{where or 'true'}\n) AND pred_score IS NOT NULL "
            f"QUALIFY row_number() OVER (PARTITION BY {keys}, coalesce(content_hash, image_id) "
            "ORDER BY scored_at DESC, run_id DESC) = 1"
        )
    except duckdb.Error as exc:
        what = f"--where {where!r}" if where else "the scores"
        raise InputError(f"{what} cannot be asked: {exc}") from exc
    if labels is not None:
        _check_labels(sql, labels)


def _check_groups(by: Sequence[str], columns: dict[str, str]) -> None:
    own = [name for name in columns if name not in SCORES.names and name != "run_id"]
    possible = ["category", *own]
    if odd := [name for name in by if name not in possible]:
        raise InputError(f"--by: expected some of {', '.join(possible)}; got {', '.join(odd)}")
    if len(set(by)) != len(by) or not by:
        raise InputError(f"--by: expected each column once, got {', '.join(by) or 'none'}")


def _label_sql(labels: str, columns: dict[str, str]) -> str:
    if labels not in columns:
        raise InputError(f"--labels: there is no column {labels!r}; there are {', '.join(columns)}")
    return f"TRY_CAST(TRY_CAST({_quoted(labels)} AS VARCHAR) AS DOUBLE)" if columns[labels] != "BOOLEAN" else (
        f"CAST({_quoted(labels)} AS DOUBLE)"
    )  # fmt: skip


def _check_labels(sql: duckdb.DuckDBPyConnection, labels: str) -> None:
    query = "SELECT count(*) FROM chosen WHERE taken_as IS NULL OR taken_as NOT IN (0, 1)"
    ((odd,),) = sql.execute(query).fetchall()  # to its end: DuckDB does nothing else before
    if odd:
        raise InputError(
            f"--labels {labels}: expected 0 (normal) or 1 (anomalous) in every row, {odd:,} have something else; "
            "choose the labelled ones by --where"
        )


def groups(sql: duckdb.DuckDBPyConnection, by: Sequence[str]) -> list[Images]:
    """Every group's scores, in the groups' order."""
    keys = ", ".join(_quoted(name) for name in by)
    query = (
        f"SELECT {keys}, list(pred_score) AS scores, list(taken_as) AS labels FROM chosen GROUP BY {keys} ORDER BY ALL"
    )
    found = sql.sql(query).to_arrow_table()
    several = []
    for at in range(len(found)):
        labels = found["labels"][at].values
        several.append(
            Images(
                group=tuple(found[name][at].as_py() for name in by),
                scores=found["scores"][at].values.to_numpy(zero_copy_only=False).astype(np.float32),
                labels=None if labels.null_count else labels.to_numpy().astype(np.int64),
            )
        )
    return several


def map_pieces(
    sql: duckdb.DuckDBPyConnection, by: Sequence[str], *, most: int, least_pieces: int, with_masks: bool = False
) -> Iterator[tuple[Group, pa.Table]]:
    """The maps of each group's images, or of `most` of them, in pieces of a few dozen; group by group.

    An image id is a hash, so the first ones in its order are drawn at random.
    Args:    least_pieces: into so many a group of fewer images than that times 64 is cut.
             with_masks: with what a labelled image's mask is found by.
    """
    keys = ", ".join(_quoted(name) for name in by)
    columns = [*_MAP_COLUMNS, *(_MASK_COLUMNS if with_masks else ())]
    has_defect = "defect" in {row[0] for row in sql.execute("DESCRIBE scores").fetchall()}
    told = {"label": "CAST(chosen.taken_as AS TINYINT)", "defect": "scores.defect" if has_defect else "NULL::VARCHAR"}
    wanted = ", ".join(f"{told.get(name, f'scores.{name}')} AS {name}" for name in columns)
    # Every group has its number, which Arrow and Python compare alike, whatever its columns' types.
    query = (
        f"WITH ranked AS (SELECT *, dense_rank() OVER (ORDER BY {keys}) AS nth_group, "
        f"row_number() OVER (PARTITION BY {keys} ORDER BY image_id) AS nth FROM chosen) "
        f"SELECT {', '.join(f'chosen.{_quoted(name)} AS key_{at}' for at, name in enumerate(by))}, "
        f"nth_group, least(nth_images, {int(most)}) AS images, {wanted} "
        "FROM (SELECT *, count(*) OVER (PARTITION BY nth_group) AS nth_images FROM ranked "
        f"QUALIFY nth <= {int(most)}) AS chosen JOIN scores USING (run_id, image_id) "
        "ORDER BY nth_group, chosen.image_id"
    )
    relation = sql.sql(query)
    schema = pa.schema([pa.field(name, kind) for name, kind in _arrow_types(relation).items()])
    for table in ledger.batches(relation, schema, rows=_ROWS_AT_ONCE):
        start = 0
        for _, run in itertools.groupby(table["nth_group"].to_pylist()):
            stop = start + sum(1 for _ in run)
            group = tuple(table[f"key_{at}"][start].as_py() for at in range(len(by)))
            rows = min(_ROWS_PER_PIECE, max(1, -(-int(table["images"][start].as_py()) // least_pieces)))
            for at in range(start, stop, rows):
                yield group, table.slice(at, min(rows, stop - at)).select(columns)
            start = stop


def _arrow_types(relation: duckdb.DuckDBPyRelation) -> dict[str, pa.DataType]:
    empty = relation.limit(0).to_arrow_table()
    return {field.name: field.type for field in empty.schema}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
