"""What the tables say of a window of runs, by group: counts, labels, thresholds and the scores themselves as counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.report.calibration import Calibration
from pipeline.report.histograms import BINS, Counts, bins_of
from pipeline.report.rates import Rate
from pipeline.report.window import Window
from pipeline.store_errors import describe
from pipeline.views import open_views

Group = tuple[str | None, ...]
"""What an image has in the columns that are reported by, as text."""
OTHERS: Group = ()
"""Every group beyond the `MOST_GROUPS` largest."""
MOST_GROUPS = 300
_MOST_CELLS = 100_000  # groups times runs
_BATCH = 1_000_000
_EXAMPLES = 5
_MEMORY_LIMIT = "512MB"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One group in one run, or several of either together.

    Args:    labelled: images with a label, which takes a threshold.   mean_score: of `finite` ones.
             image_threshold, pixel_threshold: least and greatest; None without.   with_region: where any pixel is
             at or above the pixel threshold.
    """

    images: int = 0
    finite: int = 0
    labelled: int = 0
    anomalies: int = 0
    with_region: int = 0
    score_sum: float = 0.0
    image_threshold: tuple[float, float] | None = None
    pixel_threshold: tuple[float, float] | None = None

    @property
    def rate(self) -> Rate:
        return Rate(self.anomalies, self.labelled)

    @property
    def mean_score(self) -> float | None:
        return self.score_sum / self.finite if self.finite else None

    def __add__(self, other: Cell) -> Cell:
        names = ("images", "finite", "labelled", "anomalies", "with_region", "score_sum")
        return Cell(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            image_threshold=_widened(self.image_threshold, other.image_threshold),
            pixel_threshold=_widened(self.pixel_threshold, other.pixel_threshold),
        )


def _widened(one: tuple[float, float] | None, two: tuple[float, float] | None) -> tuple[float, float] | None:
    if one is None or two is None:
        return one or two
    return min(one[0], two[0]), max(one[1], two[1])


@dataclass(frozen=True, kw_only=True)
class Bad:
    """Quarantined images of one stage and reason, a few by name."""

    stage: str
    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is counted.

    Args:    groups: the largest first, `OTHERS` last where there are more than can be shown.
             cells: by group and run id; a group that a run has not is not in it.
             now, before, calibration: each group's scores, as counts; empty where there is no calibration.
    """

    by: tuple[str, ...]
    groups: tuple[Group, ...]
    cells: Mapping[tuple[Group, str], Cell]
    now: Mapping[Group, Counts]
    before: Mapping[Group, Counts]
    calibration: Mapping[Group, Counts] = field(default_factory=dict)
    quarantine: tuple[Bad, ...] = ()

    def cell(self, group: Group, run_ids: Iterable[str]) -> Cell:
        """A group in several runs together."""
        found = (self.cells.get((group, run_id)) for run_id in run_ids)
        return sum((cell for cell in found if cell), Cell())

    def total(self, run_ids: Sequence[str]) -> Cell:
        return sum((self.cell(group, run_ids) for group in self.groups), Cell())


def gather(
    output: str, window: Window, *, by: Sequence[str], label_set: str | None, calibration: Calibration | None = None
) -> Facts:
    """Raises:  InputError: a run has no such column or label set, or the columns make too many groups."""
    before = [str(record["run_id"]) for record in window.before]
    with open_views(output, [*before, *window.run_ids], label_set=label_set) as sql:
        sql.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")  # a label set is a join of every image: it spills earlier
        _require_columns(sql, by)
        cells = _cells(sql, by)
        quarantine = _quarantine(sql, window.run_ids)
    groups = _ranked(cells, window.run_ids)
    folded: dict[tuple[Group, str], Cell] = {}
    for (group, run_id), cell in cells.items():
        key = (group if group in groups else OTHERS, run_id)
        folded[key] = folded.get(key, Cell()) + cell
    # Scores need no labels, and no join with a label set's millions of rows.
    with open_views(output, [*before, *window.run_ids]) as sql:
        now, earlier = _counts(sql, by, groups, (window.run_ids, before))
    calibrated: dict[Group, Counts] = {}
    if calibration and calibration.run_ids:
        with open_views(output, calibration.run_ids) as sql:
            _require_columns(sql, by)
            (calibrated,) = _counts(sql, by, groups, (calibration.run_ids,), where=calibration.chosen)
    return Facts(
        by=tuple(by), groups=groups, cells=folded, now=now, before=earlier, calibration=calibrated,
        quarantine=quarantine,
    )  # fmt: skip


def _require_columns(sql: duckdb.DuckDBPyConnection, by: Sequence[str]) -> None:
    types = {name: kind for name, kind, *_ in sql.execute("DESCRIBE scores").fetchall()}
    for name in by:
        if name not in types:
            raise InputError(f"--by: the scores have no column {name!r}; they have {', '.join(sorted(types))}")
        if types[name] == "BLOB" or types[name].startswith("STRUCT") or types[name].endswith("]"):
            raise InputError(f"--by: expected a column of single values, got {name!r}, which holds {types[name]}")


def _keys(by: Sequence[str]) -> str:
    """The group columns, as text under the names k0, k1, …"""
    return ", ".join(f'CAST("{name.replace(chr(34), 2 * chr(34))}" AS VARCHAR) AS k{at}' for at, name in enumerate(by))


def _cells(sql: duckdb.DuckDBPyConnection, by: Sequence[str]) -> dict[tuple[Group, str], Cell]:
    rows = sql.execute(
        f"""SELECT {_keys(by)}, run_id, count(*), count(*) FILTER (isfinite(pred_score)), count(pred_label),
                count(*) FILTER (pred_label = 1), count(*) FILTER (mask_area > 0),
                coalesce(sum(pred_score::DOUBLE) FILTER (isfinite(pred_score)), 0),
                min(image_threshold), max(image_threshold), min(pixel_threshold), max(pixel_threshold)
            FROM scores GROUP BY ALL LIMIT {_MOST_CELLS + 1}"""
    ).fetchall()
    if len(rows) > _MOST_CELLS:
        raise InputError(
            f"--by: {', '.join(by)} make more than {_MOST_CELLS:,} groups in these runs; choose columns of fewer values"
        )
    return {(tuple(row[: len(by)]), row[len(by)]): _cell(*row[len(by) + 1 :]) for row in rows}


def _cell(*values: Any) -> Cell:
    names = ("images", "finite", "labelled", "anomalies", "with_region", "score_sum")
    image, pixel = values[6:8], values[8:10]
    return Cell(
        **dict(zip(names, values[:6], strict=True)),
        image_threshold=None if image[0] is None else image,
        pixel_threshold=None if pixel[0] is None else pixel,
    )


def _ranked(cells: Mapping[tuple[Group, str], Cell], now: Sequence[str]) -> tuple[Group, ...]:
    """The groups of the reported runs, the largest first; then those that only earlier runs had."""
    sizes: dict[Group, tuple[int, int]] = {}
    for (group, run_id), cell in cells.items():
        in_now, in_all = sizes.get(group, (0, 0))
        sizes[group] = (in_now + cell.images * (run_id in now), in_all + cell.images)
    order = sorted(sizes, key=lambda group: ([-size for size in sizes[group]], [key or "" for key in group]))
    return tuple(order[:MOST_GROUPS]) + ((OTHERS,) if len(order) > MOST_GROUPS else ())


def _counts(
    sql: duckdb.DuckDBPyConnection,
    by: Sequence[str],
    groups: Sequence[Group],
    sides: Sequence[Sequence[str]],
    *,
    where: str | None = None,
) -> list[dict[Group, Counts]]:
    """The scores of each side's runs by group, streamed: what is held are the counts.

    Args:    where: which images, as a table of thresholds says it. The connection reaches these runs and nothing else.
    """
    known = [group for group in groups if group != OTHERS]
    others = len(known)
    columns = {f"k{at}": pa.array([group[at] for group in known], pa.string()) for at in range(len(by))}
    sql.register("report_groups", pa.table({"code": pa.array(range(others), pa.int32()), **columns}))
    places = [(at, run_id) for at, ids in enumerate(sides) for run_id in ids]
    of_sides = {"side": pa.array([at for at, _ in places], pa.int32()), "run_id": [run_id for _, run_id in places]}
    sql.register("report_sides", pa.table(of_sides))
    # As written: the small tables are what is held. Of Arrow's rows it knows no number, and would hold all of them.
    sql.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    same = " AND ".join(f"keyed.k{at} IS NOT DISTINCT FROM report_groups.k{at}" for at in range(len(by)))
    query = f"""SELECT coalesce(code, {others}) AS code, side, pred_score
        FROM (SELECT {_keys(by)}, run_id, pred_score FROM scores WHERE isfinite(pred_score) AND (\n{where or "true"}\n))
            AS keyed JOIN report_sides USING (run_id) LEFT JOIN report_groups ON {same}"""
    counts = np.zeros((len(sides), others + 1, BINS), np.int32)
    with _of_the_condition():
        for batch in _one_select(sql, query).to_arrow_reader(_BATCH):
            codes, at_sides, scores = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            at = (at_sides.astype(np.int64) * (others + 1) + codes) * BINS
            np.add.at(counts.reshape(-1), at + bins_of(scores.astype(np.float32, copy=False)), 1)
    return [dict(zip([*known, OTHERS], of_side, strict=True)) for of_side in counts]


def _one_select(sql: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    """Raises:  InputError: the condition in it is more than one."""
    statements = sql.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputError("--thresholds: the table's `chosen` is no condition of SQL")
    sql.execute("SET python_enable_replacements = false")  # nor are variables of ours tables to it
    return sql.sql(query)


_ODD_CONDITION = (
    duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException,
    duckdb.ConversionException, duckdb.OutOfRangeException,
)  # fmt: skip


@contextlib.contextmanager
def _of_the_condition() -> Iterator[None]:
    """Raises:  InputError: in place of what DuckDB says of a condition that is none. Our own SQL is tested."""
    try:
        yield
    except _ODD_CONDITION as exc:
        raise InputError(f"--thresholds: the table's `chosen` is no condition on these runs: {describe(exc)}") from exc


def _quarantine(sql: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> tuple[Bad, ...]:
    sql.register("report_now", pa.table({"run_id": list(run_ids)}))
    rows = sql.execute(
        f"""SELECT stage, reason, count(*), min(image_uri, {_EXAMPLES})
            FROM quarantine SEMI JOIN report_now USING (run_id) GROUP BY ALL ORDER BY count(*) DESC, stage, reason"""
    ).fetchall()
    return tuple(
        Bad(stage=str(stage), reason=str(reason), count=count, examples=tuple(examples))
        for stage, reason, count, examples in rows
    )
