"""One planned image, and how planned images become rows of the plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from pipeline.decode import ENDINGS
from pipeline.paths import PathTemplate
from pipeline.schema import PLAN, Reason, Stage, with_metadata

Kind = Literal["file", "range", "cell"]


def image_id(uri: str) -> str:
    """The stable name of an image: 128 bits of BLAKE2b over its URI (with `#member` for one inside a shard)."""
    return hashlib.blake2b(uri.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


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
        return pa.Table.from_pylist([self._row(item) for item in items], schema=self.schema)

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
        if item.bad:
            row |= {"stage": Stage.LIST, "reason": item.bad.reason, "message": _printable(item.bad.message)}
        for name, kind in self.metadata.items():
            value = values.get(name)
            row[name] = _text(value) if kind == pa.string() else value
        return row


def _printable(text: str) -> str:
    """File names on Linux are bytes; what in them is no UTF-8 is shown escaped (and cannot be opened by that name)."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(value: Any) -> str | None:
    """A field of any JSON type as text; text stays as it is."""
    if value is None or value != value:  # noqa: PLR0124 -- NaN
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return _printable(value)
    return json.dumps(value, ensure_ascii=False, default=str)
