"""A store that has bad days: HTTP on loopback, handed on to a real store, at times with a fault."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import aiohttp
from aiohttp import web
from yarl import URL

Trouble = Literal["500", "503", "reset", "stall", "truncate", "silence"]
STALL_S = 20.0
_XML = '<?xml version="1.0"?><Error><Code>{}</Code><Message>{}</Message></Error>'
_ANSWERS = {
    "500": (500, _XML.format("InternalError", "We encountered an internal error. Please try again.")),
    "503": (503, _XML.format("SlowDown", "Please reduce your request rate.")),
}
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Proxy:
    """Hands every request on, but for the share of them that meets with `trouble` while there is any.

    Requests arrive as they were signed: host, path and headers unchanged.
    """

    def __init__(self, port: int, store: str, *, seed: int) -> None:
        self.port, self.store = port, store
        self.trouble: Trouble | None = None
        self.share = 0.0
        self.met: Counter[str] = Counter()
        """Requests that met with trouble, by what it was."""
        self.asked: Counter[str] = Counter()
        """All requests: LIST, and the others by their method."""
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        started = threading.Event()
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(started)), daemon=True)
        thread.start()
        started.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)

    def begin(self, trouble: Trouble, share: float) -> None:
        self.trouble, self.share = trouble, share

    def end(self) -> None:
        self.trouble = None

    async def _serve(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = web.Server(self._answer)
        runner = web.ServerRunner(server, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            started.set()
            await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        trouble = self.trouble if self._random.random() < self.share else None
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.read()
        self.asked["LIST" if "list-type" in request.raw_path else request.method] += 1
        if trouble:
            self.met[trouble] += 1
        if trouble in _ANSWERS:
            status, text = _ANSWERS[trouble]
            return web.Response(status=status, text=text, content_type="application/xml")
        if trouble == "stall":
            await asyncio.sleep(STALL_S)
        if trouble == "silence":
            await self._stop.wait()
        if trouble in ("stall", "silence", "reset"):
            return _hang_up(request)
        sent = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        url = URL(f"{self.store}{request.raw_path}", encoded=True)
        async with self._client.request(request.method, url, headers=sent, data=body, allow_redirects=False) as found:
            data = await found.read()
            headers = {name: value for name, value in found.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            if request.method == "HEAD":
                headers["Content-Length"] = found.headers.get("Content-Length", "0")
                return web.Response(status=found.status, headers=headers)
            if trouble == "truncate" and len(data) > 1:
                answer = web.StreamResponse(status=found.status, headers=headers | {"Content-Length": str(len(data))})
                await answer.prepare(request)
                await answer.write(data[: len(data) // 2])
                return _hang_up(request)
            return web.Response(status=found.status, headers=headers, body=data)


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport:
        request.transport.abort()
    return web.Response()
