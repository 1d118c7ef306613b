"""Bytes of planned images: what is wrong with one is returned in its place, what is wrong with the store is raised."""

import dataclasses
import os
import socket
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from pipeline import cells as cells_module
from pipeline import read, store_errors
from pipeline.decode import ImageRejected
from pipeline.errors import StoreError
from pipeline.read import fetch, fetched_portions, in_portions
from pipeline.request import Request
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
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0, 0.0, 0.0))
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
    with pytest.raises(StoreError, match="did not answer in 4 tries"):
        fetch([cell], max_bytes=MAX)


def test_a_shard_replaced_meanwhile_gives_reasons(tmp_path: Path) -> None:
    """Its column, row group or row is gone: each cell says so."""
    requests = parquet(tmp_path / "t.parquet", [b"x"] * 4, 2)
    pq.write_table(pa.table({"other": [1]}), tmp_path / "t.parquet")
    assert fetched(*requests) == [Reason.NOT_FOUND] * 4
    parquet(tmp_path / "t.parquet", [b"x"])
    assert fetched(*requests) == [b"x", *[Reason.NOT_FOUND] * 3]


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


SECRET = "wJalrXUtnFEMI"


class Web(BaseHTTPRequestHandler):
    """A small web server: the status stands in the path."""

    def do_GET(self) -> None:
        status = int(self.path.split("/")[1].partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"abc")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,))
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("told", [None, 3])
def test_what_a_web_server_answers(web: str, told: int | None, caplog: pytest.LogCaptureFixture) -> None:
    """Each status its reason, in no message or log line the address's signature."""
    statuses = [200, 404, 403, 401, 500, 429, 416]
    requests = [Request("file", f"{web}/{status}?X-Amz-Signature={SECRET}", num_bytes=told) for status in statuses]
    found = fetch(requests, max_bytes=MAX)
    assert reasons(found) == [
        b"abc", Reason.NOT_FOUND, Reason.PERMISSION_DENIED, Reason.PERMISSION_DENIED, Reason.READ_ERROR,
        Reason.READ_ERROR, Reason.EMPTY,
    ]  # fmt: skip
    assert "reads failed" in caplog.text
    assert SECRET not in caplog.text + " ".join(str(outcome) for outcome in found)
    assert "500" in str(found[4])


def test_a_web_server_that_is_down_stops_the_run(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images are not quarantined, and the error does not repeat the signature; the other server's are read."""
    monkeypatch.setattr(store_errors, "_CONNECT_TIMEOUT_S", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    down = [Request("file", f"http://127.0.0.1:{port}/{at}.jpg?sig={SECRET}") for at in range(2)]
    with pytest.raises(StoreError, match=f"http://127.0.0.1:{port}/0.jpg: the store did not answer") as caught:
        fetch([Request("file", f"{web}/200"), *down], max_bytes=MAX)
    (alone,) = fetch(down[:1], max_bytes=MAX)  # a manifest may name any host in one row
    assert isinstance(alone, ImageRejected)
    assert alone.reason == Reason.READ_ERROR
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_host_that_nobody_has_is_its_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in a manifest cannot stop a run."""

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(store_errors.socket, "create_connection", unknown)
    store_errors.require_answer("http://no-such-host.invalid/a.jpg")
    store_errors.require_answer("http://[bad/a.jpg")
