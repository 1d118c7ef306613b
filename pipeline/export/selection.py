"""Which images of a run are exported, in which order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from pipeline.errors import InputError
from pipeline.layout import RunLayout, check_run_id
from pipeline.runs import latest_record, record_of
from pipeline.schema import SCORES
from pipeline.sql_errors import as_errors
from pipeline.views import open_views

Row = dict[str, Any]

_ROWS_AT_ONCE = 256  # a mask's text may be long
_OF_RUN = "SELECT min(image_uri), max(image_uri), max(patch_score_max) FROM scores"
_OF_CHOSEN = "SELECT count(*), count(pred_mask), count(shard), min(image_uri) FILTER (shard IS NOT NULL) FROM chosen"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Args:    where, order_by: SQL over the columns of `scores`.   label_set: whose labels and masks."""

    output: str = "out/"
    run_id: str | None = None
    label_set: str | None = None
    where: str | None = None
    order_by: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit: expected 1 or more, got {self.limit}")


@dataclass(frozen=True)
class Chosen:
    """The images that were chosen, once for all: a view `chosen` of `sql`, to be asked for while the views are open.

    Args:    first_uri, last_uri, hottest: of the whole run: its URIs in the order of their letters, its highest patch
             score. Names and colours are thus the same whatever is chosen.
             images, masks, in_shards: how many, and how many of them have a mask or lie in a shard; one of these.
    """

    sql: duckdb.DuckDBPyConnection
    record: Mapping[str, Any]
    first_uri: str | None
    last_uri: str | None
    hottest: float | None
    images: int
    masks: int
    in_shards: int
    in_shard_uri: str | None

    @property
    def columns(self) -> list[str]:
        """The run's own, beside those that every run has."""
        return [name for name in self.sql.table("chosen").columns if name not in SCORES.names and name != "run_id"]

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """The images with these columns, in order; never all at once."""
        quoted = ", ".join('scores."' + name.replace('"', '""') + '"' for name in dict.fromkeys(names))
        wanted = f"SELECT {quoted} FROM scores JOIN chosen_ids USING (run_id, image_id) ORDER BY chosen_ids.rowid"
        with as_errors("the chosen images", self.sql):
            for batch in self.sql.sql(wanted).to_arrow_reader(_ROWS_AT_ONCE):
                yield from batch.to_pylist()

    def require_masks(self) -> None:
        """Raises:  InputError: none of the images has a mask, so there is nothing to export of them."""
        if self.images and not self.masks:
            raise InputError(
                f"run {self.record['run_id']!r}: none of its {self.images:,} images has a mask, as there was no pixel "
                "threshold; label it by jobs/label.py and give --label-set NAME"
            )


@contextlib.contextmanager
def choose(selection: Selection) -> Iterator[Chosen]:
    """Raises:  InputError: there is no such run or label set, or --where or --order-by is no SQL over its columns."""
    record = _record(selection)
    with open_views(selection.output, [record["run_id"]], label_set=selection.label_set) as sql:
        _choose(sql, selection)
        (facts,) = sql.execute(_OF_CHOSEN).fetchall()
        (of_run,) = sql.execute(_OF_RUN).fetchall()
        yield Chosen(sql, record, *of_run, *facts)


def _record(selection: Selection) -> Mapping[str, Any]:
    if selection.run_id is None:
        return latest_record(selection.output)
    return record_of(RunLayout.at(selection.output, check_run_id(selection.run_id)))


def _choose(sql: duckdb.DuckDBPyConnection, selection: Selection) -> None:
    """The table `chosen_ids`, in order, and the view `chosen`: asked anew, `random() < 0.5` would choose others."""
    scores, given = sql.table("scores"), []
    ids, order = "SELECT image_id, run_id FROM scores", "image_uri, image_id"
    if selection.where is not None:
        given.append(f"--where {selection.where!r}")
        with as_errors(given[-1], sql):
            scores.filter(selection.where)  # one condition and nothing else: DuckDB parses it by itself
        ids += f" WHERE (\n{selection.where}\n)"
    if selection.order_by is not None:
        given.append(f"--order-by {selection.order_by!r}")
        with as_errors(given[-1], sql):
            scores.order(selection.order_by)
        order = f"{selection.order_by}\n, {order}"
    ids += f" ORDER BY {order}" + (f" LIMIT {int(selection.limit)}" if selection.limit is not None else "")
    with as_errors(" ".join(given) or "the scores", sql):
        sql.execute(f"CREATE TEMP TABLE chosen_ids AS {ids}")
        sql.execute("CREATE TEMP VIEW chosen AS SELECT * FROM scores SEMI JOIN chosen_ids USING (run_id, image_id)")
