"""Tar shards: where each picture lies, whatever is broken around it."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.schema import Reason
from pipeline.sources import PlanItem, PlanRows
from pipeline.sources.webdataset import index_tar

MakeTar = Callable[..., bytes]


def index(tmp_path: Path, data: bytes, *fields: str) -> list[PlanItem]:
    path = tmp_path / "s.tar"
    path.write_bytes(data)
    return index_tar(str(path), wanted_fields=fields)


def keys(items: list[PlanItem]) -> list[str]:
    return [item.image_uri.partition("#")[2] for item in items if item.kind == "range"]


def verdicts(items: list[PlanItem]) -> list[Reason | None]:
    return [item.bad and item.bad.reason for item in items]


def test_offsets_are_where_the_bytes_lie(tmp_path: Path, make_tar: MakeTar) -> None:
    """Cut out at offset and length, each item is its picture; long and non-ASCII names move nothing."""
    members = [("a.jpg", b"first"), ("x" * 150 + "/ä.png", b"second" * 200), ("c.json", b"{}"), ("c.webp", b"")]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = make_tar(members, form=form)
        items = index(tmp_path, data)
        found = [data[item.offset : item.offset + item.num_bytes] for item in items]
        assert found == [b"first", b"second" * 200, b""]
        assert keys(items) == ["a", "x" * 150 + "/ä", "c"]
        assert verdicts(items) == [None] * 3


def test_items_name_their_shard(tmp_path: Path, make_tar: MakeTar) -> None:
    """`shard.tar#key`, and the member's own path for --path-fields."""
    (item,) = index(tmp_path, make_tar([("line/a.png", b"x")]))
    assert item.image_uri == f"{tmp_path}/s.tar#line/a"
    assert (item.shard, item.path, item.relative) == (f"{tmp_path}/s.tar", f"{tmp_path}/s.tar", "line/a.png")


def test_masks_and_others_are_not_taken(tmp_path: Path, make_tar: MakeTar) -> None:
    """`key.mask.png` is no picture to score, nor are labels, text, hidden files and folders; `key.JPG` is."""
    folder = tarfile.TarInfo("d.jpg")
    folder.type = tarfile.DIRTYPE
    names = ["a.JPG", "a.mask.png", "a.cls", "a.txt", "a.json", "._a.jpg", "sub/.b.png", "png", "noending"]
    items = index(tmp_path, make_tar([(name, b"x") for name in names]))
    assert keys(items) == ["a"]


@pytest.mark.parametrize(
    ("names", "scored", "refused"),
    [
        (["part.0001.png", "part.0002.png"], ["part.0001", "part.0002"], []),
        (["cam_2024.05.01.JPG", "v1.2/a.png", "v1.2/a.mask.png"], ["cam_2024.05.01", "v1.2/a"], []),
        (["img.png", "img.0001.png"], ["img", "img.0001"], []),
        (["k.v.png"], ["k.v"], []),
        (["0.jpg", "0.mask.png", "0.seg2.png", "0.json"], ["0"], []),
        (["0.rgb.png", "0.mask.png"], [], ["0.rgb", "0.mask"]),
        (["0.rgb.png", "0.json"], [], ["0.rgb"]),
        (["0.heic", "0.mask.png"], [], ["0.mask"]),
    ],
)
def test_dots_in_names_lose_no_picture(
    names: list[str], scored: list[str], refused: list[str], tmp_path: Path, make_tar: MakeTar
) -> None:
    """Numbers after a dot are part of a name; which of several others is the picture is not guessed, but told."""
    items = index(tmp_path, make_tar([(name, b"x") for name in names]))
    assert keys([item for item in items if not item.bad]) == scored
    assert keys([item for item in items if item.bad]) == refused
    assert all(item.bad.reason == Reason.BAD_NAME for item in items if item.bad)


def test_notes_of_names_with_dots(tmp_path: Path, make_tar: MakeTar) -> None:
    """Their own, or those of the key that their name begins with; only what is wanted of them is kept."""
    members = [
        ("part.1.png", b"x"),
        ("part.2.png", b"x"),
        ("part.1.json", b'{"lot": 1, "more": 2}'),
        ("part.json", b'{"lot": 0}'),
    ]
    assert [item.fields for item in index(tmp_path, make_tar(members), "lot")] == [{"lot": 1}, {"lot": 0}]


def test_a_second_picture_under_one_key_is_a_duplicate(tmp_path: Path, make_tar: MakeTar) -> None:
    """`a.jpg` and `a.png` share a key: the first is planned, the second told; a third is another row."""
    items = index(tmp_path, make_tar([("a.jpg", b"1"), ("a.png", b"2"), ("a.jpg", b"3"), ("b.jpg", b"4")]))
    assert verdicts(items) == [None, Reason.DUPLICATE, Reason.DUPLICATE, None]
    assert len({item.image_uri + item.unique for item in items}) == 4


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_not_followed(tmp_path: Path, make_tar: MakeTar, kind: bytes) -> None:
    """A member that is no plain file is bad, whatever it points to."""
    link = tarfile.TarInfo("a.jpg")
    link.type, link.linkname = kind, "/etc/passwd"
    items = index(tmp_path, make_tar([(link, b""), ("b.jpg", b"x")]))
    assert verdicts(items) == [Reason.NOT_A_FILE, None]


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_members_are_told(tmp_path: Path, make_tar: MakeTar, form: str) -> None:
    """`tar --sparse` leaves out a picture's runs of zeros: read as one range it would end in its neighbours' bytes."""
    sparse = tarfile.TarInfo("a.bmp")
    if form == "pax":
        sparse.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": "5000", "GNU.sparse.name": "a.bmp"}
    data = make_tar([(sparse, b"BM!"), ("b.jpg", b"x")], form=tarfile.PAX_FORMAT)
    if form == "gnu":
        header = bytearray(data[:512])
        header[156:157] = tarfile.GNUTYPE_SPARSE
        header[386:410] = b"%011o\0%011o\0" % (0, 3)  # where the only piece belongs, and its length
        header[483:495] = b"%011o\0" % 5000
        header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
        data = bytes(header) + data[512:]
    assert verdicts(index(tmp_path, data)) == [Reason.UNSUPPORTED, None]


@pytest.mark.parametrize("name", ["../../up.jpg", "/abs.jpg", "a/../../b.jpg", "C:\\x.jpg", "a\nb.jpg"])
def test_names_are_only_names(tmp_path: Path, make_tar: MakeTar, name: str) -> None:
    """Paths that lead out of the shard are names of members and open nothing."""
    (item,) = index(tmp_path, make_tar([(name, b"x")]))
    assert item.image_uri.startswith(f"{tmp_path}/s.tar#")
    assert (item.path, item.bad) == (f"{tmp_path}/s.tar", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.tar"]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        (b'{"lot": 7, "category": "nut"}', {"lot": 7, "category": "nut"}),
        *(
            (broken, {})
            for broken in (b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"lot": 1' + b"0" * 5000 + b"}")
        ),
    ],
)
def test_json_fields_stand_beside_their_picture(
    tmp_path: Path, make_tar: MakeTar, notes: bytes, expected: dict[str, Any]
) -> None:
    """The `.json` of the same key, before or after; broken notes leave the picture as it is."""
    for members in ([("a.json", notes), ("a.jpg", b"x")], [("a.jpg", b"x"), ("a.json", notes)]):
        (item,) = index(tmp_path, make_tar(members), "lot", "category")
        assert item.fields == expected
        assert item.bad is None


def test_json_is_not_read_where_nothing_of_it_is_wanted(tmp_path: Path, make_tar: MakeTar) -> None:
    """No kept columns: notes cost no request."""
    (item,) = index(tmp_path, make_tar([("a.json", b'{"lot": 7}'), ("a.jpg", b"x")]))
    assert item.fields == {}


def test_an_empty_tar_is_whole(tmp_path: Path, make_tar: MakeTar) -> None:
    """Nothing in it, nothing wrong with it."""
    assert index(tmp_path, make_tar([])) == []


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 2000, b"\x1f\x8b" + bytes(600), b"<html>" + bytes(1000)])
def test_what_is_no_tar_is_one_bad_row(tmp_path: Path, data: bytes) -> None:
    """A shard that cannot be opened is one row about the shard."""
    items = index(tmp_path, data)
    assert [item.bad and item.bad.reason for item in items] == [Reason.UNREADABLE_SHARD]
    assert items[0].image_uri == f"{tmp_path}/s.tar"


def test_a_shard_that_is_gone(tmp_path: Path) -> None:
    """Listed, then removed: one row that says so."""
    (item,) = index_tar(str(tmp_path / "gone.tar"), wanted_fields=())
    assert item.bad is not None
    assert item.bad.reason == Reason.NOT_FOUND


def test_a_missing_end_mark_is_told(tmp_path: Path, make_tar: MakeTar) -> None:
    """Cut exactly between two members: both found pictures are planned, and the shard is told to be cut."""
    data = make_tar([("a.jpg", b"x"), ("b.jpg", b"y"), ("c.jpg", b"z")])
    items = index(tmp_path, data[: 4 * 512])
    assert keys(items) == ["a", "b"]
    assert verdicts(items) == [None, None, Reason.TRUNCATED_SHARD]


WHOLE_MEMBERS = [("a.jpg", b"x" * 700), ("a.json", b"{}"), ("b.png", b"y" * 512), ("c.jpg", b"z" * 10)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 11 * 512))
def test_a_cut_tar_is_told_and_keeps_what_is_whole(tmp_path: Path, make_tar: MakeTar, cut: int) -> None:
    """Cut anywhere before its end mark: every picture that lies whole is planned, and one row tells of the cut."""
    data = make_tar(WHOLE_MEMBERS)
    end = 512 * (1 + 2 + 1 + 1 + 1 + 1 + 1 + 1)
    items = index(tmp_path, data[: min(cut, end)])
    *pictures, last = items
    assert last.bad is not None
    assert last.bad.reason in (Reason.TRUNCATED_SHARD, Reason.UNREADABLE_SHARD)
    whole = [item for item in pictures if item.offset + item.num_bytes <= min(cut, end)]
    expected = [key for key, stop in (("a", 512 + 700), ("b", 512 * 7), ("c", 512 * 8 + 10)) if stop <= min(cut, end)]
    assert keys(whole) == expected


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10 * 512 - 1), value=st.integers(0, 255), form=st.sampled_from([0, 1, 2]))
def test_a_damaged_tar_raises_nothing(tmp_path: Path, make_tar: MakeTar, place: int, value: int, form: int) -> None:
    """Any wrong byte: items and at most a verdict, no exception; no range lies before the file's start."""
    data = bytearray(make_tar([("ä" * 99 + ".jpg", b"x"), *WHOLE_MEMBERS] if form else WHOLE_MEMBERS, form=form))
    data[place] = value
    for item in index(tmp_path, bytes(data), "lot"):
        assert item.bad or (item.offset >= 512 and item.num_bytes >= 0)


def test_a_compressed_tar_is_refused_as_a_shard(tmp_path: Path) -> None:
    """Ranges cannot be read out of a compressed shard: it is one bad row, not silently nothing."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    assert verdicts(index(tmp_path, out.getvalue())) == [Reason.UNREADABLE_SHARD]


@pytest.mark.parametrize(
    "header",
    [{"GNU.sparse.map": "a,b"}, {"size": "9" * 30}, {"size": "-5"}, {"size": "x"}, {"GNU.sparse.size": "x"}],
    ids=str,
)
def test_a_header_of_nonsense_raises_nothing(tmp_path: Path, make_tar: MakeTar, header: dict[str, str]) -> None:
    """Sizes that are no numbers, negative or beyond any file: rows about it, and the plan can hold them."""
    odd = tarfile.TarInfo("b.jpg")
    odd.pax_headers = header
    items = index(tmp_path, make_tar([("a.jpg", b"x"), (odd, b"y"), ("c.jpg", b"z")], form=tarfile.PAX_FORMAT))
    assert keys(items)[0] == "a"
    assert items[0].bad is None
    assert any(item.bad for item in items) or "x" in header.values()
    PlanRows(category=None, template=None, metadata={}).table(items).validate(full=True)


def test_a_header_that_asks_for_all_memory_is_a_broken_shard(tmp_path: Path, make_tar: MakeTar) -> None:
    """A damaged length of a header is not read into memory, whatever the shard's size."""
    long = tarfile.TarInfo("long")
    long.type = tarfile.GNUTYPE_LONGNAME
    data = bytearray(make_tar([("a.jpg", b"x"), (long, b"y" * (2**24 + 512)), ("b.jpg", b"z")]))
    items = index(tmp_path, bytes(data))
    assert verdicts(items) == [None, Reason.TRUNCATED_SHARD]
