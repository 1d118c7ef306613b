"""Parts as the contract has them: columns, types, statistics, names; each whole, a repeated task in its place."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import FlakyFileSystem

from pipeline.errors import StoreError
from pipeline.layout import RunLayout
from pipeline.parts import rows_in_parts
from pipeline.schema import localized_schema
from pipeline.write import TOTALS_KEY, PartWriter, Receipt

# docs/design.md's tables, written out once more.
MASK = "struct<size: list<element: int32>, counts: string>"
REGIONS = "list<element: struct<x: int32, y: int32, width: int32, height: int32, area: int32, peak_score: float>>"
SCORES = {
    "image_id": "string", "image_uri": "string", "shard": "string", "content_hash": "string", "category": "string",
    "width": "int32", "height": "int32", "format": "string", "mode": "string", "num_bytes": "int64",
    "pred_score": "float", "class_score": "float", "patch_score_max": "float",
    "image_threshold": "float", "pred_label": "int8", "patch_scores": "binary", "map_size": "list<element: int16>",
    "pixel_threshold": "float", "pred_mask": MASK, "mask_area": "int64", "regions": REGIONS,
    "model_id": "string", "scored_at": "timestamp[us, tz=UTC]",
}  # fmt: skip
QUARANTINE = {
    "image_id": "string", "image_uri": "string", "shard": "string", "stage": "string", "reason": "string",
    "message": "string", "num_bytes": "int64", "content_hash": "string",  # and run_id, the folder's
    "at": "timestamp[us, tz=UTC]",
}  # fmt: skip


def rows(*ids: str, bad: str = "", **metadata: pa.DataType) -> pa.Table:
    """Rows as they come from Localize; those whose id is in `bad` are bad."""
    made = []
    for name in ids:
        row: dict[str, Any] = {"image_id": name, "image_uri": f"u/{name}", "num_bytes": 10, "read_s": 0.5}
        if name in bad:
            row |= {"stage": "decode", "reason": "corrupt", "message": "m"}
        else:
            scores = {"pred_score": 0.5, "patch_scores": b"ab", "map_size": [1, 1], "score_s": 0.25}
            region = {"x": 0, "y": 0, "width": 1, "height": 1, "area": 1, "peak_score": 0.5}
            row |= scores | {"pred_mask": {"size": [1, 1], "counts": "01"}, "regions": [region]}
            row["scored_at"] = datetime.datetime.now(datetime.UTC)
        made.append(row | dict.fromkeys(metadata, "kept"))
    return pa.Table.from_pylist(made, schema=localized_schema(metadata))


def writer(layout: RunLayout, attempt: int = 1, **metadata: pa.DataType) -> Callable[[pa.Table], Receipt]:
    """The sink of a process that holds this claim."""
    layout.write_json(layout.work_path(f"claim-{attempt:05d}.json"), {})
    sink = PartWriter(layout, attempt=attempt, model_id="m", metadata=metadata, rows_per_part=1)
    return lambda rows: sink.write([rows], None)


def columns(path: str) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(path)}


def test_both_tables_are_the_contracts(layout: RunLayout) -> None:
    """Names, order and types of every column as documented; kept columns at the end of scores."""
    writer(layout, lot=pa.string())(rows("a", "b", bad="b", lot=pa.string()))
    (scores,), (quarantine,) = layout.parts("scores"), layout.parts("quarantine")
    assert list(columns(scores).items()) == [*SCORES.items(), ("lot", "string")]
    assert list(columns(quarantine).items()) == list(QUARANTINE.items())
    (scored,), (bad,) = pq.read_table(scores).to_pylist(), pq.read_table(quarantine).to_pylist()
    assert (scored["image_id"], scored["model_id"], scored["lot"], scored["shard"]) == ("a", "m", "kept", None)
    assert scored["regions"][0]["area"] == 1
    assert (bad["image_id"], bad["reason"]) == ("b", "corrupt")
    assert bad["at"].tzinfo is not None


def test_files_are_zstd_with_statistics(layout: RunLayout) -> None:
    """Least and greatest of what one filters by; none of maps and masks, which would swell every footer."""
    writer(layout)(rows("a", "b"))
    group = pq.read_metadata(layout.parts("scores")[0]).row_group(0)
    found = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert {column.compression for column in found.values()} == {"ZSTD"}
    assert (found["image_id"].statistics.min, found["image_id"].statistics.max) == ("a", "b")
    assert found["pred_score"].statistics.min == 0.5
    assert not found["patch_scores"].is_stats_set
    assert not found["pred_mask.counts"].is_stats_set


def test_a_receipt_counts_what_was_written(layout: RunLayout) -> None:
    """Progress adds receipts up; nothing in, nothing written."""
    receipt = writer(layout)(rows("a", "b", "c", bad="b"))
    assert receipt == Receipt(2, 1)
    assert writer(layout)(rows()) == Receipt(0, 0)
    assert rows_in_parts([*layout.parts("scores"), *layout.parts("quarantine")]) == 3
    assert len(layout.parts("scores")) == 1


def test_totals_stand_in_the_footer(layout: RunLayout) -> None:
    """The commit sums bytes and seconds from footers, without reading rows."""
    writer(layout)(rows("a", "b", "c", bad="c"))
    totals = json.loads(pq.read_metadata(layout.parts("scores")[0]).metadata[TOTALS_KEY])
    assert totals == {"num_bytes": 20, "read_s": 1.0, "decode_s": 0, "score_s": 0.5, "localize_s": 0}
    totals = json.loads(pq.read_metadata(layout.parts("quarantine")[0]).metadata[TOTALS_KEY])
    assert totals["num_bytes"] == 10


def test_the_same_rows_have_the_same_name(layout: RunLayout) -> None:
    """A task that runs twice, its rows in another order, replaces its own part; other rows are another part."""
    writer(layout)(rows("a", "b"))
    writer(layout)(rows("b", "a"))
    (path,) = layout.parts("scores")
    assert pq.read_metadata(path).num_rows == 2
    writer(layout)(rows("c"))
    writer(layout, attempt=2)(rows("a", "b"))
    assert len(layout.parts("scores")) == 3


@pytest.mark.parametrize(("first", "second"), [("ab", ""), ("", "ab")])
def test_a_repeated_task_removes_what_is_no_more_true(layout: RunLayout, first: str, second: str) -> None:
    """Its images failed the first time and were read the second, or the other way round: one verdict each stays."""
    writer(layout)(rows("a", "b", bad=first))
    writer(layout)(rows("a", "b", bad=second))
    left, gone = ("quarantine", "scores") if second else ("scores", "quarantine")
    assert len(layout.parts(left)) == 1
    assert layout.parts(gone) == []


def test_no_row_in_both_tables(layout: RunLayout) -> None:
    """Each id is in one of the two parts of its task."""
    writer(layout)(rows(*"abcdef", bad="bdf"))
    tables = {
        table: pq.read_table(layout.parts(table)[0])["image_id"].to_pylist() for table in ("scores", "quarantine")
    }
    assert tables == {"scores": ["a", "c", "e"], "quarantine": ["b", "d", "f"]}


def test_in_a_store(memory_root: Any) -> None:
    """The same parts in an object store."""
    layout = RunLayout(memory_root, "r1")
    writer(layout)(rows("a", bad="a"))
    assert (len(layout.parts("scores")), len(layout.parts("quarantine"))) == (0, 1)


def test_a_store_that_hiccups_gets_its_part(flaky: type[FlakyFileSystem]) -> None:
    """And says what it has, however often it fails for a moment."""
    layout = RunLayout.at("flaky://run", "r1")
    write = writer(layout)
    for failures in (
        1,
        2,
        3,
    ):
        flaky.failures = failures
        assert write(rows("a", "b")) == Receipt(2, 0)
        assert flaky.failures == 0
    flaky.failures = 3
    (part,) = layout.parts("scores")
    assert (flaky.failures, rows_in_parts([part])) == (0, 2)


def test_a_store_that_takes_no_part_ends_the_run(flaky: type[FlakyFileSystem]) -> None:
    """With its name, and not after endless tries."""
    write = writer(RunLayout.at("flaky://run", "r1"))
    flaky.failures = 10**6
    with pytest.raises(StoreError, match=r"flaky://.*: the store failed in every try"):
        write(rows("a"))
