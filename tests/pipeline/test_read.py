"""Bytes of planned images: what is wrong with one is returned in its place, what is wrong with the store is raised."""

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from reading import MAX, FlakyFileSystem, fetched

from pipeline import read, store_errors
from pipeline.errors import StoreError
from pipeline.read import fetch, fetched_portions, in_portions
from pipeline.request import Request
from pipeline.schema import Reason
from pipeline.storage import Root


def test_local_files(tmp_path: Path) -> None:
    """Read by plain path or file:// URI; what is wrong with one stands in its place and the others are read."""
    (tmp_path / "a b#%.jpg").write_bytes(b"abc")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "large.jpg").write_bytes(b"x" * (MAX + 1))
    (tmp_path / "full.jpg").write_bytes(b"x" * MAX)
    paths = [f"{tmp_path}/{name}" for name in ("a b#%.jpg", "gone.jpg", "large.jpg", "full.jpg", "empty.jpg/x", "")]
    assert fetched(*(Request("file", path) for path in [*paths, f"file://{tmp_path}/a b#%.jpg", "/a\0b.jpg"])) == [
        b"abc", Reason.NOT_FOUND, Reason.TOO_MANY_BYTES, b"x" * MAX, Reason.READ_ERROR, Reason.NOT_A_FILE,
        b"abc", Reason.BAD_NAME,
    ]  # fmt: skip


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    """A manifest may name them; a pipe would never answer, and a device would never end."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    found = fetched(*(Request("file", f"{tmp_path}/{name}.jpg") for name in ("pipe", "zero")))
    assert found == [Reason.NOT_A_FILE, Reason.NOT_A_FILE]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")
def test_a_file_longer_than_it_says_is_read_to_the_limit() -> None:
    """Files of /proc say that they have no bytes, and have many."""
    assert Path("/proc/self/smaps").stat().st_size == 0
    assert fetched(Request("file", "/proc/self/smaps")) == [Reason.TOO_MANY_BYTES]
    (found,) = read.fetch([Request("file", "/proc/self/smaps")], max_bytes=2**40)
    assert isinstance(found, bytes)
    assert len(found) > 4096


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


def test_sizes_that_a_tar_tells_need_no_reading() -> None:
    """Empty or too large by the tar's header: refused without opening anything."""
    found = fetched(Request("range", "/nowhere", num_bytes=0), Request("range", "/nowhere", num_bytes=MAX + 1))
    assert found == [Reason.EMPTY, Reason.TOO_MANY_BYTES]


@pytest.mark.parametrize("told", [-(10**6), -1, 0, 1, 399, 400, 401, MAX, MAX + 1, 2**62, None])
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_manifest_says_of_sizes_changes_no_image(
    memory_root: Root, tmp_path: Path, told: int | None, count: int
) -> None:
    """Stale, negative or absurd sizes: every image whole, on disk and in a store, alone and beside others."""
    data = bytes(at % 251 for at in range(400))
    (tmp_path / "a").write_bytes(data)
    memory_root.fs.pipe_file(memory_root.join("a"), data)
    for uri in (f"{tmp_path}/a", f"{memory_root.uri()}/a"):
        assert fetched(*[Request("file", uri, num_bytes=told)] * count) == [data] * count


def test_files_larger_than_said_do_not_pile_up(memory_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that calls large files small: each is read apart, after a look at what was said."""
    asked: list[int] = []
    whole = MemoryFileSystem.cat_file

    def cat_file(fs: MemoryFileSystem, path: str, start: int, end: int, **options: Any) -> bytes:
        asked.append(end - start)
        return whole(fs, path, start, end, **options)

    for name in "abcd":
        memory_root.fs.pipe_file(memory_root.join(name), b"x" * (3 if name in "ac" else MAX))
    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    requests = [Request("file", f"{memory_root.uri()}/{name}", num_bytes=3) for name in "abcd"]
    sizes = [[len(data) for data in found] for _, found in fetched_portions(requests, max_bytes=MAX)]
    assert sizes == [[3], [MAX], [3], [MAX]]
    assert asked == [4, 4, 4, 4, MAX + 1, MAX + 1]


def test_images_of_unknown_size_are_asked_for_theirs(memory_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes, too, are held to the bound."""
    monkeypatch.setattr(read, "_BYTES_AT_ONCE", 1000)
    sizes = [400, 500, 200, 900, 100, 1, 2000, 3]
    for at, size in enumerate(sizes):
        memory_root.fs.pipe_file(memory_root.join(str(at)), b"x" * size)
    requests = [Request("file", f"{memory_root.uri()}/{at}") for at in range(len(sizes))]
    held = [[len(data) for data in found] for _, found in fetched_portions(requests, max_bytes=2000)]
    assert held == [[400, 500], [200], [900, 100], [1], [2000], [3]]


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
    with pytest.raises(StoreError, match="failed in every try"):
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
    """What is not there, or is no name that a store can have, will not come by waiting."""
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
        held = [read._UNKNOWN_SIZE if size is None else size for size in sizes[portion]]
        assert len(held) <= 64
        assert len(held) == 1 or sum(held) <= 64 * 2**20


def test_a_name_with_416_in_it_is_no_empty_file(flaky: type[FlakyFileSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the store's own code says that a range lies beyond an object's end."""

    def cat_file(self: FlakyFileSystem, path: str, *args: Any, **options: Any) -> bytes:
        if path.endswith("empty.jpg"):
            raise OSError(22, "The requested range is not satisfiable") from client_error("InvalidRange")
        raise OSError(5, f"checksum of {path}")

    monkeypatch.setattr(flaky, "cat_file", cat_file)
    paths = ["flaky://img_0416.jpg", "flaky://empty.jpg"]
    assert fetched(*(Request("file", path) for path in paths)) == [Reason.READ_ERROR, Reason.EMPTY]


def client_error(code: str) -> Exception:
    """As botocore words what the store answered."""
    error = Exception("An error occurred")
    error.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("kind", ["file", "range", "cell"])
@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_refused_credentials_stop_the_run(
    flaky: type[FlakyFileSystem], monkeypatch: pytest.MonkeyPatch, kind: str, code: str
) -> None:
    """No image is quarantined because a token ran out; it is not asked for again and again, either."""

    def refuse(self: FlakyFileSystem, path: str, *args: Any, **options: Any) -> Any:
        raise PermissionError("refused") from client_error(code)

    for name in ("cat_file", "_open"):
        monkeypatch.setattr(flaky, name, refuse)
    monkeypatch.setattr(store_errors.time, "sleep", lambda _: pytest.fail("waited"))
    request = Request(kind, "flaky://a.jpg", offset=0, row=0, row_group=0, image_column="image", num_bytes=3)
    with pytest.raises(StoreError, match=f"refuses the credentials: PermissionError .{code}"):
        fetch([request] * 2, max_bytes=MAX)


def test_a_name_that_spoils_its_signature_is_one_bad_image(
    flaky: type[FlakyFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store takes our credentials for another key: the run goes on."""
    whole = flaky.cat_file

    def cat_file(self: FlakyFileSystem, path: str, *args: Any, **options: Any) -> bytes:
        if "odd" in path:
            raise PermissionError("refused") from client_error("SignatureDoesNotMatch")
        return whole(self, path, *args, **options)

    monkeypatch.setattr(flaky, "cat_file", cat_file)
    paths = ["flaky://odd/../a.jpg", "flaky://b.jpg"]
    assert fetched(*(Request("file", path) for path in paths)) == [Reason.PERMISSION_DENIED, b"bbb"]


def test_a_store_that_stops_answering_midway_stops_the_run(
    flaky: type[FlakyFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the network went says nothing of the others: none of them is quarantined."""
    whole = flaky.cat_file

    def cat_file(self: FlakyFileSystem, path: str, *args: Any, **options: Any) -> bytes:
        if path.endswith("b.jpg"):
            flaky.failures = 10**6
        return whole(self, path, *args, **options)

    monkeypatch.setattr(flaky, "cat_file", cat_file)
    with pytest.raises(StoreError, match="failed in every try"):
        fetch([Request("file", "flaky://a.jpg"), Request("file", "flaky://b.jpg")], max_bytes=MAX)
