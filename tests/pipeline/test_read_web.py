"""Pictures behind web addresses: each status its reason, and no signature in any message."""

import socket
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from reading import MAX, reasons

from pipeline import store_errors
from pipeline.decode import ImageRejected
from pipeline.errors import StoreError
from pipeline.read import fetch
from pipeline.request import Request
from pipeline.schema import Reason

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
    with pytest.raises(StoreError, match=f"http://127.0.0.1:{port}/0.jpg: the store failed in every try") as caught:
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
