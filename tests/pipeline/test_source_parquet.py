"""Parquet shards: which column holds the pictures, and one item per row."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.schema import Reason
from pipeline.sources.parquet import choose_image_column, image_columns, index_parquet, read_schema
from pipeline.storage import open_root

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
