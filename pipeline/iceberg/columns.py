"""Our columns as Iceberg's, and what they have to do with the columns that a table has already."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema

from pipeline.errors import InputError

RUN_ID = pa.field("run_id", pa.string(), nullable=False)
_WIDE = {pa.int32(): pa.int64(), pa.float32(): pa.float64()}  # what Iceberg may make of a column that is there
_PLAIN: Mapping[pa.DataType, pa.DataType] = {  # what it has no type for, and which holds every value of it
    **dict.fromkeys((pa.int8(), pa.int16(), pa.uint8(), pa.uint16()), pa.int32()),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
}


def published_schema(columns: pa.Schema) -> pa.Schema:
    """The columns of one of our tables, `run_id` before them, in types that Iceberg has.

    Raises:  InputError: there is none for a column, or its name means another one.
    """
    others = [field for field in columns if field.name != RUN_ID.name]
    nested = {field.name for field in columns if pa.types.is_nested(field.type)}
    for name in columns.names:
        if "." in name and name.partition(".")[0] in nested:
            raise InputError(f"--table: Iceberg takes column {name!r} for a part of another; rename it in the input")
    return pa.schema([RUN_ID, *(pa.field(one.name, _plain(one.type, one.name), one.nullable) for one in others)])


def _plain(kind: pa.DataType, name: str) -> pa.DataType:  # noqa: PLR0911 -- one for each kind
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_timestamp(kind):  # what is finer than a microsecond is cut
        return pa.timestamp("us", tz=kind.tz and "UTC")
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type, name))
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, _plain(one.type, name)) for one in kind])
    if kind in (pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.date32(), pa.string(), pa.binary()):
        return kind
    raise InputError(f"--table: Iceberg has no type for column {name!r}, {kind}; leave it out of --keep-columns")


def missing_columns(table: Schema, ours: pa.Schema, where: str) -> pa.Schema:
    """What the table must be given before these columns can be written: new ones, and wider types.

    Raises:  InputError: a column is there with another type, or spelled in another case; or the table demands one that
             we do not have.
    """
    theirs = _arrow(table)
    spelled = {name.lower(): name for name in theirs.names}
    missing = []
    for field in ours:
        known = spelled.get(field.name.lower())
        if known is None:
            missing.append(field.with_nullable(True))
        elif known != field.name:
            raise InputError(
                f"{where}: the table has a column {known!r}, the run {field.name!r}: SQL takes them for one"
            )
        elif not _holds(theirs.field(known).type, field.type):
            if not _holds(field.type, theirs.field(known).type):
                raise InputError(_conflict(where, theirs.field(known), field))
            missing.append(field)
    for field in theirs:
        if not field.nullable and (field.name not in ours.names or ours.field(field.name).nullable):
            raise InputError(f"{where}: column {field.name!r} may not be null there, and a run has rows without it")
    return pa.schema(missing)


def _arrow(table: Schema) -> pa.Schema:
    """The table's columns, its text and bytes as ours are spelled."""
    return pa.schema(
        [field.with_type(_short(field.type)) for field in schema_to_pyarrow(table, include_field_ids=False)]
    )


def _short(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, _short(one.type)) for one in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_short(kind.value_type))
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)


def _holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Whether a column of the one type takes every value of the other, by Iceberg's own rules."""
    if wide == narrow or _WIDE.get(narrow) == wide:
        return True
    if not (pa.types.is_decimal(wide) and pa.types.is_decimal(narrow)):
        return False
    return bool(wide.scale == narrow.scale and wide.precision >= narrow.precision)


def _conflict(where: str, theirs: pa.Field, ours: pa.Field) -> str:
    return (
        f"{where}: column {ours.name!r} is {theirs.type} in the table and {ours.type} in the run. "
        "Give it another name or type in the input, leave it out, or publish into another table"
    )
