"""Bytes of planned images: what is wrong with one is returned in its place, what is wrong with the store is raised."""

import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from pipeline import read
from pipeline.decode import ImageRejected
from pipeline.errors import StoreError
from pipeline.read import Request, fetch, in_portions
from pipeline.schema import Reason
from pipeline.storage import Root

MAX = 1000


def reasons(found: list[Any]) -> list[Any]:
    return [outcome.reason if isinstance(outcome, ImageRejected) else outcome for outcome in found]


def fetched(*requests: Request, max_bytes: int = MAX) -> list[Any]:
    return reasons(fetch(requests, max_bytes=max_bytes))


class FlakyFileSystem(MemoryFileSystem):
    """A store in memory that fails its first `failures` questions."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as in the parent
    cachable = False
    failures = 0
    asked = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("flaky:/"))

    def _answer(self) -> None:
        cls = type(self)
        cls.asked += 1
        if cls.failures:
            cls.failures -= 1
            raise ConnectionError("connection reset by peer")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._answer()
        return super().cat_file(path, start, end, **options)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        self._answer()
        return super().info(path, **options)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[FlakyFileSystem]:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    monkeypatch.setattr(read, "_RETRY_AFTER_S", (0.0, 0.0, 0.0))
    FlakyFileSystem.store.clear()
    FlakyFileSystem.failures = FlakyFileSystem.asked = 0
    FlakyFileSystem().pipe_file("/a.jpg", b"aaa")
    FlakyFileSystem().pipe_file("/b.jpg", b"bbb")
    FlakyFileSystem.asked = 0
    return FlakyFileSystem


def test_local_files(tmp_path: Path) -> None:
    """Read by plain path or file:// URI; what is wrong with one stands in its place and the others are read."""
    (tmp_path / "a b#%.jpg").write_bytes(b"abc")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "large.jpg").write_bytes(b"x" * (MAX + 1))
    (tmp_path / "full.jpg").write_bytes(b"x" * MAX)
    paths = [f"{tmp_path}/{name}" for name in ("a b#%.jpg", "gone.jpg", "large.jpg", "full.jpg", "empty.jpg/x", "")]
    assert fetched(*(Request("file", path) for path in [*paths, f"file://{tmp_path}/a b#%.jpg", "/a\0b.jpg"])) == [
        b"abc", Reason.NOT_FOUND, Reason.TOO_MANY_BYTES, b"x" * MAX, Reason.READ_ERROR, Reason.READ_ERROR,
        b"abc", Reason.BAD_NAME,
    ]  # fmt: skip


def test_links_that_lead_nowhere_are_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to itself is that one file's fault, and costs no waiting."""
    monkeypatch.setattr(read.time, "sleep", lambda _: pytest.fail("waited"))
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "none.jpg").symlink_to(tmp_path / "gone")
    found = fetched(*(Request("file", f"{tmp_path}/{name}.jpg") for name in ("loop", "none", "x" * 300)))
    assert found == [Reason.READ_ERROR, Reason.NOT_FOUND, Reason.READ_ERROR]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files(tmp_path: Path) -> None:
    """What may not be read is told as such."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg").chmod(0)
    assert fetched(Request("file", f"{tmp_path}/a.jpg")) == [Reason.PERMISSION_DENIED]


@pytest.mark.parametrize("kind", ["file", "range", "cell"])
def test_sizes_that_the_plan_knows_need_no_reading(kind: str) -> None:
    """Empty or too large by the plan: refused without opening anything."""
    found = fetched(Request(kind, "/nowhere", num_bytes=0), Request(kind, "/nowhere", num_bytes=MAX + 1))
    assert found == [Reason.EMPTY, Reason.TOO_MANY_BYTES]


def test_files_in_a_store(memory_root: Root) -> None:
    """The same reasons for objects; one that grew since it was listed is not read beyond the limit."""
    for name, size in (("a", 3), ("large", MAX + 5)):
        memory_root.fs.pipe_file(memory_root.join(name), b"x" * size)
    uri = memory_root.uri()
    found = fetched(Request("file", f"{uri}/a"), Request("file", f"{uri}/gone"), Request("file", f"{uri}/large"))
    assert found == [b"xxx", Reason.NOT_FOUND, Reason.TOO_MANY_BYTES]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 120)), min_size=1, max_size=12), st.integers(0, 64))
def test_ranges_are_cut_out_exactly(places: list[tuple[int, int]], gap: int) -> None:
    """Any ranges, in any order, overlapping or apart: each gets its bytes; beyond the end it is truncated."""
    data = bytes(at % 251 for at in range(450))
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/ranges.tar", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "_JOIN_GAP", gap)
        found = fetched(*(Request("range", "memory://ranges.tar", offset=at, num_bytes=n) for at, n in places))
    assert found == [data[at : at + n] if at + n <= 450 else Reason.TRUNCATED for at, n in places]


def test_ranges_of_a_shard_on_disk(tmp_path: Path) -> None:
    """Offsets into a local file; a shard that is gone is a reason for each of its pictures."""
    (tmp_path / "s.tar").write_bytes(b"0123456789")
    shards = [("s.tar", 2), ("gone.tar", 2), ("s.tar", 7), ("s.tar", 9)]
    found = fetched(*(Request("range", f"{tmp_path}/{name}", offset=at, num_bytes=3) for name, at in shards))
    assert found == [b"234", Reason.NOT_FOUND, b"789", Reason.TRUNCATED]


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


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_store_that_hiccups_is_asked_again(flaky: type[FlakyFileSystem], failures: int) -> None:
    """A connection that breaks is no image's fault: up to three more tries, and only what failed is asked again."""
    flaky.failures = failures
    assert fetched(Request("file", "flaky://a.jpg"), Request("file", "flaky://b.jpg")) == [b"aaa", b"bbb"]
    assert flaky.failures == 0
    assert flaky.asked <= 2 + failures + 2


def test_a_store_that_never_answers_stops_the_run(flaky: type[FlakyFileSystem]) -> None:
    """No image is quarantined because a network was down."""
    flaky.failures = 10**6
    with pytest.raises(StoreError, match="did not answer in 4 tries"):
        fetch([Request("file", "flaky://a.jpg"), Request("file", "flaky://b.jpg")], max_bytes=MAX)


def test_what_fails_while_the_store_answers_is_that_images(
    flaky: type[FlakyFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object that cannot be read, in a store that answers: that image is quarantined, the other is read."""
    whole = flaky.cat_file

    def cat_file(self: FlakyFileSystem, path: str, *args: Any, **options: Any) -> bytes:
        if path.endswith("a.jpg"):
            raise ConnectionError("checksum mismatch")
        return whole(self, path, *args, **options)

    monkeypatch.setattr(flaky, "cat_file", cat_file)
    assert fetched(Request("file", "flaky://a.jpg"), Request("file", "flaky://b.jpg")) == [Reason.READ_ERROR, b"bbb"]
    assert fetched(Request("file", "flaky://a.jpg")) == [Reason.READ_ERROR]


def test_a_missing_object_is_not_asked_for_again(flaky: type[FlakyFileSystem]) -> None:
    """What is not there will not come by waiting."""
    assert fetched(Request("file", "flaky://gone.jpg")) == [Reason.NOT_FOUND]
    assert flaky.asked == 1


def test_a_shard_in_a_flaky_store(flaky: type[FlakyFileSystem]) -> None:
    """Ranges are asked for again, too."""
    flaky.failures = 2
    assert fetched(Request("range", "flaky://a.jpg", offset=1, num_bytes=2)) == [b"aa"]


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**27)), max_size=150))
def test_portions_are_bounded_and_lose_nothing(sizes: list[int | None]) -> None:
    """Portions follow one another without a gap; none but a single image is above the bound."""
    portions = list(in_portions([Request("file", "x", num_bytes=size) for size in sizes]))
    assert [at for portion in portions for at in range(portion.start, portion.stop)] == list(range(len(sizes)))
    for portion in portions:
        held = [2**20 if size is None else size for size in sizes[portion]]
        assert len(held) <= 64
        assert len(held) == 1 or sum(held) <= 64 * 2**20
