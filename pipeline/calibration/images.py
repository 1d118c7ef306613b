"""The images that thresholds are found on: which of the committed scores, in which groups."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import ledger
from pipeline.calibration.rates import Scores
from pipeline.errors import InputError
from pipeline.schema import SCORES
from pipeline.sql_errors import as_errors

_MAP_COLUMNS = ("image_id", "height", "width", "map_size", "patch_scores")
_MASK_COLUMNS = ("run_id", "category", "image_uri", "pred_score", "label", "defect", "mask_uri")
_ROWS_PER_PIECE = 64
_ROWS_AT_ONCE = 2_048
_SCORES_AT_ONCE = 65_536
_OF_GROUPS = re.compile(r"VARCHAR|BOOLEAN|U?\w*INT(EGER)?|DATE|TIMESTAMP\b.*")  # NaN is no group, nor is a list
_LAST_FIRST = "ORDER BY scored_at DESC, run_id DESC, image_id"

Group = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Images:
    """The scores of one group's distinct images; labels are 0 and 1, None where all are taken as normal.

    Args:    in_pool: which of them are images of all groups together, where a picture of two groups is one.
    """

    group: Group
    scores: Scores
    labels: npt.NDArray[np.int8] | None
    in_pool: npt.NDArray[np.bool_]


class PieceOf(NamedTuple):
    """Whose maps a piece holds; `number` is the group's, and compares whatever its values are."""

    number: int
    group: Group
    in_pool: bool


def choose(sql: duckdb.DuckDBPyConnection, *, by: Sequence[str], where: str | None, labels: str | None) -> None:
    """Make the tables `chosen`, each picture's last score in each group, and `chosen_groups`.

    Pictures are told apart by their bytes: a copy says nothing new, and is not `in_pool` where it is of another group.
    Raises:  InputError: a column is not there or does not fit, the condition cannot be asked, or a picture is labelled
             both normal and anomalous.   RunError: a part cannot be read; memory or disk do not suffice.
    """
    columns = {str(name): str(kind) for name, kind, *_ in sql.execute("DESCRIBE scores").fetchall()}
    _check_groups(by, columns)
    label = "NULL" if labels is None else _label_sql(labels, columns)
    named, keys = ", ".join(f"{_quoted(name)} AS key_{at}" for at, name in enumerate(by)), _keys(by)
    torn = "false" if labels is None else "min(taken_as) OVER same <> max(taken_as) OVER same"
    with as_errors(f"--where {where!r}" if where else "the scores", sql):
        sql.execute(
            f"CREATE TEMP TABLE chosen AS SELECT run_id, image_id, {keys}, pred_score, taken_as, "
            f"row_number() OVER (same {_LAST_FIRST}) = 1 AS in_pool, {torn} AS is_torn FROM "
            f"(SELECT run_id, image_id, {named}, pred_score, {label} AS taken_as, scored_at, "
            "coalesce(content_hash, image_id) AS content "
            f"FROM (SELECT * FROM scores WHERE (\n{where or 'true'}\n) AND pred_score IS NOT NULL)) "
            "WINDOW same AS (PARTITION BY content) "
            f"QUALIFY row_number() OVER (PARTITION BY {keys}, content {_LAST_FIRST}) = 1"
        )
        sql.execute(
            f"CREATE TEMP TABLE chosen_groups AS SELECT row_number() OVER (ORDER BY {keys}) - 1 AS nth_group, * FROM "
            f"(SELECT {keys}, count(*) AS images FROM chosen GROUP BY {keys})"
        )
    if labels is not None:
        _check_labels(sql, labels)


def _keys(by: Sequence[str], table: str = "") -> str:
    """The groups' columns as `chosen` has them: whatever their own names are, none is another of its columns."""
    return ", ".join(f"{table}key_{at}" for at in range(len(by)))


def _in_groups(by: Sequence[str]) -> str:
    same = " AND ".join(f"chosen.key_{at} IS NOT DISTINCT FROM chosen_groups.key_{at}" for at in range(len(by)))
    return f"chosen JOIN chosen_groups ON {same}"


def _check_groups(by: Sequence[str], columns: dict[str, str]) -> None:
    own = [name for name in columns if name not in SCORES.names and name != "run_id"]
    possible = ["category", *own]
    if odd := [name for name in by if name not in possible]:
        raise InputError(f"--by: expected some of {', '.join(possible)}; got {', '.join(odd)}")
    if len(set(by)) != len(by) or not by:
        raise InputError(f"--by: expected each column once, got {', '.join(by) or 'none'}")
    if odd := [f"{name} ({columns[name]})" for name in by if not _OF_GROUPS.fullmatch(columns[name])]:
        raise InputError(f"--by: expected columns of text, whole numbers, truth values or dates; got {', '.join(odd)}")


def _label_sql(labels: str, columns: dict[str, str]) -> str:
    if labels not in columns:
        raise InputError(f"--labels: there is no column {labels!r}; there are {', '.join(columns)}")
    return f"TRY_CAST(TRY_CAST({_quoted(labels)} AS VARCHAR) AS DOUBLE)" if columns[labels] != "BOOLEAN" else (
        f"CAST({_quoted(labels)} AS DOUBLE)"
    )  # fmt: skip


def _check_labels(sql: duckdb.DuckDBPyConnection, labels: str) -> None:
    query = (
        "SELECT count(*) FILTER (taken_as IS NULL OR taken_as NOT IN (0, 1)), count(*) FILTER (is_torn AND in_pool), "
        "min(image_id) FILTER (is_torn) FROM chosen"
    )
    ((odd, torn, example),) = sql.execute(query).fetchall()  # to its end: DuckDB does nothing else before
    if odd:
        raise InputError(
            f"--labels {labels}: expected 0 (normal) or 1 (anomalous) in every row, {odd:,} have something else; "
            "choose the labelled ones by --where"
        )
    if torn:
        raise InputError(
            f"--labels {labels}: {torn:,} pictures are labelled both 0 and 1, by rows with the same bytes "
            f"(image_id {example} is one of them); choose which rows are right by --where"
        )


def groups(sql: duckdb.DuckDBPyConnection, by: Sequence[str], *, labelled: bool) -> list[Images]:
    """Every group's scores, in the groups' order; they stream, and take nine bytes each."""
    found = sql.sql(f"SELECT {_keys(by)}, images FROM chosen_groups ORDER BY nth_group").to_arrow_table()
    counts = found["images"].to_numpy().astype(np.int64)
    starts = np.cumsum(counts) - counts
    scores, in_pool = np.empty(counts.sum(), np.float32), np.empty(counts.sum(), bool)
    labels = np.empty(counts.sum(), np.int8) if labelled else None
    free = starts.copy()  # of each group, where its next score goes
    told = ", taken_as::TINYINT AS taken_as" if labelled else ""
    rows = sql.sql(f"SELECT nth_group, pred_score, in_pool{told} FROM {_in_groups(by)}")
    for batch in rows.to_arrow_reader(_SCORES_AT_ONCE):
        numbers = batch["nth_group"].to_numpy()
        order = np.argsort(numbers, kind="stable")
        several, first, count = np.unique(numbers[order], return_index=True, return_counts=True)
        places = np.repeat(free[several] - first, count) + np.arange(len(order))
        free[several] += count
        scores[places] = batch["pred_score"].to_numpy()[order]
        in_pool[places] = batch["in_pool"].to_numpy(zero_copy_only=False)[order]
        if labels is not None:
            labels[places] = batch["taken_as"].to_numpy()[order]
    parts = [slice(start, start + count) for start, count in zip(starts, counts, strict=True)]
    return [
        Images(
            group=tuple(found[f"key_{nth}"][at].as_py() for nth in range(len(by))),
            scores=scores[part],
            labels=None if labels is None else labels[part],
            in_pool=in_pool[part],
        )
        for at, part in enumerate(parts)
    ]


def map_pieces(
    sql: duckdb.DuckDBPyConnection, by: Sequence[str], *, most: int, least_pieces: int, with_masks: bool = False
) -> Iterator[tuple[PieceOf, pa.Table]]:
    """The maps of each group's images, or of `most` of them, in pieces of a few dozen; group by group.

    An image id is a hash, so the first ones in its order are drawn at random.
    Args:    least_pieces: into so many a group of fewer images than that times 64 is cut.
             with_masks: with what a labelled image's mask is found by.
    """
    columns = [*_MAP_COLUMNS, *(_MASK_COLUMNS if with_masks else ())]
    has_defect = "defect" in {row[0] for row in sql.execute("DESCRIBE scores").fetchall()}
    told = {"label": "CAST(drawn.taken_as AS TINYINT)", "defect": "scores.defect" if has_defect else "NULL::VARCHAR"}
    wanted = ", ".join(f"{told.get(name, f'scores.{name}')} AS {name}" for name in columns)
    query = (
        "WITH ranked AS (SELECT chosen.*, nth_group, count(*) OVER (PARTITION BY nth_group) AS images, "
        f"row_number() OVER (PARTITION BY nth_group ORDER BY image_id) AS nth FROM {_in_groups(by)}) "
        f"SELECT {_keys(by, 'drawn.')}, drawn.nth_group, drawn.in_pool, least(drawn.images, {int(most)}) AS images, "
        f"{wanted} "
        f"FROM (SELECT * FROM ranked WHERE nth <= {int(most)}) AS drawn JOIN scores USING (run_id, image_id) "
        "ORDER BY drawn.nth_group, drawn.in_pool, drawn.image_id"
    )
    relation = sql.sql(query)
    schema = pa.schema([pa.field(name, kind) for name, kind in _arrow_types(relation).items()])
    for table in ledger.batches(relation, schema, rows=_ROWS_AT_ONCE):
        start = 0
        whose = zip(table["nth_group"].to_pylist(), table["in_pool"].to_pylist(), strict=True)
        for (number, in_pool), run in itertools.groupby(whose):
            stop = start + sum(1 for _ in run)
            group = tuple(table[f"key_{at}"][start].as_py() for at in range(len(by)))
            rows = min(_ROWS_PER_PIECE, max(1, -(-int(table["images"][start].as_py()) // least_pieces)))
            for at in range(start, stop, rows):
                yield PieceOf(number, group, in_pool), table.slice(at, min(rows, stop - at)).select(columns)
            start = stop


def _arrow_types(relation: duckdb.DuckDBPyRelation) -> dict[str, pa.DataType]:
    empty = relation.limit(0).to_arrow_table()
    return {field.name: field.type for field in empty.schema}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
