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
from pipeline.views import open_views

Row = dict[str, Any]

_ROWS_AT_ONCE = 256  # a mask's text may be long
_NO_SQL = (
    duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.ProgrammingError,
    duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException,
    duckdb.PermissionException,
)  # fmt: skip
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
    """The images that were chosen, a view `chosen` of `sql`, to be asked for while the views are open.

    Args:    first_uri, last_uri, hottest: of the whole run: its URIs in the order of their letters, its highest patch
             score. Names and colours are thus the same whatever is chosen.
             images, masks, in_shards: how many, and how many of them have a mask or lie in a shard; one of these.
    """

    sql: duckdb.DuckDBPyConnection
    record: Mapping[str, Any]
    order: str
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
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in dict.fromkeys(names))
        found = self.sql.sql(f"SELECT {quoted} FROM chosen ORDER BY {self.order}")
        for batch in found.to_arrow_reader(_ROWS_AT_ONCE):
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
        scores = sql.table("scores")
        view, order = "SELECT * FROM scores", "image_uri, image_id"
        if selection.where is not None:
            with _as_wrong_use("--where", selection.where, scores):
                scores.filter(selection.where)  # one condition and nothing else: DuckDB parses it by itself
            view += f" WHERE (\n{selection.where}\n)"
        if selection.order_by is not None:
            with _as_wrong_use("--order-by", selection.order_by, scores):
                scores.order(selection.order_by)
            order = f"{selection.order_by}\n, {order}"
        if selection.limit is not None:
            view += f" ORDER BY {order} LIMIT {int(selection.limit)}"
        with _as_wrong_use("--where", selection.where, scores):
            sql.execute(f"CREATE TEMP VIEW chosen AS {view}")
            (facts,) = sql.execute(_OF_CHOSEN).fetchall()
        (of_run,) = sql.execute(_OF_RUN).fetchall()
        yield Chosen(sql, record, order, *of_run, *facts)


def _record(selection: Selection) -> Mapping[str, Any]:
    if selection.run_id is None:
        return latest_record(selection.output)
    return record_of(RunLayout.at(selection.output, check_run_id(selection.run_id)))


@contextlib.contextmanager
def _as_wrong_use(flag: str, given: str | None, scores: duckdb.DuckDBPyRelation) -> Iterator[None]:
    """What DuckDB says of a user's SQL, as an error of the user's."""
    try:
        yield
    except _NO_SQL as exc:
        has = ", ".join(scores.columns)
        told = str(exc).partition("\n")[0]
        raise InputError(f"{flag} {given!r}: {told} Expected SQL over the columns {has}") from exc
