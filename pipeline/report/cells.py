"""Counts of images, labels and anomalies, by group and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.report.rates import Rate

Group = tuple[str | None, ...]
"""What an image has in the columns that are reported by, as text."""
OTHERS: Group = ()
"""Every group beyond the `MOST_GROUPS` largest."""
_MOST_CELLS = 100_000  # groups times runs


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One group in one run, or several of either together.

    Args:    labelled, anomalies: by this time's thresholds. Of what is reported, images with a label; of an earlier
             run, those whose like have one threshold this time, and of these the scores at or above it.
             mean_score: of `finite` ones.   image_threshold, pixel_threshold: least and greatest of what is reported;
             None without.
    """

    images: int = 0
    finite: int = 0
    labelled: int = 0
    anomalies: int = 0
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
        names = ("images", "finite", "labelled", "anomalies", "score_sum")
        return Cell(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            image_threshold=_widened(self.image_threshold, other.image_threshold),
            pixel_threshold=_widened(self.pixel_threshold, other.pixel_threshold),
        )


def _widened(one: tuple[float, float] | None, two: tuple[float, float] | None) -> tuple[float, float] | None:
    if one is None or two is None:
        return one or two
    return min(one[0], two[0]), max(one[1], two[1])


def keys(by: Sequence[str]) -> str:
    """The group columns, as text under the names k0, k1, …"""
    return ", ".join(f'CAST("{name.replace(chr(34), 2 * chr(34))}" AS VARCHAR) AS k{at}' for at, name in enumerate(by))


_OF_SCORES = """count(*), count(*) FILTER (isfinite(pred_score)),
    coalesce(sum(pred_score::DOUBLE) FILTER (isfinite(pred_score)), 0)"""


def cells(sql: duckdb.DuckDBPyConnection, by: Sequence[str]) -> dict[tuple[Group, str], Cell]:
    rows = sql.execute(
        f"""SELECT {keys(by)}, run_id, {_OF_SCORES}, count(pred_label), count(*) FILTER (pred_label = 1),
                min(image_threshold), max(image_threshold), min(pixel_threshold), max(pixel_threshold)
            FROM scores GROUP BY ALL LIMIT {_MOST_CELLS + 1}"""
    ).fetchall()
    return _by_key(rows, by)


def limits_of(strata: Mapping[tuple[Group, str], Cell]) -> dict[Group, float]:
    """This time's image threshold of each stratum that has one, and one alone."""
    found: dict[Group, set[float]] = {}
    for (stratum, _), cell in strata.items():
        found.setdefault(stratum, set()).update(cell.image_threshold or ())
    return {stratum: limits.pop() for stratum, limits in found.items() if len(limits) == 1}


def earlier_cells(
    sql: duckdb.DuckDBPyConnection, by: Sequence[str], run_ids: Sequence[str], limits: Mapping[Group, float]
) -> dict[tuple[Group, str], Cell]:
    """Of trailing runs, by the thresholds of this time.

    Args:    limits: image thresholds by stratum.
    """
    if not run_ids:
        return {}
    columns = {f"k{at}": pa.array([stratum[at] for stratum in limits], pa.string()) for at in range(len(by))}
    at_least = pa.array(limits.values(), pa.float32())  # as in the scores
    sql.register("report_limits", pa.table({"at_least": at_least, **columns}))
    sql.register("report_before", pa.table({"run_id": list(run_ids)}))
    sql.execute(AS_WRITTEN)
    same = " AND ".join(f"keyed.k{at} IS NOT DISTINCT FROM report_limits.k{at}" for at in range(len(by)))
    told = ", ".join(f"keyed.k{at}" for at in range(len(by)))
    rows = sql.execute(
        f"""SELECT {told}, run_id, {_OF_SCORES}, count(at_least),
                count(*) FILTER (pred_score >= at_least AND NOT isnan(pred_score)), NULL, NULL, NULL, NULL
            FROM (SELECT {keys(by)}, run_id, pred_score FROM scores) AS keyed
                JOIN report_before USING (run_id) LEFT JOIN report_limits ON {same}
            GROUP BY ALL LIMIT {_MOST_CELLS + 1}"""
    ).fetchall()
    return _by_key(rows, by)


# The small tables are what is held. Of Arrow's rows DuckDB knows no number, and would hold all of them.
AS_WRITTEN = "SET disabled_optimizers = 'join_order,build_side_probe_side'"


def _by_key(rows: Sequence[tuple[Any, ...]], by: Sequence[str]) -> dict[tuple[Group, str], Cell]:
    if len(rows) > _MOST_CELLS:
        raise InputError(
            f"--by: {', '.join(by)} make more than {_MOST_CELLS:,} groups in these runs; choose columns of fewer values"
        )
    return {(tuple(row[: len(by)]), row[len(by)]): _cell(*row[len(by) + 1 :]) for row in rows}


def _cell(*values: Any) -> Cell:
    names = ("images", "finite", "score_sum", "labelled", "anomalies")
    image, pixel = values[5:7], values[7:9]
    return Cell(
        **dict(zip(names, values[:5], strict=True)),
        image_threshold=None if image[0] is None else image,
        pixel_threshold=None if pixel[0] is None else pixel,
    )


def folded(
    strata: Mapping[tuple[Group, str], Cell], columns: int, groups: Sequence[Group] | None = None
) -> dict[tuple[Group, str], Cell]:
    """By the first columns alone; those that are none of `groups`, where these are given, as `OTHERS`."""
    known = None if groups is None else set(groups)
    sums: dict[tuple[Group, str], Cell] = {}
    for (stratum, run_id), cell in strata.items():
        group = stratum[:columns]
        key = (group if known is None or group in known else OTHERS, run_id)
        sums[key] = sums[key] + cell if key in sums else cell
    return sums
