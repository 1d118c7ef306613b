"""The rows of a query for people and programs: a table for the terminal, Markdown, CSV, JSON, Parquet."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cops.shown import shown
from pipeline.queries import Answer
from pipeline.table_text import as_csv, markdown_text

Form = Literal["table", "markdown", "csv", "json"]

_GAP, _NONE, _CUT = "  ", "-", "…"
_LEAST = 12  # characters that a column of text keeps on a narrow terminal
_TO_MINUTES = 16  # characters of a time in ISO 8601


def as_text(answer: Answer, form: Form, *, most: int, width: int | None = None) -> Iterator[str]:
    """Pieces of text, the last one with the end of a line.

    Args:    most: rows of a table or of Markdown; CSV and JSON have all.   width: of the terminal; None: cut nothing.
    """
    match form:
        case "csv":
            return _csv(answer)
        case "json":
            return _json(answer)
        case "markdown":
            rows, is_all = _first(answer, most)
            return iter([_markdown(answer.schema, rows), _ending(rows, is_all=is_all, form=form)])
        case "table":
            rows, is_all = _first(answer, most)
            return iter([_table(answer.schema, rows, width), _ending(rows, is_all=is_all, form=form)])


def write_parquet(answer: Answer, out: IO[bytes]) -> int:
    """All rows as they come; how many."""
    count = 0
    with pq.ParquetWriter(out, answer.schema, compression="zstd") as writer:
        for batch in answer.batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _first(answer: Answer, most: int) -> tuple[list[list[Any]], bool]:
    """So many rows, and whether these are all."""
    rows: list[list[Any]] = []
    for batch in answer.batches:
        rows += _rows(batch)
        if len(rows) > most:
            return rows[:most], False
    return rows, True


def _rows(batch: pa.RecordBatch) -> list[list[Any]]:
    columns = [[_plain(value, column.type) for value in column.to_pylist()] for column in batch.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _plain(value: Any, kind: pa.DataType) -> Any:  # noqa: PLR0911 -- one for each kind
    """What JSON can hold: text, numbers, lists and objects of these. A float32 has the digits that are its own."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        number = float(str(np.float32(value))) if pa.types.is_float32(kind) else value
        return number if math.isfinite(number) else None
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if pa.types.is_map(kind):
        return {str(_plain(name, kind.key_type)): _plain(one, kind.item_type) for name, one in value}
    if isinstance(value, dict):
        return {name: _plain(one, kind.field(name).type) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, kind.value_type) for one in value]
    return str(value)


def _csv(answer: Answer) -> Iterator[str]:
    numbers = [str(at) for at in range(len(answer.schema))]
    names = [pa.array([name], pa.string()) for name in answer.schema.names]  # as cells: they are guarded, too
    yield as_csv(pa.table(names, numbers), header=False).decode()
    for batch in answer.batches:
        yield as_csv(pa.table([_flat(column) for column in batch.columns], numbers), header=False).decode()


def _flat(column: pa.Array) -> pa.Array:
    """As it is where CSV can hold it; else as text, lists and structs as JSON."""
    kind = column.type
    if (pa.types.is_primitive(kind) and not pa.types.is_interval(kind)) or pa.types.is_string(kind):
        return column
    plain = [_plain(value, kind) for value in column.to_pylist()]
    return pa.array(
        [None if one is None else one if isinstance(one, str) else _dump(one) for one in plain], pa.string()
    )


def _json(answer: Answer) -> Iterator[str]:
    """An array of objects, one on each line."""
    before = "[\n"
    for batch in answer.batches:
        for row in _rows(batch):
            yield f"{before}  {_dump(dict(zip(answer.schema.names, row, strict=True)))}"
            before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _table(schema: pa.Schema, rows: Sequence[Sequence[Any]], width: int | None) -> str:
    head = [shown(name) for name in schema.names]
    cells = [head, *_cells(schema, rows)]
    to_right = [_is_number(field.type) for field in schema]
    least = [_least(field) for field in schema]
    sizes = _sizes([max(len(row[at]) for row in cells) for at in range(len(schema))], least, width)
    return "\n".join(_line(row, sizes, to_right) for row in cells)


def _cells(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[_cell(value, field.type) for value, field in zip(row, schema, strict=True)] for row in rows]


def _line(row: Sequence[str], sizes: Sequence[int], to_right: Sequence[bool]) -> str:
    cut = (text if len(text) <= size else _shortened(text, size) for text, size in zip(row, sizes, strict=True))
    padded = (
        text.rjust(size) if right else text.ljust(size) for text, size, right in zip(cut, sizes, to_right, strict=True)
    )
    return _GAP.join(padded).rstrip()


def _sizes(sizes: Sequence[int], least: Sequence[int], width: int | None) -> list[int]:
    """The columns' widths; where they do not fit, the widest of text gives way first. What cannot is left too wide."""
    fitting = list(sizes)
    while width is not None and sum(fitting) + len(_GAP) * (len(fitting) - 1) > width:
        spare = [at for at, size in enumerate(fitting) if size > least[at]]
        if not spare:
            break
        fitting[max(spare, key=fitting.__getitem__)] -= 1
    return fitting


def _least(field: pa.Field) -> int:
    """How narrow a column may become: numbers and times are cut never, text not below its heading."""
    is_text = not _is_number(field.type) and not pa.types.is_temporal(field.type)
    return max(_LEAST, len(shown(field.name))) if is_text else sys.maxsize


def _shortened(text: str, size: int) -> str:
    """Both ends: the beginning of an id tells it apart, the end of a path names the file."""
    head = size // 3
    return text[:head] + _CUT + text[len(text) - (size - head - 1) :]


def _markdown(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> str:
    head = [markdown_text(shown(name)) for name in schema.names]
    ruler = ["---:" if _is_number(field.type) else "---" for field in schema]
    body = [[markdown_text(cell) for cell in row] for row in _cells(schema, rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *body))


def _cell(value: Any, kind: pa.DataType) -> str:
    if value is None:
        return _NONE
    if isinstance(value, float):
        return f"{value:.5g}"
    if pa.types.is_timestamp(kind):
        return str(value)[:_TO_MINUTES].replace("T", " ")
    return shown(value) if isinstance(value, str) else shown(_dump(value))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _ending(rows: Sequence[Any], *, is_all: bool, form: Form) -> str:
    count = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    told = f"({count})" if is_all else f"(the first {count}; there are more: --rows, or --format csv or json)"
    return f"\n\n{told}\n" if form == "markdown" else f"\n{told}\n"
