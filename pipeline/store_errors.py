"""What an exception of a store means: one file's fault, a passing fault, or the fault of the world around.

Each store's client has errors of its own (OSError, botocore, aiohttp, …); here they are told apart by their code.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import re
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa

from cops.errors import CopsError
from cops.shown import shown
from pipeline.errors import StoreError
from pipeline.schema import Reason
from pipeline.storage import filesystem_at, redact, without_user_info

RETRY_AFTER_S = (1.0, 4.0, 16.0, 60.0)  # beyond the store client's own tries
_PATIENCE_S = 120.0  # of tries and pauses; what takes longer is a store that does not even say no
_CONNECT_TIMEOUT_S = 10.0
_OF_ONE_FILE = {errno.EIO, errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}
_PASSING_STATUS = {408, 425, 429}  # and all from 500
_REFUSALS = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidSecurity", "InvalidToken", "NotSignedUp",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_REFUSAL_CLASSES = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError", "SSOTokenLoadError", "DefaultCredentialsError", "RefreshError",
    "ClientAuthenticationError",
}  # fmt: skip
_PARSER_OF_HTTP = "aiohttp.http_exceptions"  # its errors carry a 400 that no server sent: an answer cut short, say
_DUCKDBS_OF_FILES = {"InvalidInputException", "IOException"}  # a file of a scan could not be read; no room to spill
_NO_SUCH_KEY = "cops-inspection-asks-whether-it-may-read"
# What parsers of Parquet and tar raise on data that is no such thing.
PARSING = (pa.ArrowException, tarfile.TarError, EOFError, OSError, ValueError, ArithmeticError, MemoryError)

_OF_THE_NAME = (FileNotFoundError, FileExistsError, PermissionError)
_MISTAKES = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, NotImplementedError)
_PERMANENT = (*_OF_THE_NAME, *_MISTAKES, CopsError, ImportError, MemoryError, RecursionError)

log = logging.getLogger(__name__)
T = TypeVar("T")


class FormatError(ValueError):
    """A file was read, and is not of the format that was expected."""


def describe(exc: BaseException) -> str:
    """An exception in at most 300 characters, with its code and without the secrets that clients put into texts."""
    code = code_of(exc)
    return shown(f"{type(exc).__name__}{f' ({code})' if code else ''}: {without_secrets(str(exc))}"[:300])


def without_secrets(text: str) -> str:
    """A client's text in one line, cut where an address' query begins: it ends wherever its writer liked."""
    line = " ".join(without_user_info(text).split())
    return re.sub(r"\?.*", "?…", line) if "://" in line or re.search(r"\?\S*=", line) else line


def code_of(exc: BaseException) -> str | None:
    """The store's own code, `NoSuchKey` or `503`; clients keep it in the error or in its cause."""
    link: BaseException | None = exc
    for _ in range(5):
        if link is None:
            return None
        response = getattr(link, "response", None)
        found = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if type(link).__module__ != _PARSER_OF_HTTP:
            for name in ("status", "status_code", "code"):
                found = found or getattr(link, name, None)
        if isinstance(found, str | int):
            return str(found)
        link = link.__cause__ or link.__context__
    return None


def is_transient(exc: BaseException) -> bool:
    """Whether it may be another answer a few seconds later."""
    if isinstance(exc, _PERMANENT) or type(exc).__name__ == "ParamValidationError" or is_refusal(exc):
        return False
    if type(exc).__module__.endswith("duckdb"):
        return type(exc).__name__ in _DUCKDBS_OF_FILES
    code = code_of(exc)
    if code and code.isdecimal():
        return int(code) >= 500 or int(code) in _PASSING_STATUS
    return getattr(exc, "errno", None) not in _OF_ONE_FILE


def is_refusal(exc: BaseException) -> bool:
    """Whether the store refuses our credentials, or there are none: not the fault of the file that was asked for."""
    return code_of(exc) in _REFUSALS or type(exc).__name__ in _REFUSAL_CLASSES


def reason_of(exc: BaseException) -> tuple[Reason, str]:
    """Why one file could not be read, as a code and in words."""
    code = code_of(exc)
    if isinstance(exc, FileNotFoundError) or code in ("404", "410", "NoSuchKey"):
        return Reason.NOT_FOUND, "no such file (any more)"
    if isinstance(exc, PermissionError) or str(exc).startswith("Forbidden") or code in ("401", "403", "AccessDenied"):
        return Reason.PERMISSION_DENIED, "not allowed to read it"
    if code in ("416", "InvalidRange"):  # a range of an empty object
        return Reason.EMPTY, "the file has no bytes"
    return Reason.READ_ERROR, describe(exc)


def require_credentials(path: str) -> None:
    """Ask for a key of an innocent name beside one that was refused: an odd name alone can spoil a signature.

    Raises:  StoreError: the credentials are refused whatever is asked.
    """
    fs, inside = filesystem_at(path)
    try:
        fs.cat_file(f"{inside.partition('/')[0]}/{_NO_SUCH_KEY}", start=0, end=1)
    except Exception as exc:  # noqa: BLE001 -- each store's client has errors of its own, signatures in their texts
        if is_refusal(exc):
            message = f"{redact(path)}: the store refuses the credentials: {describe(exc)}"
            raise StoreError(message) from None


def require_answer(path: str) -> None:
    """Ask the store one small question.

    Raises:  StoreError: it does not answer, so what failed says nothing about the images.
    """
    try:
        if path.lower().startswith(("http://", "https://")):
            _connect(path)
        else:
            fs, inside = filesystem_at(path)
            fs.info(inside)
    except Exception as exc:  # noqa: BLE001 -- as above
        if is_transient(exc):
            raise _no_answer(path, exc) from None


def _connect(url: str) -> None:
    """A web server that can be connected to answers; fsspec's own questions call every failure a missing file."""
    try:
        parts = urlsplit(url)
        place = (parts.hostname or "", parts.port or (443 if parts.scheme.lower() == "https" else 80))
        socket.create_connection(place, timeout=_CONNECT_TIMEOUT_S).close()
    except ValueError:  # no address at all
        return
    except socket.gaierror as exc:
        if exc.errno != socket.EAI_NONAME:  # a name that nobody has is its row's fault, a resolver that fails is not
            raise ConnectionError(str(exc)) from exc


def _no_answer(path: str, exc: BaseException) -> StoreError:
    return StoreError(f"{redact(path)}: the store failed in every try: {describe(exc)}")


def waits() -> Iterator[float]:
    """The pauses between tries that begin now, s; none any more when the tries themselves have taken long."""
    began = time.monotonic()  # not in a generator, which would begin with the first pause
    return itertools.takewhile(lambda _: time.monotonic() - began <= _PATIENCE_S, RETRY_AFTER_S)


def with_patience(action: Callable[[], T], path: str) -> T:
    """Do it, and again where the store fails for a moment; an error that is this file's own is raised as it came.

    Raises:  StoreError: the store failed in every try, or refuses our credentials.
    """
    pauses = waits()
    while True:
        try:
            return action()
        except Exception as exc:
            if is_refusal(exc):
                require_credentials(path)
            if not is_transient(exc):
                raise
            wait_s = next(pauses, None)
            if wait_s is None:
                raise _no_answer(path, exc) from None
            log.warning("%s: %s; again in %.0f s", redact(path), describe(exc), wait_s)
        time.sleep(wait_s)


class WatchedFile:
    """An open file that remembers what its store raised: parsers word errors of their own over it."""

    def __init__(self, file: Any, max_read: int | None) -> None:
        self._file = file
        self._max_read = max_read
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        if self._max_read is not None and not 0 <= size <= self._max_read:
            raise ValueError(f"a record of {size} bytes; at most {self._max_read}")
        try:
            data: bytes = self._file.read(size)
        except Exception as exc:
            self.error = exc
            raise
        return data

    read1 = read  # what text is decoded from

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def opened(fs: Any, path: str, *, max_read: int | None = None, **options: Any) -> Iterator[WatchedFile]:
    """A file to parse. What the store raises meanwhile comes out as it is, what the parser raises as FormatError.

    Args:    max_read: bytes that the parser may ask for at once, where a damaged length could ask for all memory.
    """
    with fs.open(path, "rb", **options) as file:
        watched = WatchedFile(file, max_read)
        try:
            yield watched
        except PARSING as exc:
            if watched.error is not None:
                raise watched.error from None
            raise FormatError(describe(exc)) from exc
