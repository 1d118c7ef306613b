"""A run's label sets held against their records and against the scores that they label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.label_sets import LABELS, label_set_of, label_sets_dir, names, records_dir
from pipeline.layout import Entry, RunLayout
from pipeline.parts import footer_digest
from pipeline.store_errors import FormatError, opened, reason_of, with_patience
from pipeline.upkeep.part_checks import is_odd_mask

_SCORES = ("image_id", "height", "width", "pred_score")
_MASKS = ("pred_mask", "pixel_threshold", "mask_area")


def label_problems(layout: RunLayout, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Files of label sets, below the output root, with what is wrong with each."""
    for name in names(layout):
        try:
            labels = label_set_of(layout, name, record)
        except InputError as error:
            yield layout.below_root(f"{records_dir(layout)}/{name}.json"), str(error)
            continue
        for file in labels["files"]:
            for problem in _problems(layout, file):
                yield file["path"], problem
    for entry in label_strays(layout, record):
        yield layout.below_root(entry.path), "is in no label set's record: no reader of ours reads it"


def label_entries(layout: RunLayout) -> list[Entry]:
    """Every file in the folders of a run's label sets."""
    folders = [entry for entry in layout.entries(label_sets_dir(layout)) if entry.is_folder]
    return [entry for folder in folders for entry in layout.entries(folder.path)]


def label_strays(layout: RunLayout, record: Mapping[str, Any]) -> list[Entry]:
    """Files in label sets' folders that no record names; none of those whose record cannot be read."""
    found: list[Entry] = []
    known = set(names(layout))
    for folder in layout.entries(label_sets_dir(layout)):
        name = folder.name.removeprefix("label_set=")
        entries = layout.entries(folder.path) if folder.is_folder else [folder]
        if folder.is_folder and name in known:
            try:
                named = {file["path"] for file in label_set_of(layout, name, record)["files"]}
            except InputError:
                continue
            entries = [entry for entry in entries if layout.below_root(entry.path) not in named]
        found += entries
    return found


def _problems(layout: RunLayout, file: Mapping[str, Any]) -> list[str]:
    path, scores = layout.root.inside(file["path"]), layout.root.inside(file["scores"])
    try:
        return with_patience(lambda: _compare(layout, file, path, scores), layout.root.uri(path))
    except FormatError as exc:
        return [f"cannot be read whole: {exc}"]
    except FileNotFoundError:
        return ["is missing, or the scores that it labels are"]
    except PermissionError as exc:
        return [f"cannot be read: {reason_of(exc)[1]}"]


def _compare(layout: RunLayout, file: Mapping[str, Any], path: str, scores: str) -> list[str]:
    fs = layout.root.fs
    with opened(fs, path) as there:
        if there.seek(0, 2) != file.get("num_bytes") or footer_digest(there) != file.get("footer_sha256"):
            return ["its size or footer is not the one that was committed"]
        labels = pq.read_table(there, page_checksum_verification=True)
    with opened(fs, scores) as there:
        beside = pq.read_table(there, columns=list(_SCORES), page_checksum_verification=True)
    if labels.schema.remove_metadata() != LABELS:
        return [f"expected the columns {', '.join(LABELS.names)}, got {', '.join(labels.schema.names)}"]
    if labels["image_id"] != beside["image_id"]:
        return [f"expected the images of {file['scores']}, one for one"]
    return list(_odd_rows(labels, beside))


def _odd_rows(labels: pa.Table, scores: pa.Table) -> Iterator[str]:
    over = pc.greater_equal(scores["pred_score"], labels["image_threshold"]).cast(pa.int8())  # null without a threshold
    if not over.equals(labels["pred_label"]):
        yield "pred_label is not what image_threshold makes of pred_score"
    columns = [
        *(labels[name].to_pylist() for name in _MASKS),
        scores["height"].to_pylist(),
        scores["width"].to_pylist(),
    ]
    odd = [at for at, row in enumerate(zip(*columns, strict=True)) if is_odd_mask(*row)]
    if odd:
        example = labels["image_id"][odd[0]].as_py()
        what = "pred_mask does not fit its picture, its mask_area or its pixel_threshold"
        yield f"{len(odd):,} rows: {what} (image_id {example})"
