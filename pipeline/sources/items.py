"""One planned image, and how planned images become rows of the plan."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from cops.errors import CopsError
from pipeline.decode import ENDINGS
from pipeline.paths import PathTemplate
from pipeline.schema import PLAN, Reason, Stage, with_metadata
from pipeline.store_errors import FormatError, reason_of, with_patience

log = logging.getLogger(__name__)

Kind = Literal["file", "range", "cell"]


def image_id(uri: str) -> str:
    """The stable name of an image: 128 bits of BLAKE2b over its URI (with `#member` for one inside a shard)."""
    try:
        name = uri.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, from a JSON manifest; names on a disk never have one
        name = uri.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=16).hexdigest()


def is_image(path: str) -> bool:
    return path.lower().endswith(ENDINGS)


def is_hidden(path: str) -> bool:
    """Names with a leading dot: `.DS_Store`, and the `._x.jpg` twins that macOS leaves on network drives."""
    return PurePosixPath(path).name.startswith(".")


@dataclass(frozen=True, kw_only=True)
class Bad:
    """Why something in the listing cannot be scored."""

    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True)
class PlanItem:
    """One image, or one shard that could not be opened. `relative` is what `--path-fields` is matched against."""

    image_uri: str
    kind: Kind = "file"
    path: str = ""
    relative: str = ""
    shard: str | None = None
    offset: int | None = None
    row: int | None = None
    row_group: int | None = None
    image_column: str | None = None
    num_bytes: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    bad: Bad | None = None
    unique: str = ""  # tells apart two members of one name


@dataclass(frozen=True, kw_only=True)
class PlanRows:
    """Turns items into plan rows: ids, category, the run's own columns. Travels to the tasks that index shards."""

    category: str | None
    template: PathTemplate | None
    metadata: Mapping[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        return with_metadata(PLAN, self.metadata)

    @property
    def wanted_fields(self) -> tuple[str, ...]:
        """What a source reads beside the image: the kept columns, and a category where it has one."""
        parsed = self.template.fields if self.template else ()
        return ("category", *(name for name in self.metadata if name not in parsed))

    def table(self, items: Iterable[PlanItem]) -> pa.Table:
        """The items' rows. A kept value that its column cannot hold makes a manifest's row bad; a picture in a shard
        is scored without it.
        """
        rows = [self._row(item) for item in items]
        try:
            if not any(isinstance(row[name], pa.Scalar) for name in self.metadata for row in rows):
                return pa.Table.from_pylist(rows, schema=self.schema)
        except _UNFIT:
            pass
        left_out = Counter(name for row in rows for name in self._fit(row))
        for name, count in left_out.items():
            log.warning("%d values of %r do not fit their column and are left out", count, name)
        return pa.Table.from_pylist(rows, schema=self.schema)

    def _fit(self, row: dict[str, Any]) -> list[str]:
        """Leave out of a row what its columns cannot hold; the names of these columns."""
        unfit = [column for column in self.schema if not _fits(row.get(column.name), column.type)]
        names = ", ".join(repr(column.name) for column in unfit)
        row |= {column.name: None for column in unfit}
        if (
            unfit
            and row["stage"] is None
            and (row["kind"] == "file" or any(column.name in PLAN.names for column in unfit))
        ):
            message = f"the value of {names} is no {unfit[0].type}"
            row |= {"stage": Stage.LIST, "reason": Reason.BAD_MANIFEST_ROW, "message": message}
        return [column.name for column in unfit]

    def _row(self, item: PlanItem) -> dict[str, Any]:
        parsed = self.template.match(item.relative) if self.template and not item.bad else None
        values = {**item.fields, **(parsed or {})}
        row: dict[str, Any] = {
            "image_id": image_id(item.image_uri + item.unique),
            "image_uri": _printable(item.image_uri),
            "shard": item.shard and _printable(item.shard),
            "kind": item.kind,
            "path": _printable(item.path),
            "offset": item.offset,
            "row": item.row,
            "row_group": item.row_group,
            "image_column": item.image_column,
            "num_bytes": item.num_bytes,
            "category": self.category if self.category is not None else _text(values.get("category")),
        }
        row |= {"stage": None, "reason": None, "message": None}
        if item.bad:
            row |= {"stage": Stage.LIST, "reason": item.bad.reason, "message": _printable(item.bad.message)}
        for name, kind in self.metadata.items():
            value = values.get(name)
            row[name] = _text(value) if kind == pa.string() else value
        return row


_UNFIT = (pa.ArrowException, TypeError, ValueError, ArithmeticError)


def _fits(value: Any, kind: pa.DataType) -> bool:
    if isinstance(value, pa.Scalar):
        return False
    try:
        pa.array([value], kind)
    except _UNFIT:
        return False
    return True


def python_rows(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as dicts. A value that Python cannot hold, such as a date beyond the year 9999, stays an Arrow scalar."""
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except _UNFIT:
        columns = [[_python_value(value) for value in column] for column in table.columns]
        return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]
    return rows


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes() if hasattr(value, "as_buffer") else value
    except _UNFIT:
        return value


def index_patiently(index: Callable[[], list[PlanItem]], uri: str, shard: str) -> list[PlanItem]:
    """A shard's items; one row about the shard where it cannot be opened.

    Raises:  StoreError: the store failed in every try.
    """
    try:
        return with_patience(index, uri)
    except CopsError:
        raise
    except FormatError as exc:
        reason, message = Reason.UNREADABLE_SHARD, f"no readable shard: {exc}"
    except Exception as exc:  # noqa: BLE001 -- each store's client has errors of its own
        reason, message = reason_of(exc)
    return [PlanItem(image_uri=shard, shard=shard, bad=Bad(reason=reason, message=message))]


def _printable(text: str) -> str:
    """File names on Linux are bytes; what in them is no UTF-8 is shown escaped (and cannot be opened by that name)."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(value: Any) -> str | None:
    """A field of any JSON type as text; text stays as it is."""
    if isinstance(value, pa.Scalar):
        return _scalar_text(value)
    if value is None or value != value:  # noqa: PLR0124 -- NaN
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif not isinstance(value, bool | int | float | list | dict):  # dates, decimals
        value = str(value)
    if isinstance(value, str):
        return _printable(value)
    try:
        return _printable(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return None


def _scalar_text(value: pa.Scalar) -> str | None:
    try:
        return _text(value.cast(pa.string()).as_py())
    except _UNFIT:
        return None
