"""Errors of stores: told apart by their code, worded without secrets."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import duckdb
import fsspec
import pytest

from pipeline import store_errors
from pipeline.store_errors import code_of, describe, is_transient, require_credentials

SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "text",
    [
        f"403, message='Forbidden', url='https://host/x.jpg?X-Amz-Signature={SECRET}'",
        f"https://host/x?a='&sig={SECRET} b",
        f"https://host/x?tok en={SECRET}",
        f"GET /x?sig={SECRET}",
        f"Cannot connect to https://user:{SECRET}@host/x",
    ],
)
def test_no_secret_is_worded(text: str) -> None:
    """Neither a query nor a password stands in what is printed and stored."""
    said = describe(ValueError(text))
    assert SECRET not in said
    assert said.startswith("ValueError: ")


def test_what_is_no_secret_is_kept() -> None:
    """A name with a question mark, the store's code; long texts are cut."""
    assert describe(OSError(5, "bad", "/data/what?.jpg")) == "OSError: [Errno 5] bad: '/data/what?.jpg'"
    assert len(describe(ValueError("x" * 1000))) == 300


class AnsweredError(Exception):
    """As aiohttp and Azure's client keep the status."""

    def __init__(self, status: int) -> None:
        super().__init__("answered")
        self.status = status


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (AnsweredError(503), True), (AnsweredError(429), True), (AnsweredError(404), False),
        (AnsweredError(400), False),
        (ConnectionError(), True), (TimeoutError(), True), (OSError(16, "busy"), True), (OSError(22, "odd"), False),
        (FileNotFoundError(), False), (FileExistsError(17, "there"), False), (PermissionError(), False),
        (ValueError(), False), (AttributeError(), False), (AssertionError(), False), (MemoryError(), False),
        (duckdb.OutOfMemoryException("full"), False), (duckdb.BinderException("odd"), False),
        (duckdb.InvalidInputException("reading the stream registered as 'plan' failed: IOError"), True),
    ],
)  # fmt: skip
def test_what_may_pass(error: Exception, transient: bool) -> None:
    """Servers that are busy and connections that break; not what they say of one file."""
    assert is_transient(error) == transient


def test_real_clients_errors() -> None:
    """s3fs keeps botocore's error as the cause, and lets those without an answer through."""
    botocore = pytest.importorskip("botocore.exceptions")
    translate = pytest.importorskip("s3fs.errors").translate_boto_error
    refused = translate(botocore.ClientError({"Error": {"Code": "ExpiredToken", "Message": "x"}}, "GetObject"))
    assert (type(refused), code_of(refused)) == (PermissionError, "ExpiredToken")
    slow = translate(botocore.ClientError({"Error": {"Code": "SlowDown", "Message": "x"}}, "GetObject"))
    assert is_transient(slow)
    assert is_transient(botocore.EndpointConnectionError(endpoint_url="http://x"))
    assert not is_transient(botocore.NoCredentialsError())
    assert not is_transient(botocore.ParamValidationError(report="Invalid bucket name"))


def test_credentials_that_are_taken_are_no_error() -> None:
    """The store answers that there is no such key: what was refused was one file."""
    require_credentials("memory://place/a.jpg")


class CutShort(BaseHTTPRequestHandler):
    """Half of what it promised."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"12345")


@pytest.fixture
def cut_short() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), CutShort) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.jpg"
        server.shutdown()


def test_an_answer_that_is_cut_short_may_pass(cut_short: str) -> None:
    """aiohttp's parser gives it a code of its own, 400; the chaos harness found whole pictures in quarantine for it."""
    aiohttp = pytest.importorskip("aiohttp")
    with pytest.raises(aiohttp.ClientPayloadError) as caught:
        fsspec.filesystem("http").cat_file(cut_short)
    assert code_of(caught.value) is None
    assert is_transient(caught.value)


def test_a_store_that_does_not_even_say_no_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick refusals are waited out to the last pause; tries that take minutes are few."""
    now = 0.0
    monkeypatch.setattr(store_errors.time, "monotonic", lambda: now)
    assert list(store_errors.waits()) == [1, 4, 16, 60]
    pauses = store_errors.waits()
    now += 77  # s3fs with a server that is silent
    assert next(pauses, None) == 1
    now += 77
    assert next(pauses, None) is None
