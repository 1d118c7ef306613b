"""What the tables say of a window of runs, by group: counts, labels, thresholds and the scores themselves as counts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.report.calibration import Calibration
from pipeline.report.cells import AS_WRITTEN, OTHERS, Cell, Group, cells, earlier_cells, folded, keys, limits_of
from pipeline.report.histograms import BINS, Counts, bins_of
from pipeline.report.rates import NONE, Rate
from pipeline.report.window import Window
from pipeline.store_errors import describe
from pipeline.views import open_views

MOST_GROUPS = 300
_BATCH = 1_000_000
_EXAMPLES = 5
_MEMORY_LIMIT = "512MB"


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
             strata_by: `by` and what else images are told apart by, so that those of a stratum have one threshold.
             strata: as `cells`, by what an image has in these columns.
             now, before, calibration: each group's scores, as counts; empty where there is no calibration.
    """

    by: tuple[str, ...]
    groups: tuple[Group, ...]
    cells: Mapping[tuple[Group, str], Cell]
    strata_by: tuple[str, ...]
    strata: Mapping[tuple[Group, str], Cell]
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

    def rate(self, stratum: Group, run_id: str) -> Rate:
        cell = self.strata.get((stratum, run_id))
        return cell.rate if cell else NONE

    def group_of(self, stratum: Group) -> Group:
        group = stratum[: len(self.by)]
        return group if group in self.known else OTHERS

    @functools.cached_property
    def known(self) -> frozenset[Group]:
        return frozenset(self.groups)


def gather(
    output: str, window: Window, *, by: Sequence[str], label_set: str | None, calibration: Calibration | None = None
) -> Facts:
    """Raises:  InputError: a run has no such column or label set, or the columns make too many groups."""
    before = [str(record["run_id"]) for record in window.before]
    with open_views(output, window.run_ids, label_set=label_set) as sql:
        sql.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")  # a label set is a join of every image: it spills earlier
        types = _require_columns(sql, by)
        told_by = ("category", *(calibration.by if calibration else ()))
        strata_by = tuple(dict.fromkeys([*by, *(name for name in told_by if name in types)]))
        strata = cells(sql, strata_by)
        quarantine = _quarantine(sql, window.run_ids)
    # Earlier scores are counted by this time's thresholds: that needs no labels, and no join with millions of them.
    with open_views(output, [*before, *window.run_ids]) as sql:
        strata |= earlier_cells(sql, strata_by, before, limits_of(strata))
        groups = _ranked(folded(strata, len(by)), window.run_ids)
        now, earlier = _counts(sql, by, groups, (window.run_ids, before))
    calibrated: dict[Group, Counts] = {}
    if calibration and calibration.run_ids:
        with open_views(output, calibration.run_ids) as sql:
            _require_columns(sql, by)
            (calibrated,) = _counts(sql, by, groups, (calibration.run_ids,), where=calibration.chosen)
    return Facts(
        by=tuple(by), groups=groups, cells=folded(strata, len(by), groups), strata_by=strata_by, strata=strata,
        now=now, before=earlier, calibration=calibrated, quarantine=quarantine,
    )  # fmt: skip


def _require_columns(sql: duckdb.DuckDBPyConnection, by: Sequence[str]) -> Mapping[str, str]:
    """The columns of the scores with their types."""
    types = {name: kind for name, kind, *_ in sql.execute("DESCRIBE scores").fetchall()}
    for name in by:
        if name not in types:
            raise InputError(f"--by: the scores have no column {name!r}; they have {', '.join(sorted(types))}")
        if types[name] == "BLOB" or types[name].startswith("STRUCT") or types[name].endswith("]"):
            raise InputError(f"--by: expected a column of single values, got {name!r}, which holds {types[name]}")
    return types


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
    sql.execute(AS_WRITTEN)
    same = " AND ".join(f"keyed.k{at} IS NOT DISTINCT FROM report_groups.k{at}" for at in range(len(by)))
    query = f"""SELECT coalesce(code, {others}) AS code, side, pred_score
        FROM (SELECT {keys(by)}, run_id, pred_score FROM scores WHERE isfinite(pred_score) AND (\n{where or "true"}\n))
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
