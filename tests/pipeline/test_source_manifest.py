"""Manifests: every row an image or a reason; nothing reached that may not be, no secret kept."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.schema import Reason
from pipeline.sources import PlanItem
from pipeline.sources.items import PlanRows
from pipeline.sources.manifest import manifest_items
from pipeline.storage import Root, open_root

FORMS = ("csv", "jsonl", "parquet")


def items_of(path: Path, *wanted: str) -> list[PlanItem]:
    return list(manifest_items(open_root(str(path.parent)), str(path), wanted_fields=("category", *wanted)))


def write(folder: Path, form: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"m.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_relative_absolute_and_full_uris(tmp_path: Path, form: str) -> None:
    """Relative ones lie beside the manifest; all three name a file as a listing would."""
    uris = ["sub/a b.jpg", f"{tmp_path}/c#d.jpg", f"file://{tmp_path}/e.jpg", "s3://bucket/key/f.jpg"]
    found = items_of(write(tmp_path, form, [{"uri": uri, "category": "nut"} for uri in uris]))
    assert [item.image_uri for item in found] == [
        f"{tmp_path}/sub/a b.jpg", f"{tmp_path}/c#d.jpg", f"{tmp_path}/e.jpg", "s3://bucket/key/f.jpg",
    ]  # fmt: skip
    assert [item.bad for item in found] == [None] * 4
    assert [item.fields["category"] for item in found] == ["nut"] * 4
    assert found[3].relative == "bucket/key/f.jpg"
    assert found[0].relative.endswith("sub/a b.jpg")


SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "uri",
    [
        "simplecache::s3://bucket/x.jpg",
        f"simplecache::s3://key:{SECRET}@bucket/x.jpg",
        "zip://a.jpg::/etc/archive.zip",
        "ssh://host/etc/passwd",
        f"ftp://user:{SECRET}@host/x.jpg",
        "github://org:repo@/x.jpg",
        f"s3://key:{SECRET}@bucket/x.jpg",
        f"s3://key:with/{SECRET}@bucket/x.jpg",
        f"https://user:{SECRET}@host/x.jpg",
        f"odd_one://key:{SECRET}@bucket/x.jpg",
        f"s3a://{SECRET}@bucket/x.jpg",
    ],
)
def test_what_may_not_be_reached_is_a_reason_without_the_secret(tmp_path: Path, form: str, uri: str) -> None:
    """Chained and exotic protocols and credentials: bad rows, and no field of them holds the secret."""
    (item,) = items_of(write(tmp_path, form, [{"uri": uri, "category": "c"}]))
    assert item.bad is not None
    assert item.bad.reason == Reason.BAD_URI
    assert SECRET not in repr(item)


def test_a_signed_address_is_shown_without_its_signature(tmp_path: Path) -> None:
    """The query of a web address, a signature as often as not, is read by and not written down."""
    pytest.importorskip("aiohttp")
    (item,) = items_of(write(tmp_path, "csv", [{"uri": f"https://host/x.jpg?sig={SECRET}"}]))
    assert (item.bad, item.image_uri, item.path) == (None, "https://host/x.jpg", f"https://host/x.jpg?sig={SECRET}")
    assert SECRET not in item.relative


def test_pictures_told_apart_by_the_query_alone_are_two_and_signed_anew_they_are_the_same(tmp_path: Path) -> None:
    """Each row is an image of its own, and tonight's signature does not make it a new one."""
    pytest.importorskip("aiohttp")
    signatures = ["X-Amz-Signature=1&X-Amz-Date=2", "X-Amz-Signature=3&X-Amz-Date=4"]
    azure = ["sv=2024&se=1&sig=a", "sv=2024&se=2&sig=b"]
    uris = [f"https://host/get?id={number}&{sign}" for sign in (*signatures, *azure) for number in (1, 2)]
    rows = PlanRows(category=None, template=None, metadata={})
    table = rows.table(items_of(write(tmp_path, "jsonl", [{"uri": uri} for uri in uris])))
    ids = table["image_id"].to_pylist()
    assert ids[0::2] == [ids[0]] * 4
    assert ids[1::2] == [ids[1]] * 4
    assert ids[0] != ids[1]
    assert set(table["image_uri"].to_pylist()) == {"https://host/get"}


def test_detours_in_a_path_name_the_same_picture(tmp_path: Path) -> None:
    """A folder listing, `./`, `..` and doubled slashes give one URI, so nothing is scored twice."""
    folder = tmp_path / "lists"
    folder.mkdir()
    uris = ["../a.png", "./.././a.png", f"{tmp_path}//x/../a.png", f"file://{tmp_path}/./a.png"]
    found = items_of(write(folder, "csv", [{"uri": uri} for uri in uris]))
    assert {item.image_uri for item in found} == {f"{tmp_path}/a.png"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("uri", [None, "", "  ", 7])
def test_a_row_without_a_uri_is_a_reason(tmp_path: Path, form: str, uri: Any) -> None:
    """Null, empty or no text: told by the row's place in the manifest."""
    path = write(tmp_path, form, [{"uri": uri, "category": "c"}])
    (item,) = items_of(path)
    assert item.bad is not None
    assert (item.bad.reason, item.image_uri) == (Reason.BAD_URI, f"{path}#0")


def test_a_uri_that_is_no_text_is_named_by_its_type_alone(tmp_path: Path) -> None:
    """What stands there may hold a secret."""
    (item,) = items_of(write(tmp_path, "jsonl", [{"uri": ["https://user:secret@host/a.png"]}]))
    assert item.bad
    assert item.bad.message == "expected a uri as text, got list"


def test_bad_csv_rows_are_reasons_and_the_others_go_on(tmp_path: Path) -> None:
    """Short and long rows are told by their line; an empty cell is null."""
    (tmp_path / "m.csv").write_text("uri,category\na.jpg,nut\nb.jpg\nc.jpg,nut,more\nd.jpg,\n,nut\n")
    found = items_of(tmp_path / "m.csv")
    assert [item.bad and item.bad.reason for item in found] == [
        None, Reason.BAD_MANIFEST_ROW, Reason.BAD_MANIFEST_ROW, None, Reason.BAD_URI,
    ]  # fmt: skip
    assert found[1].bad is not None
    assert "line 3" in found[1].bad.message
    assert found[3].fields["category"] is None


def test_bad_json_lines_are_reasons_and_the_others_go_on(tmp_path: Path) -> None:
    """No JSON, JSON that is no object, or nested without end; empty lines count for nothing."""
    lines = ['{"uri": "a.jpg"}', "", "{broken", "[1, 2]", "[" * 100_000, "null", '{"uri": "b.jpg", "category": 3}']
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    found = items_of(tmp_path / "m.jsonl")
    bad = Reason.BAD_MANIFEST_ROW
    assert [item.bad and item.bad.reason for item in found] == [None, bad, bad, bad, bad, None]
    assert len({item.image_uri for item in found}) == 6


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, form: str) -> None:
    """Manifests saved by Excel are read as others are; other line ends and bytes that are no UTF-8, too."""
    text = "uri,category\r\nä.jpg,nut\r\n" if form == "csv" else '{"uri": "ä.jpg", "category": "nut"}\r\n'
    path = tmp_path / f"m.{form}"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (item,) = items_of(path)
    assert (item.image_uri, item.fields["category"]) == (f"{tmp_path}/ä.jpg", "nut")
    path.write_bytes(text.replace("nut", "n\xfct").encode("latin-1"))
    assert len(items_of(path)) == 1


def test_a_quote_that_is_never_closed_is_no_crash(tmp_path: Path) -> None:
    """The part of the file that it swallows is a reason, the rows after it go on; in the header it is wrong use."""
    (tmp_path / "m.csv").write_text('uri,category\na.jpg,nut\n"' + "b.jpg,nut\n" * 30_000)
    first, swallowed, *rest = items_of(tmp_path / "m.csv")
    assert first.bad is None
    assert swallowed.bad is not None
    assert swallowed.bad.reason == Reason.BAD_MANIFEST_ROW
    assert rest[-1].image_uri == f"{tmp_path}/b.jpg"
    (tmp_path / "m.csv").write_text('"uri,category\n' + "b.jpg,nut\n" * 30_000)
    with pytest.raises(InputError, match="expected a CSV manifest"):
        items_of(tmp_path / "m.csv")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_manifest_without_uris_is_refused(tmp_path: Path, form: str) -> None:
    """The message says which columns it has."""
    with pytest.raises(InputError, match="'uri' column; it has"):
        items_of(write(tmp_path, form, [{"path": "a.jpg"}]))


def test_a_broken_parquet_manifest_is_refused(tmp_path: Path) -> None:
    """A manifest is named outright: that it cannot be read is wrong use."""
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="expected a Parquet manifest"):
        items_of(tmp_path / "m.parquet")


def test_sizes_and_kept_columns_are_taken(tmp_path: Path) -> None:
    """`num_bytes` spares a look at the file; only whole numbers are believed."""
    rows = [{"uri": "a.jpg", "num_bytes": 12, "lot": 3}, {"uri": "b.jpg", "num_bytes": None, "lot": None}]
    found = items_of(write(tmp_path, "parquet", rows), "lot")
    assert [(item.num_bytes, item.fields["lot"]) for item in found] == [(12, 3), (None, None)]
    (text,) = items_of(write(tmp_path, "csv", [{"uri": "a.jpg", "num_bytes": "12"}]))
    assert text.num_bytes is None


def test_relative_uris_in_a_store(memory_root: Root) -> None:
    """Beside a manifest in a store lie the pictures it names."""
    path = memory_root.join("sub", "m.jsonl")
    memory_root.fs.pipe_file(path, b'{"uri": "a.jpg"}\n')
    (item,) = manifest_items(memory_root, path, wanted_fields=())
    assert item.path == item.image_uri == f"memory://{memory_root.join('sub', 'a.jpg')}"


def test_names_that_lead_out_of_the_folder_stay_names(tmp_path: Path) -> None:
    """`../` reaches what the user may read anyway; a null character is a reason when it is read, not a crash."""
    (item,) = items_of(write(tmp_path, "jsonl", [{"uri": "a\x00.jpg"}]))
    assert item.bad is None
    assert item.path.endswith("a\x00.jpg")


@pytest.mark.parametrize("uri", ["http://[bad/x.jpg", "https://host:port]/x.jpg", "a\ud800.jpg", "s3://b/\udfff.jpg"])
def test_a_uri_that_cannot_be_parsed_is_no_crash(tmp_path: Path, uri: str) -> None:
    """No address, or half a character: a row of the plan, and the rows after it go on."""
    pytest.importorskip("aiohttp")
    items = items_of(write(tmp_path, "jsonl", [{"uri": uri, "lot": {"deep": "\ud800"}}, {"uri": "b.jpg"}]))
    rows = PlanRows(category=None, template=None, metadata={"lot": pa.string()})
    table = rows.table(items)
    table.validate(full=True)
    assert table["image_uri"].to_pylist()[1] == f"{tmp_path}/b.jpg"
    assert len(set(table["image_id"].to_pylist())) == 2
    assert (table["reason"][0].as_py() == "bad_uri") == uri.startswith("http")


@pytest.mark.parametrize("size", [10**20, -1, -(10**30), True, 1.5, "7", 2**63])
def test_a_size_that_can_be_none_is_unknown(tmp_path: Path, size: Any) -> None:
    """A manifest may say anything; what is no size of a file is not believed, and the plan can hold it."""
    items = items_of(write(tmp_path, "jsonl", [{"uri": "a.jpg", "num_bytes": size}]))
    assert PlanRows(category=None, template=None, metadata={}).table(items)["num_bytes"].to_pylist() == [None]


@pytest.mark.parametrize(("uri", "install"), [("gs://b/a.jpg", "[gcs]"), ("abfs://c@acc.x/a.jpg", "[azure]")])
def test_a_store_whose_package_is_missing_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, install: str
) -> None:
    """The row says what to install; the others are planned."""

    def url_to_fs(uri: str, **_: Any) -> None:
        raise ImportError("no module")

    root = open_root(str(tmp_path))
    path = write(tmp_path, "csv", [{"uri": uri}, {"uri": "b.jpg"}])
    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    first, second = manifest_items(root, str(path), wanted_fields=())
    assert first.bad is not None
    assert first.bad.reason == Reason.BAD_URI
    assert install in first.bad.message
    assert second.bad is None


def broken_text(*values: bytes) -> pa.Array:
    """A column of text whose bytes are no UTF-8, as other writers leave it."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


def test_text_that_is_no_utf8_is_no_crash(tmp_path: Path) -> None:
    """In a kept column it is shown escaped; as a uri it is a reason."""
    table = pa.table({"uri": ["a.jpg", "b.jpg"], "lot": broken_text(b"n\xfct", b"nut")})
    pq.write_table(table, tmp_path / "m.parquet")
    rows = PlanRows(category=None, template=None, metadata={"lot": pa.string()})
    planned = rows.table(items_of(tmp_path / "m.parquet", "lot"))
    assert planned["lot"].to_pylist() == ["n\\xfct", "nut"]
    assert planned["reason"].to_pylist() == [None, None]
    pq.write_table(pa.table({"uri": broken_text(b"\xff.jpg", b"b.jpg")}), tmp_path / "m.parquet")
    assert [item.bad and item.bad.reason for item in items_of(tmp_path / "m.parquet")] == [Reason.BAD_URI, None]


def test_a_date_beyond_pythons_is_a_reason(tmp_path: Path) -> None:
    """The row names the column; its neighbours keep their dates."""
    kind = pa.timestamp("us")
    table = pa.table({"uri": ["a.jpg", "b.jpg"], "taken": pa.array([2**62, 0], kind)})
    pq.write_table(table, tmp_path / "m.parquet")
    items = items_of(tmp_path / "m.parquet", "taken")
    planned = PlanRows(category=None, template=None, metadata={"taken": kind}).table(items)
    assert planned["reason"].to_pylist() == ["bad_manifest_row", None]
    assert "'taken'" in planned["message"][0].as_py()
    assert planned["taken"].null_count == 1
    as_text = PlanRows(category=None, template=None, metadata={"taken": pa.string()}).table(items)
    assert as_text["reason"].to_pylist() == [None, None]


def test_a_manifest_that_breaks_off_is_refused(tmp_path: Path) -> None:
    """Pages that cannot be read under a whole footer: wrong use, in words."""
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"uri": [f"{at}.jpg" for at in range(5000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[40:2000] = b"\xff" * 1960
    path.write_bytes(data)
    with pytest.raises(InputError, match="expected a Parquet manifest"):
        items_of(path)


def test_keys_with_question_marks_are_two_images(memory_root: Root) -> None:
    """What looks like a query in a store's key is a part of its name."""
    path = memory_root.join("m.jsonl")
    uris = [f"{memory_root.uri()}/cam?{query}" for query in ("id=1.jpg", "id=2.jpg", "Signature=1", "Signature=2")]
    memory_root.fs.pipe_file(path, "".join(json.dumps({"uri": uri}) + "\n" for uri in uris).encode())
    table = PlanRows(category=None, template=None, metadata={}).table(
        manifest_items(memory_root, path, wanted_fields=())
    )
    assert len(set(table["image_id"].to_pylist())) == 4
    assert table["image_uri"].to_pylist() == [*uris[:2], *[f"{memory_root.uri()}/cam"] * 2]
    assert table["path"].to_pylist() == uris
