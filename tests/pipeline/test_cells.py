"""Pictures in Parquet shards: streamed once, cut into portions, and what is wrong with one stands in its place."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import MAX, FlakyFileSystem, fetched

from pipeline import cells as cells_module
from pipeline import read, store_errors
from pipeline.errors import StoreError
from pipeline.read import fetch, fetched_portions
from pipeline.request import Request
from pipeline.schema import Reason


def test_cells(tmp_path: Path) -> None:
    """Cells by row number, in any order: bytes, null, an HF struct, too large, and a row that is no more."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [b"0", None, b"2" * (MAX + 1), b"3", b"", b"5"]
    table = pa.table(
        {"image": pa.array(cells), "hf": pa.array([{"bytes": cell, "path": "p"} for cell in cells], struct)}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    for column in ("image", "hf"):
        found = fetched(
            *(
                Request("cell", f"{tmp_path}/t.parquet", row=row, row_group=row // 2, image_column=column)
                for row in (5, 1, 2, 3, 99, 4, 0)
            )
        )
        assert found[:5] == [b"5", Reason.EMPTY, Reason.TOO_MANY_BYTES, b"3", Reason.NOT_FOUND]
        assert found[6] == b"0"


def test_a_whole_struct_that_is_null_is_an_empty_cell(tmp_path: Path) -> None:
    """Hugging Face's way to say that there is no picture."""
    struct = pa.struct([("bytes", pa.binary())])
    pq.write_table(pa.table({"image": pa.array([None, {"bytes": b"x"}], struct)}), tmp_path / "t.parquet")
    cells = [Request("cell", f"{tmp_path}/t.parquet", row=row, row_group=0, image_column="image") for row in (0, 1)]
    assert fetched(*cells) == [Reason.EMPTY, b"x"]


def test_cells_of_a_broken_or_missing_file(tmp_path: Path) -> None:
    """Each of its pictures has the reason."""
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no more")
    cells = [
        Request("cell", f"{tmp_path}/{name}.parquet", row=0, row_group=0, image_column="image")
        for name in ("t", "gone")
    ]
    assert fetched(*cells) == [Reason.CORRUPT, Reason.NOT_FOUND]


def parquet(path: Path, cells: list[bytes], rows_per_group: int = 1000) -> list[Request]:
    """A shard of these cells in small pages; a request for each."""
    options = {"use_dictionary": False, "compression": "none", "data_page_size": 2**16, "write_batch_size": 1}
    pq.write_table(pa.table({"image": cells}), path, row_group_size=rows_per_group, **options)
    return [
        Request("cell", str(path), row=row, row_group=row // rows_per_group, image_column="image")
        for row in range(len(cells))
    ]


def test_cells_come_in_portions_of_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that no plan knows are counted as they come; slices follow one another over files and shards."""
    monkeypatch.setattr(read, "_BYTES_AT_ONCE", 1000)
    cells = [b"x" * size for size in (400, 500, 200, 900, 100, 100, 2000, 3)]
    (tmp_path / "a").write_bytes(b"abc")
    requests = [*parquet(tmp_path / "t.parquet", cells, 5), Request("file", f"{tmp_path}/a")]
    portions = [(at, [len(data) for data in found]) for at, found in fetched_portions(requests, max_bytes=2000)]
    assert [sizes for _, sizes in portions] == [[400, 500], [200], [900, 100], [100], [2000], [3], [3]]
    assert [at for portion, _ in portions for at in range(portion.start, portion.stop)] == list(range(9))


def test_a_portion_is_given_up_when_the_next_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds two: whoever still has the list finds it empty."""
    monkeypatch.setattr(read, "_IMAGES_AT_ONCE", 2)
    held = [found for _, found in fetched_portions(parquet(tmp_path / "t.parquet", [b"x"] * 5), max_bytes=MAX)]
    assert held == [[], [], []]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that each read of a shard asked for."""
    asked: list[int] = []
    whole = store_errors.WatchedFile.read

    def counting(file: Any, size: int = -1) -> bytes:
        data = whole(file, size)
        asked.append(len(data))
        return data

    monkeypatch.setattr(store_errors.WatchedFile, "read", counting)
    return asked


def test_a_row_group_is_streamed_once_and_no_further_than_wanted(
    tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many portions of one row group cost one pass; the pictures behind the last that is wanted are not read."""
    monkeypatch.setattr(cells_module, "_COLUMN_BUFFER", 2**16)
    cells = [bytes([at]) * 2**15 for at in range(200)]
    requests = parquet(tmp_path / "t.parquet", cells)
    assert fetch(requests, max_bytes=2**20) == cells
    assert sum(counted) < 1.5 * 200 * 2**15
    assert max(counted) < 2**18
    counted.clear()
    assert fetch(requests[:20:3], max_bytes=2**20) == cells[:20:3]
    assert sum(counted) < 60 * 2**15


class BotocoreError(Exception):
    """As s3fs lets them through: no OSError."""


@pytest.mark.parametrize("failures", [2, 10**6])
def test_a_stream_of_cells_that_breaks_goes_on_where_it_was(
    tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Errors of any class are tried again; what was yielded is not yielded again."""
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(cells_module, "_COLUMN_BUFFER", 2**16)
    cells = [bytes([at]) * 2**15 for at in range(50)]
    requests = parquet(tmp_path / "t.parquet", cells)
    whole, left = cells_module._cell_bytes, [failures]

    def cell_bytes(value: Any, max_bytes: int) -> Any:
        if value.as_buffer()[0] == 7 and left[0]:
            left[0] -= 1
            raise BotocoreError("EndpointConnectionError")
        return whole(value, max_bytes)

    monkeypatch.setattr(cells_module, "_cell_bytes", cell_bytes)
    found = fetched(*requests, max_bytes=2**20)
    assert found == (cells if failures == 2 else cells[:7] + [Reason.READ_ERROR] * 43)


def test_a_store_that_stops_answering_within_a_shard_stops_the_run(
    flaky: type[FlakyFileSystem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cell is quarantined because a network was down."""
    requests = parquet(tmp_path / "t.parquet", [b"x"])

    def open_(self: FlakyFileSystem, path: str, *args: Any, **options: Any) -> Any:
        raise BotocoreError("ConnectionClosedError")

    monkeypatch.setattr(flaky, "_open", open_)
    flaky.failures = 10**6
    cell = dataclasses.replace(requests[0], path="flaky://t.parquet")
    with pytest.raises(StoreError, match="failed in every try"):
        fetch([cell], max_bytes=MAX)


def test_a_shard_replaced_meanwhile_gives_reasons(tmp_path: Path) -> None:
    """Its column, row group or row is gone: each cell says so."""
    requests = parquet(tmp_path / "t.parquet", [b"x"] * 4, 2)
    pq.write_table(pa.table({"other": [1]}), tmp_path / "t.parquet")
    assert fetched(*requests) == [Reason.NOT_FOUND] * 4
    parquet(tmp_path / "t.parquet", [b"x"])
    assert fetched(*requests) == [b"x", *[Reason.NOT_FOUND] * 3]
