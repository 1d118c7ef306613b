"""Parquet shards: which column holds the pictures, and one item per row."""

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from pipeline import store_errors
from pipeline.errors import InputError, StoreError
from pipeline.schema import Reason
from pipeline.sources import PlanItem, PlanRows
from pipeline.sources.parquet import choose_image_column, image_columns, index_parquet, read_schema
from pipeline.sources.webdataset import index_tar
from pipeline.storage import Root, open_root

HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, table: pa.Table, rows_per_group: int = 2) -> str:
    pq.write_table(table, path, row_group_size=rows_per_group)
    return str(path)


def test_columns_that_hold_bytes() -> None:
    """Binary of any width, and Hugging Face's struct; text, numbers and lists of bytes do not count."""
    columns = [
        ("a", pa.binary()),
        ("b", pa.large_binary()),
        ("c", HF),
        ("d", pa.string()),
        ("e", pa.list_(pa.binary())),
    ]
    assert image_columns(pa.schema([*columns, ("f", pa.struct([("bytes", pa.string())]))])) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["odd"], None, "odd"),
        (["thumbnail", "image"], None, "image"),
        (["data", "jpg"], None, "jpg"),
        (["image", "mask"], "mask", "mask"),
    ],
)
def test_the_picture_column(names: list[str], wanted: str | None, expected: str) -> None:
    """The only one, the usual name among several, or the one that is asked for."""
    assert choose_image_column(pa.schema([(name, pa.binary()) for name in names]), "u", wanted) == expected


@pytest.mark.parametrize(("names", "wanted"), [(["a", "b"], None), ([], None), (["image"], "label")])
def test_a_column_that_cannot_be_told_is_asked_for(names: list[str], wanted: str | None) -> None:
    """Several of unusual names, none, or one that is not there: --image-column is named."""
    with pytest.raises(InputError, match="--image-column"):
        choose_image_column(pa.schema([(name, pa.binary()) for name in names]), "u", wanted)


def test_rows_have_numbers_groups_and_fields(tmp_path: Path) -> None:
    """Row numbers run through the file, row groups say where to read, kept columns keep their type."""
    table = pa.table({"image": pa.array([b"0", None, b"2", b"3", b"4"]), "lot": [0, 1, 2, 3, 4], "other": ["x"] * 5})
    uri = write(tmp_path / "a b#.parquet", table)
    items = index_parquet(uri, wanted_fields=("category", "lot"), image_column="image")
    assert [(item.row, item.row_group, item.fields) for item in items] == [
        (at, at // 2, {"lot": at}) for at in range(5)
    ]
    assert [item.image_uri for item in items] == [f"{uri}#{at}" for at in range(5)]
    assert {(item.kind, item.path, item.shard, item.image_column, item.bad) for item in items} == {
        ("cell", uri, uri, "image", None)
    }


def test_without_kept_columns_only_the_footer_counts(tmp_path: Path) -> None:
    """One item per row all the same; an empty file has none."""
    uri = write(tmp_path / "a.parquet", pa.table({"image": pa.array([{"bytes": b"x", "path": "p"}] * 3, HF)}))
    assert len(index_parquet(uri, wanted_fields=("category",), image_column="image")) == 3
    empty = write(tmp_path / "e.parquet", pa.table({"image": pa.array([], pa.binary())}))
    assert index_parquet(empty, wanted_fields=(), image_column="image") == []


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -8])
def test_a_broken_footer_is_one_bad_row(tmp_path: Path, keep: int) -> None:
    """Cut anywhere, a Parquet shard is one row about the shard, and has no schema."""
    whole = Path(write(tmp_path / "a.parquet", pa.table({"image": [b"x" * 500] * 3})))
    whole.write_bytes(whole.read_bytes()[:keep])
    (item,) = index_parquet(str(whole), wanted_fields=("lot",), image_column="image")
    assert item.bad is not None
    assert (item.bad.reason, item.image_uri) == (Reason.UNREADABLE_SHARD, str(whole))
    assert read_schema(open_root(str(tmp_path)), str(whole)) is None


def test_data_broken_under_a_whole_footer_is_one_bad_row(tmp_path: Path) -> None:
    """Kept columns whose pages cannot be read: the shard is bad, the run goes on."""
    table = pa.table({"image": [b"x"] * 50, "lot": [f"lot {at}" for at in range(50)]})
    whole = Path(write(tmp_path / "a.parquet", table, 50))
    data = bytearray(whole.read_bytes())
    data[4:150] = b"\xff" * 146
    whole.write_bytes(data)
    items = index_parquet(str(whole), wanted_fields=("lot",), image_column="image")
    assert len(items) == 50 or [item.bad and item.bad.reason for item in items] == [Reason.UNREADABLE_SHARD]
    data[-1000:-700] = b"\xff" * 300
    whole.write_bytes(data)
    assert index_parquet(str(whole), wanted_fields=("lot",), image_column="image")


def test_a_shard_of_other_columns_is_bad(tmp_path: Path) -> None:
    """Its neighbours' image column is missing here: told with the columns that it has."""
    uri = write(tmp_path / "a.parquet", pa.table({"picture": [b"x"]}))
    (item,) = index_parquet(uri, wanted_fields=(), image_column="image")
    assert item.bad is not None
    assert "['picture']" in item.bad.message


def test_a_shard_that_is_gone(tmp_path: Path) -> None:
    """Listed, then removed: one row that says so."""
    (item,) = index_parquet(str(tmp_path / "gone.parquet"), wanted_fields=(), image_column="image")
    assert item.bad is not None
    assert item.bad.reason == Reason.NOT_FOUND


def test_a_garbage_footer_does_not_hide_the_others(tmp_path: Path) -> None:
    """Arrow words it as an OSError; it is one bad shard, and has no schema."""
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1" + b"\xff" * 100 + (100).to_bytes(4, "little") + b"PAR1")
    assert read_schema(open_root(str(tmp_path)), str(broken)) is None
    (item,) = index_parquet(str(broken), wanted_fields=(), image_column="image")
    assert item.bad is not None
    assert item.bad.reason == Reason.UNREADABLE_SHARD


def test_a_kept_value_that_does_not_fit_costs_no_picture(tmp_path: Path) -> None:
    """Shards whose kept column has other types, and dates that Python has not: null there, the picture is planned."""
    kind = pa.timestamp("us")
    for name, lots in (("a", pa.array([1, 2])), ("b", pa.array(["x", "y"]))):
        table = pa.table({"image": [b"x", b"x"], "lot": lots, "taken": pa.array([2**62, 0], kind)})
        write(tmp_path / f"{name}.parquet", table)
    rows = PlanRows(category=None, template=None, metadata={"lot": pa.int64(), "taken": kind})
    tables = [
        rows.table(index_parquet(f"{tmp_path}/{name}.parquet", wanted_fields=("lot", "taken"), image_column="image"))
        for name in "ab"
    ]
    planned = pa.concat_tables(tables)
    assert planned["lot"].to_pylist() == [1, 2, None, None]
    assert [taken is None for taken in planned["taken"].to_pylist()] == [True, False, True, False]
    assert planned["stage"].null_count == 4


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, failures: int = 10**6) -> list[str]:
    """The store in memory opens nothing `failures` times; what it was asked for."""
    asked: list[str] = []
    whole = MemoryFileSystem._open

    def open_(fs: MemoryFileSystem, path: str, *args: Any, **options: Any) -> Any:
        asked.append(path)
        if len(asked) <= failures:
            raise error
        return whole(fs, path, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "_open", open_)
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0, 0.0))
    return asked


def index_in_store(root: Root, kind: str) -> list[PlanItem]:
    uri = root.uri(root.join(f"s.{kind}"))
    if kind == "tar":
        return index_tar(uri, wanted_fields=())
    return index_parquet(uri, wanted_fields=(), image_column="image")


@pytest.fixture
def shards(memory_root: Root, tmp_path: Path, make_tar: Any) -> Root:
    uri = write(tmp_path / "s.parquet", pa.table({"image": [b"x"] * 3}))
    memory_root.fs.pipe_file(memory_root.join("s.parquet"), Path(uri).read_bytes())
    memory_root.fs.pipe_file(memory_root.join("s.tar"), make_tar([(f"{at}.jpg", b"x") for at in range(3)]))
    return memory_root


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_store_that_fails_for_a_moment_costs_no_shard(
    shards: Root, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """503 and timeouts are asked again; a store that never answers stops the run, and no shard is blamed for it."""
    asked = failing(monkeypatch, OSError(errno.EBUSY, "SlowDown"), failures=3)
    assert [item.bad for item in index_in_store(shards, kind)] == [None] * 3
    assert len(asked) == 4
    failing(monkeypatch, TimeoutError("no answer"))
    with pytest.raises(StoreError, match="failed in every try"):
        index_in_store(shards, kind)


@pytest.mark.parametrize("kind", ["parquet", "tar"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError("AccessDenied"), Reason.PERMISSION_DENIED),
        (FileNotFoundError("NoSuchKey"), Reason.NOT_FOUND),
        (OSError(errno.EINVAL, "odd"), Reason.READ_ERROR),
    ],
)
def test_what_the_store_says_of_a_shard_is_its_reason(
    shards: Root, monkeypatch: pytest.MonkeyPatch, kind: str, error: Exception, reason: Reason
) -> None:
    """Forbidden, gone or refused: told as such and at once, not as a broken file."""
    asked = failing(monkeypatch, error)
    (item,) = index_in_store(shards, kind)
    assert item.bad is not None
    assert (item.bad.reason, len(asked)) == (reason, 1)


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_connection_that_breaks_inside_a_shard_is_no_broken_shard(
    shards: Root, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What a parser makes of a failed read is not believed; the shard is opened again."""
    whole, failures = MemoryFile.read, [TimeoutError("no answer"), ConnectionError("reset")]

    def read(file: MemoryFile, size: int = -1) -> bytes:
        if failures:
            raise failures.pop()
        return whole(file, size)

    monkeypatch.setattr(MemoryFile, "read", read, raising=False)
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0, 0.0))
    assert [item.bad for item in index_in_store(shards, kind)] == [None] * 3
    assert not failures
