"""The rows of an archive's tables, and one entry as the formats hold it."""

import csv
import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pipeline.samples.plan import Entry, Settings
from pipeline.samples.store import Store

Row = dict[str, Any]


def _schema(columns: list[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(columns)


SHARD_SCHEMA = _schema(
    [
        ("image_bytes", pa.binary()),
        ("name", pa.string()),
        ("category", pa.string()),
        ("label", pa.int8()),
        ("defect", pa.string()),
        ("line", pa.string()),
        ("captured", pa.date32()),
        ("mask_png", pa.binary()),
    ]
)
LABEL_SCHEMA = _schema(
    [
        ("path", pa.string()),
        ("category", pa.string()),
        ("label", pa.int8()),
        ("defect", pa.string()),
        ("mask_path", pa.string()),
        ("line", pa.string()),
        ("captured", pa.date32()),
        ("seed", pa.int64()),
        ("seed_index", pa.int64()),
    ]
)
MANIFEST_SCHEMA = _schema(
    [
        ("uri", pa.string()),
        ("category", pa.string()),
        ("line", pa.string()),
        ("captured", pa.date32()),
        ("label", pa.int8()),
        ("defect", pa.string()),
    ]
)


def image_path(item: Entry) -> str:
    return f"images/{item.name}"


def mask_path(item: Entry) -> str | None:
    return f"masks/{item.stem}.png" if item.mask_png else None


def shard_row(item: Entry) -> Row:
    return {name: getattr(item, name) for name in SHARD_SCHEMA.names}


def label_row(settings: Settings, item: Entry) -> Row:
    own = {"path": image_path(item), "mask_path": mask_path(item), "seed": settings.seed, "seed_index": item.index}
    return {name: own[name] if name in own else getattr(item, name) for name in LABEL_SCHEMA.names}


def manifest_row(store: Store, item: Entry) -> Row:
    uri = {"uri": store.uri(image_path(item))}
    return {name: uri[name] if name in uri else getattr(item, name) for name in MANIFEST_SCHEMA.names}


def members(item: Entry) -> list[tuple[str, bytes]]:
    """The files of one WebDataset sample: the image, its fields, its mask."""
    fields = {"category": item.category, "label": item.label, "defect": item.defect, "line": item.line}
    fields["captured"] = item.captured.isoformat()
    files = [(item.name, item.image_bytes), (f"{item.stem}.json", json.dumps(fields).encode())]
    if item.mask_png:
        files.append((f"{item.stem}.mask.png", item.mask_png))
    return files


def add_files(tar: tarfile.TarFile, files: Iterable[tuple[str, bytes]]) -> None:
    """Files appended to a tar, without times or owners, so that the same entries make the same bytes."""
    for name, data in files:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def as_csv(table: pa.Table) -> bytes:
    """The table as RFC 4180 text; a null is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.column_names)
    writer.writerows(row.values() for row in table.to_pylist())
    return text.getvalue().encode()


def as_json_lines(table: pa.Table) -> bytes:
    return "".join(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()
