"""Files in object stores and on disk, by fsspec: open, list, write whole or not at all, create once."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import fsspec
import pyarrow as pa
import pyarrow.fs
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import InputError

# What a manifest may name. Chained and exotic protocols (ssh, github, reference, …) can reach further than images.
IMAGE_PROTOCOLS = frozenset(
    {"file", "local", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "http", "https", "memory"}
)
# user@ or user:password@, and passwords may hold slashes; host:port and arn:… are none.
# abfs://container@account is no password either.
_USER_INFO = re.compile(r"(?<!abfs://)(?<!abfss://)(?<!az://)(?<=://)(?!arn:)(?:[^/@]*|[^/@:]*:(?!\d+/)[^@]*)@")
_WEB_QUERY = re.compile(r"(?<=[^?])\?[^#]*")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}  # exFAT and many network drives have no hard links
# The parameters of signed URLs: S3 (versions 4 and 2), Google, CloudFront; and of Azure's shared access signatures.
_SIGNING = re.compile(r"(?i)(X-Amz-|X-Goog-|(AWSAccessKeyId|GoogleAccessId|Signature|Expires|Policy|Key-Pair-Id)$)")
# A key in a store may hold any question mark; only what is signed like a web address is none of the name.
_SIGNED = re.compile(
    r"(?i)(?<=[^?])\?(?=(?:[^#]*&)?(?:X-Amz-|X-Goog-|AWSAccessKeyId=|GoogleAccessId=|Signature=|sig=))[^#]*"
)
_AZURE = re.compile(r"sv|st|se|sr|sp|sig|sip|spr|ss|srt|sdd|skoid|sktid|skt|ske|sks|skv|saoid|suoid|scid")


PUT_S = 120.0
"""How long a store may take for one file of ours, of 25 MB at most."""
_S3_WAITS = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
_GCS_WAITS = {"requests_timeout": 30}
_AZURE_WAITS = {"connection_timeout": 10, "read_timeout": 30}
# So that what is never answered ends in a minute or three. Left to itself s3fs takes more than six (it tries five times
# what its own client tries five times, 15 s each) and gcsfs half an hour. aiohttp gives web servers five.
_WAITS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("s3", "s3a"), _S3_WAITS),
    **dict.fromkeys(("gs", "gcs"), _GCS_WAITS),
    **dict.fromkeys(("abfs", "abfss", "az"), _AZURE_WAITS),
}


@dataclass(frozen=True)
class Root:
    """One place in a store: the filesystem and a path inside it, as fsspec writes paths."""

    fs: Any
    path: str

    def join(self, *names: str) -> str:
        return "/".join([self.path.rstrip("/"), *names])

    def inside(self, name: str) -> str:
        """The path of a file that a record names.

        Raises:  InputError: it lies outside of this place.
        """
        if name.startswith("/") or ".." in name.split("/"):
            raise InputError(f"{self.uri()}: a record names {name!r}, which is outside of it")
        return self.join(name)

    def uri(self, path: str | None = None) -> str:
        """How tables and messages name a file, or this place itself."""
        return redact(public_uri(self.fs, self.path)) if path is None else public_uri(self.fs, path)

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @property
    def arrow_fs(self) -> pyarrow.fs.FileSystem:
        if self.is_local:
            return pyarrow.fs.LocalFileSystem()
        return pyarrow.fs.PyFileSystem(_Handler(self.fs))


class _Handler(pyarrow.fs.FSSpecHandler):
    """Opens at once. Arrow's own asks `isfile` first, which takes every failure of a store for a no."""

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self.fs.open(path, mode="rb"), mode="r")

    open_input_stream = open_input_file


def open_root(uri: str) -> Root:
    """The filesystem and path behind a URI or local path.

    Raises:  InputError: a protocol that fsspec does not know or whose package is missing, or credentials in the URI.
    """
    refuse_credentials(uri)
    try:
        fs, path = filesystem_at(uri)
    except ImportError as exc:
        raise InputError(f"{redact(uri)}: {missing_package(uri)}") from exc
    except ValueError as exc:
        raise InputError(
            f"{redact(uri)}: expected a local path or an fsspec URI such as s3://bucket/key; {exc}"
        ) from exc
    return Root(fs, path)


def filesystem_at(uri: str) -> tuple[Any, str]:
    """(filesystem, path in it) of a URI, as fsspec gives them; but it waits for no answer for ever.

    fsspec's own configuration (FSSPEC_S3_CONFIG_KWARGS and the like) goes before ours.
    Raises:  ImportError, ValueError: as fsspec.
    """
    waits = _WAITS.get(uri.partition("://")[0].lower(), {})
    set_by_user: dict[str, Any] = {}
    for spelling in (protocol for protocol, known in _WAITS.items() if known is waits):
        set_by_user |= fsspec.config.conf.get(spelling, {})
    options = {name: ours | set_by_user.get(name, {}) if isinstance(ours, dict) else set_by_user.get(name, ours)
               for name, ours in waits.items()}  # fmt: skip
    # Listings change while a run goes on (we write them), so they are never cached.
    fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False, **deepcopy(options))  # botocore writes into its own
    return fs, path


def missing_package(uri: str) -> str:
    """What to install for a URI whose protocol's package is not there."""
    protocol = uri.partition("://")[0].lower()
    if protocol in ("http", "https"):
        return "web addresses need a package: pip install aiohttp"
    extra = "gcs" if protocol in ("gs", "gcs") else "azure" if protocol in ("abfs", "abfss", "az") else "s3"
    return f"{protocol}:// needs a package: pip install 'cops-inspection[{extra}]'"


def refuse_credentials(uri: str) -> None:
    """Raises:  InputError: a user or password stands in the URI."""
    if has_credentials(uri):
        raise InputError(
            f"{redact(uri)} carries credentials. Give them by the store's own environment variables "
            "or fsspec's configuration, never in a URI: URIs are written into tables."
        )


def require_local(flag: str, path: str | None) -> None:
    """Raises:  InputError: the flag names a place in a store, where a file on this machine is wanted."""
    if path is not None and "://" in path:
        raise InputError(f"{flag}: expected a file on this machine, got {redact(path)}")


def has_credentials(uri: str) -> bool:
    """Whether a user or password stands in the URI."""
    return bool(_USER_INFO.search(uri))


def redact(uri: str) -> str:
    """The URI without user, password and query (a signature): what may be printed and stored."""
    if "://" not in uri:
        return uri
    query = _WEB_QUERY if "http" in uri.partition("://")[0].lower() else _SIGNED
    return query.sub("", without_user_info(uri))


def without_user_info(text: str) -> str:
    """A URI, or a text with one in it, without user and password."""
    return _USER_INFO.sub("", text)


def identifying_query(uri: str) -> str:
    """What a web URI's query says of which picture is meant: all but the signature, which is another one every night.

    Never printed nor stored, only hashed: it may hold a token that is not known as one.
    """
    if not uri.lower().startswith(("http://", "https://")):
        return ""
    pairs = parse_qsl(urlsplit(uri).query, keep_blank_values=True)
    azure = any(name == "sig" for name, _ in pairs)
    kept = [(name, value) for name, value in pairs if not (_SIGNING.match(name) or (azure and _AZURE.fullmatch(name)))]
    return f"?{urlencode(kept)}" if kept else ""


def public_uri(fs: Any, path: str) -> str:
    """How tables name a file: the plain absolute path on this machine, the full URI in a store.

    A key is named whole, whatever question marks are in it; only web addresses have queries.
    """
    if isinstance(fs, LocalFileSystem):
        return path
    uri = str(fs.unstrip_protocol(path))
    return redact(uri) if uri.lower().startswith("http") else without_user_info(uri)


def write_atomic(fs: Any, path: str, data: bytes) -> None:
    """Write a whole file or none: readers never see half of it. An older file of that name is replaced."""
    if isinstance(fs, LocalFileSystem):
        with _temporary_beside(path, data) as temporary:
            Path(temporary).replace(path)
    else:
        _put(fs, path, data)  # one PUT, or a multipart upload that appears when it is completed


def create_once(fs: Any, path: str, data: bytes) -> None:
    """Write a file that must not exist yet.

    On S3, GCS and local disk the store itself refuses the second writer. Where a store ignores the condition,
    reading back tells most races, not all: docs/design.md says what is promised there. In a store it may be tried
    again: what lies there already is ours where it is the same, as after a PUT whose answer was lost.

    Raises:  FileExistsError: somebody was first.
    """
    if isinstance(fs, LocalFileSystem):
        with _temporary_beside(path, data) as temporary:
            try:
                os.link(temporary, path)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
                with Path(path).open("xb") as out:
                    out.write(data)
        return
    if not fs.exists(path):
        try:
            _put(fs, path, data, mode="create")
        except OSError as exc:
            if not _refused(exc):
                raise
    if fs.cat_file(path) != data:
        raise FileExistsError(path)


def _put(fs: Any, path: str, data: bytes, **options: Any) -> None:
    """Raises:  TimeoutError: the store has not taken it in PUT_S; s3fs by itself would wait for ever."""
    if isinstance(fs, AsyncFileSystem):
        options["timeout"] = PUT_S
    try:
        fs.pipe_file(path, data, **options)
    except TimeoutError as exc:
        raise TimeoutError(f"{len(data):,} bytes were not taken in {PUT_S:.0f} s") from exc


def _refused(exc: OSError) -> bool:
    """Whether the store answered that the file is there; s3fs keeps the code in the cause, not always in the text."""
    response = getattr(exc.__cause__, "response", None) or {}
    refusals = {"PreconditionFailed", "ConditionalRequestConflict"}
    return isinstance(exc, FileExistsError) or response.get("Error", {}).get("Code") in refusals


@contextlib.contextmanager
def _temporary_beside(path: str, data: bytes) -> Iterator[str]:
    target = PurePosixPath(path)
    Path(target.parent).mkdir(parents=True, exist_ok=True)
    temporary = Path(target.parent) / f".{target.name}.{secrets.token_hex(4)}.tmp"  # no reader's glob matches it
    try:
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        yield str(temporary)
    finally:
        temporary.unlink(missing_ok=True)


def remove_file(fs: Any, path: str) -> None:
    """Remove a file, if it is there. May be tried again, as after an answer that was lost."""
    with contextlib.suppress(FileNotFoundError):
        fs.info(path)  # some stores remove what is not there without a word, others wonder
        fs.rm_file(path)


def remove_tree(fs: Any, path: str) -> None:
    """Remove a folder or prefix and what is in it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if isinstance(fs, LocalFileSystem) or not any(char in path for char in "*?["):
            fs.rm(path, recursive=True)
            return
        for name in fs.find(path):  # stores' rm takes such a path for a pattern, and what that matches may be another's
            fs.rm_file(name)
