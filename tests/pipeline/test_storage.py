"""Files whole or not at all, created once, named without secrets."""

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import storage, store_errors
from pipeline.errors import InputError
from pipeline.storage import create_once, filesystem_at, open_root, public_uri, redact, remove_tree, write_atomic
from pipeline.store_errors import with_patience

LOCAL = LocalFileSystem()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_replaces_whole(tmp_path: Path) -> None:
    """The new content stands in the file's place, folders are made, and nothing else is left."""
    path = tmp_path / "a" / "b.json"
    write_atomic(LOCAL, str(path), b"first")
    write_atomic(LOCAL, str(path), b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["b.json"]


@pytest.mark.parametrize("write", [write_atomic, create_once])
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    """A full disk leaves neither half a file nor a temporary one, and the older file as it was."""
    path = tmp_path / "a.json"
    if write is write_atomic:
        path.write_bytes(b"older")
    before = names(tmp_path)

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write(LOCAL, str(path), b"newer")
    assert names(tmp_path) == before
    assert not before or path.read_bytes() == b"older"


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_create_once_refuses_the_second(tmp_path: Path, kind: str) -> None:
    """Who comes second is told so, and the first one's content stays."""
    fs = fsspec.filesystem(kind)
    path = str(tmp_path / "claim.json")
    create_once(fs, path, b"one")
    with pytest.raises(FileExistsError):
        create_once(fs, path, b"two")
    assert fs.cat_file(path) == b"one"


class Forgetful(MemoryFileSystem):
    """A store whose answer to the first PUT is lost on its way."""

    protocol = "forgetful"
    answers = iter([ConnectionResetError("lost")])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value, mode=mode)
        if lost := next(self.answers, None):
            raise lost


def test_a_lost_answer_is_not_anothers_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again, it finds its own file there and has created it; another's file is another's."""
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,))
    fs = Forgetful(skip_instance_cache=True)
    with_patience(lambda: create_once(fs, "/once/claim.json", b"one"), "claim.json")
    assert fs.cat_file("/once/claim.json") == b"one"
    with pytest.raises(FileExistsError):
        with_patience(lambda: create_once(fs, "/once/claim.json", b"two"), "claim.json")


@pytest.mark.parametrize(
    ("by_user", "expected"),
    [
        ({}, {"retries": {"total_max_attempts": 1}}),
        ({"signature_version": "s3"}, {"retries": {"total_max_attempts": 1}, "signature_version": "s3"}),
        ({"retries": {"mode": "adaptive"}}, {"retries": {"mode": "adaptive"}}),
    ],
)
def test_what_the_user_says_of_waiting_goes_before_ours(
    monkeypatch: pytest.MonkeyPatch, by_user: dict[str, Any], expected: dict[str, Any]
) -> None:
    """fsspec's configuration for a store is kept, and ours added to it."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": by_user, "anon": True})
    for _ in range(2):
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fs, path = filesystem_at("s3://bucket/key")
        assert (fs.config_kwargs, fs.anon, path) == (expected, True, "bucket/key")
        fs.config_kwargs["retries"]["max_attempts"] = 5  # botocore writes into what it is given


def test_all_spellings_of_a_store_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec takes settings of `s3` for `s3a`, too."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"signature_version": "s3"}})
    fs, _ = filesystem_at("s3a://bucket/key")
    assert fs.config_kwargs == {"retries": {"total_max_attempts": 1}, "signature_version": "s3"}


def test_create_once_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that has none creates once all the same; other failures are raised."""
    path = tmp_path / "claim.json"

    def refuse(*_: str) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(storage.os, "link", refuse)
    number = errno.EIO
    with pytest.raises(OSError, match="refused"):
        create_once(LOCAL, str(path), b"one")
    number = errno.EPERM
    create_once(LOCAL, str(path), b"one")
    with pytest.raises(FileExistsError):
        create_once(LOCAL, str(path), b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["claim.json"]


def test_of_eight_threads_exactly_one_creates(tmp_path: Path) -> None:
    """At the same moment, on a local disk: one winner, and its content is what lies there."""
    for round_ in range(20):
        path, barrier = str(tmp_path / f"{round_}.json"), threading.Barrier(8)
        winners: list[int] = []

        def race(number: int, path: str = path, barrier: Any = barrier, winners: list[int] = winners) -> None:
            barrier.wait()
            try:
                create_once(LOCAL, path, str(number).encode())
                winners.append(number)
            except FileExistsError:
                pass

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
        assert Path(path).read_text() == str(winners[0])
    assert len(names(tmp_path)) == 20


@pytest.mark.parametrize(
    "uri",
    ["s3://key:secret@bucket/x", "https://user:secret@host/x", "s3://secret@bucket", "simplecache::s3://k:secret@b/x"],
)
def test_credentials_in_a_uri_are_refused_unsaid(uri: str) -> None:
    """The error tells where credentials belong and does not repeat them."""
    with pytest.raises(InputError, match="credentials") as caught:
        open_root(uri)
    assert "secret" not in str(caught.value)


def test_unknown_protocols_are_wrong_use() -> None:
    """A typing error in the protocol is told as such."""
    with pytest.raises(InputError, match="fsspec URI"):
        open_root("s33://bucket/x")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/a@b.png", "s3://bucket/a@b.png"),
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("https://u:p@host/x.png?X-Amz-Signature=abc", "https://host/x.png"),
        ("https://host/x.png#part", "https://host/x.png#part"),
        ("/data/what?.png", "/data/what?.png"),
        ("/data/user:name@home.png", "/data/user:name@home.png"),
        ("simplecache::s3://key:secret@bucket/x", "simplecache::s3://bucket/x"),
        ("https://host/x?token=a/b@c", "https://host/x"),
        ("https://host/x?sig=abc#part", "https://host/x#part"),
        ("https://host/x?tok en", "https://host/x"),
        ("http://host:8080/a@b.png", "http://host:8080/a@b.png"),
        ("s3://AKIA:with/slash@bucket/x", "s3://bucket/x"),
        ("s3://bucket/what?.png", "s3://bucket/what?.png"),
        ("s3://bucket/x?X-Amz-Signature=abc", "s3://bucket/x"),
        ("s3://bucket/x?a=1&Signature=abc", "s3://bucket/x"),
        ("s3://bucket/cam?id=1.png", "s3://bucket/cam?id=1.png"),
        ("HTTPS://host/x?token=abc", "HTTPS://host/x"),
        ("s3://arn:aws:s3:eu:1:accesspoint/name/k@v", "s3://arn:aws:s3:eu:1:accesspoint/name/k@v"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
    ],
)
def test_redact(uri: str, expected: str) -> None:
    """User, password and query go; names that merely look like them stay."""
    assert redact(uri) == expected


def test_public_names(tmp_path: Path) -> None:
    """A plain path on this machine, a full URI in a store; relative paths become absolute."""
    assert public_uri(LOCAL, "/a b/c#d%.png") == "/a b/c#d%.png"
    assert public_uri(fsspec.filesystem("memory"), "/x/y.png") == "memory:///x/y.png"
    assert open_root("here").path == str(Path.cwd() / "here")
    assert open_root(str(tmp_path)).join("a", "b") == f"{tmp_path}/a/b"


def test_keys_are_named_whole() -> None:
    """A key in a store may hold a question mark: two such keys are two images; only web addresses have queries."""
    fs = fsspec.filesystem("memory")
    keys = [f"/x/cam?{query}.jpg" for query in ("id=1", "id=2", "Signature=3")]
    assert [public_uri(fs, key) for key in keys] == [f"memory://{key}" for key in keys]


@pytest.mark.parametrize(
    ("uri", "install"),
    [("gs://b/x", "[gcs]"), ("abfs://c@a/x", "[azure]"), ("s3://b/x", "[s3]"), ("http://h/x", "aiohttp")],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, uri: str, install: str) -> None:
    """The error says what to install for this protocol."""

    def url_to_fs(*_: Any, **__: Any) -> None:
        raise ImportError("no module")

    monkeypatch.setattr(storage.fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(InputError) as caught:
        open_root(uri)
    assert install in str(caught.value)


def test_remove_tree_of_nothing_is_no_error(tmp_path: Path) -> None:
    """What is not there is removed already; what is there goes with all in it."""
    (tmp_path / "x" / "y").mkdir(parents=True)
    remove_tree(LOCAL, str(tmp_path / "x"))
    remove_tree(LOCAL, str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


class SilentFileSystem(AsyncFileSystem):
    """A store that takes a connection and then says nothing."""

    cachable = False

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        await asyncio.sleep(3600)

    async def _info(self, path: str, **options: Any) -> dict[str, Any]:
        raise FileNotFoundError(path)


@pytest.mark.parametrize("write", [write_atomic, create_once])
def test_a_store_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    """s3fs would wait for ever: its timeouts do not count while a PUT waits for leave to send its body."""
    monkeypatch.setattr(storage, "PUT_S", 0.1)
    with pytest.raises(TimeoutError, match="3 bytes were not taken in 0 s"):
        write(SilentFileSystem(), "bucket/a.json", b"abc")
