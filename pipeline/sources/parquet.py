"""Parquet shards with a column of image bytes: plain binary, or Hugging Face's struct of bytes and path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cops.errors import CopsError
from pipeline.errors import InputError
from pipeline.schema import Reason
from pipeline.sources.items import Bad, PlanItem, index_patiently, python_rows
from pipeline.storage import Root, open_root
from pipeline.store_errors import opened, with_patience

_LIKELY = ("image", "image_bytes", "bytes", "img", "jpg", "jpeg", "png", "content", "data")


def read_schema(root: Root, path: str) -> pa.Schema | None:
    """The columns of a Parquet file; None where its footer cannot be read.

    Raises:  StoreError: the store failed in every try.
    """
    try:
        return with_patience(lambda: _schema(root, path), root.uri(path))
    except CopsError:
        raise
    except Exception:  # noqa: BLE001 -- each store's client has errors of its own
        return None


def _schema(root: Root, path: str) -> pa.Schema:
    with opened(root.fs, path) as file:
        return pq.read_schema(file)


def image_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if _holds_bytes(field.type)]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def choose_image_column(schema: pa.Schema, uri: str, wanted: str | None) -> str:
    """The column that holds the pictures.

    Raises:  InputError: none, or several and none has a usual name; --image-column says which.
    """
    found = image_columns(schema)
    if wanted is not None:
        if wanted not in found:
            raise InputError(f"{uri}: --image-column {wanted!r} is no column of bytes; columns of bytes: {found}")
        return wanted
    likely = [name for name in _LIKELY if name in found]
    if len(found) != 1 and not likely:
        raise InputError(f"{uri}: expected one column of image bytes, found {found}; choose by --image-column")
    return found[0] if len(found) == 1 else likely[0]


def index_parquet(uri: str, *, wanted_fields: Sequence[str], image_column: str) -> list[PlanItem]:
    """One item per row: its number in the file names it, its row group says where to read it.

    Raises:  StoreError: the store failed in every try.
    """
    root = open_root(uri)
    shard = root.uri()
    return index_patiently(lambda: _opened_index(root, uri, shard, wanted_fields, image_column), uri, shard)


def _opened_index(root: Root, uri: str, shard: str, wanted: Sequence[str], image_column: str) -> list[PlanItem]:
    with opened(root.fs, root.path) as file:
        return _index(pq.ParquetFile(file), uri, shard, wanted, image_column)


def _index(file: pq.ParquetFile, uri: str, shard: str, wanted: Sequence[str], image_column: str) -> list[PlanItem]:
    schema = file.schema_arrow
    if image_column not in image_columns(schema):
        message = f"expected a column {image_column!r} of image bytes; it has {schema.names}"
        return [PlanItem(image_uri=shard, shard=shard, bad=Bad(reason=Reason.UNREADABLE_SHARD, message=message))]
    kept = [name for name in wanted if name in schema.names and name != image_column]
    items: list[PlanItem] = []
    for group in range(file.num_row_groups):
        fields: list[dict[str, Any]] = (
            python_rows(file.read_row_group(group, columns=kept))
            if kept
            else [{}] * file.metadata.row_group(group).num_rows
        )
        for values in fields:
            row = len(items)
            items.append(
                PlanItem(
                    image_uri=f"{shard}#{row}", kind="cell", path=uri, relative=str(row), shard=shard,
                    row=row, row_group=group, image_column=image_column, fields=values,
                )
            )  # fmt: skip
    return items
