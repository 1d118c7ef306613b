"""One part file, read whole: whether it is a table of ours, and whether each row keeps the promises of its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.layout import Table
from pipeline.masks import run_lengths
from pipeline.parts import footer_digest
from pipeline.schema import QUARANTINE_FILE, RESERVED, SCORES, Reason, Stage
from pipeline.storage import Root
from pipeline.store_errors import opened

_ROWS = 1_024  # at once; some 3 MB
_EXPECTED: Mapping[Table, pa.Schema] = {"scores": SCORES, "quarantine": QUARANTINE_FILE}

BadRows = npt.NDArray[np.bool_]


@dataclass
class PartReport:
    """What a part holds, and what is wrong with it, in words.

    Args:    num_bytes: of the images in it, encoded.   own_columns: the run's own, with
             their types; None where the file is no table of ours.
    """

    rows: int = 0
    num_bytes: int = 0
    own_columns: str | None = None
    problems: list[str] = field(default_factory=list)


def check_part(root: Root, path: str, table: Table, *, model_id: str, num_bytes: int, footer: str | None) -> PartReport:
    """Read every column of a part, checksums and all.

    Args:    num_bytes: of the file: what no damaged length in it may ask for more than.
             footer: its footer's SHA-256; None in records of earlier versions.
    Raises:  FormatError: it cannot be parsed to its end.   What the store raises, as it is.
    """
    report = PartReport()
    with opened(root.fs, path, max_read=num_bytes) as file:
        if footer is not None and footer_digest(file) != footer:
            report.problems.append("the footer is not the one that was committed")
            return report
        part = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
        report.problems += _schema_problems(part.schema_arrow, table)
        is_ours = not report.problems
        if is_ours:
            own = list(part.schema_arrow)[len(_EXPECTED[table]) :]
            report.own_columns = ", ".join(f"{one.name} {one.type}" for one in own) or "(none)"
        found: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for batch in part.iter_batches(batch_size=_ROWS, use_threads=False):
            report.rows += batch.num_rows
            if is_ours:
                report.num_bytes += pc.sum(batch["num_bytes"]).as_py() or 0
                _count_problems(batch, table, model_id, found, examples)
    report.problems += [f"{count:,} rows: {what} (image_id {examples[what]})" for what, count in found.items()]
    return report


def _schema_problems(schema: pa.Schema, table: Table) -> list[str]:
    """Our columns come first, in order; a scores table may have the run's own after them."""
    expected = _EXPECTED[table]
    pairs = zip(expected, schema, strict=False)
    odd = [f"{ours.name} {ours.type}, got {its.name} {its.type}" for ours, its in pairs if not _alike(ours, its)]
    if odd:
        return [f"column: expected {odd[0]}"]
    if len(schema) < len(expected):
        return [f"column: expected {expected.names[len(schema)]}, the file has none"]
    own = schema.names[len(expected) :]
    if len(set(schema.names)) != len(schema.names) or (own and table == "quarantine") or RESERVED & set(own):
        return [f"columns that no {table} table has: {', '.join(own)}"]
    return []


def _alike(one: pa.Field, other: pa.Field) -> bool:
    return bool(one.name == other.name and one.type == other.type)


def _count_problems(
    batch: pa.RecordBatch, table: Table, model_id: str, found: Counter[str], examples: dict[str, str]
) -> None:
    checks = _score_problems(batch, model_id) if table == "scores" else _quarantine_problems(batch)
    for what, bad in checks:
        if bad.any():
            found[what] += int(bad.sum())
            examples.setdefault(what, str(batch["image_id"][int(np.argmax(bad))].as_py()))


def _quarantine_problems(batch: pa.RecordBatch) -> Iterator[tuple[str, BadRows]]:
    yield "no image_id or image_uri", _null(batch["image_id"]) | _null(batch["image_uri"])
    for name, codes in (("reason", Reason), ("stage", Stage)):
        yield f"{name} is none of the known", ~_true(pc.is_in(batch[name], pa.array([str(code) for code in codes])))


def _score_problems(batch: pa.RecordBatch, model_id: str) -> Iterator[tuple[str, BadRows]]:
    yield "no image_id or image_uri", _null(batch["image_id"]) | _null(batch["image_uri"])
    yield "model_id is not the record's", ~_true(pc.equal(batch["model_id"], model_id))
    for name in ("pred_score", "class_score", "patch_score_max"):
        yield f"{name} is no finite number", ~_true(pc.is_finite(batch[name]))
    yield "patch_scores are not map_size finite numbers", _each(_is_odd_map, batch["patch_scores"], batch["map_size"])
    masks = [batch[name] for name in ("pred_mask", "pixel_threshold", "mask_area", "height", "width")]
    if batch["pixel_threshold"].null_count + batch["pred_mask"].null_count < 2 * len(batch):
        yield "pred_mask does not fit its picture, its mask_area or its pixel_threshold", _each(is_odd_mask, *masks)


def _is_odd_map(scores: bytes | None, size: list[int] | None) -> bool:
    if scores is None or size is None or len(size) != 2 or None in size or min(size) < 1:
        return True
    if len(scores) != 2 * size[0] * size[1]:
        return True
    return not np.isfinite(np.frombuffer(scores, "<f2")).all()


def is_odd_mask(mask: Any, threshold: float | None, area: int | None, height: int | None, width: int | None) -> bool:
    if mask is None or threshold is None or area is None:
        return not (mask is None and threshold is None and area is None)
    if height is None or width is None:
        return True
    try:
        runs = run_lengths(mask["counts"])
    except (ValueError, AttributeError):
        return True
    return bool(mask["size"] != [height, width] or runs.sum() != height * width or runs[1::2].sum() != area)


def _each(is_odd: Callable[..., bool], *columns: pa.Array) -> BadRows:
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return np.fromiter((is_odd(*row) for row in rows), bool, len(columns[0]))


def _null(column: pa.Array) -> BadRows:
    return _true(pc.is_null(column))


def _true(flags: pa.Array) -> BadRows:
    """Null is not true."""
    found: BadRows = pc.fill_null(flags, fill_value=False).to_numpy(zero_copy_only=False).astype(bool)
    return found
