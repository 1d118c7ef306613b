"""What happens on the cluster's machines, in the driver's log: what workers say, and which nodes come and go.

Ray brings every line of its workers' output to the driver. Ours are marked; all else stays in Ray's own log files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private.ray_logging import global_worker_stdstream_dispatcher as worker_lines

from pipeline.store_errors import without_secrets

_MARK = "cops-log "
_NUMBERS = re.compile(r"\b[0-9a-f]{16,}\b|\d+")  # in which remarks of one kind differ
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_NODES_EVERY_S = 5.0
_QUIET_S = 30.0  # after a line, others of its kind are only counted for so long
_CONNECT_S = 5.0
_NO_HEAD = (
    "the cluster's head (%s) does not answer; if it is not back in a minute, Ray ends this job. "
    "What is scored is kept, and the same command goes on with it"
)
_NODE_IS_GONE = "node %s is gone; what it had in hand, if anything, is done again by the %d left"  # lost, or given back
_HEAD_IS_BACK = "the cluster's head (%s) answers again"

log = logging.getLogger(__name__)


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return marked(record.levelno, str(record.msg), record.getMessage())


def marked(level: int, kind: str, text: str) -> str:
    """A line of a worker's stderr that the driver shows. Lines of one kind are counted together."""
    return _MARK + json.dumps({"level": level, "kind": kind, "text": text})


def speak_up() -> None:
    """In a Ray worker: our warnings go to the driver. Elsewhere they have their way already, and nothing is done."""
    ours = logging.getLogger("pipeline")
    if ours.hasHandlers() or not in_worker():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsJson())
    handler.setLevel(logging.WARNING)
    ours.addHandler(handler)


def in_worker() -> bool:
    """Whether this is a process of Ray's, and not the driver nor one without Ray."""
    return bool(ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE)


@dataclass
class _Kind:
    since: float
    unsaid: int = 0
    last: str = ""  # text of those


@dataclass
class WorkerLog:
    """Logs marked lines: the first of a kind at once, of others how many there were.

    Args:    say: logs (level, text).
    """

    say: Callable[[int, str], None]
    clock: Callable[[], float] = time.monotonic
    _kinds: dict[str, _Kind] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, data: Mapping[str, Any]) -> None:
        """Lines of one worker, as Ray hands them out."""
        for line in data["lines"]:
            if line.startswith(_MARK):
                with contextlib.suppress(ValueError):  # a line cut in two
                    told = json.loads(line.removeprefix(_MARK))
                    self._add(told["level"], told["kind"], told["text"], f"{data['ip']}, process {data['pid']}")

    def remark(self, data: Mapping[str, Any], **_: Any) -> None:
        """What Ray itself has to say: a paragraph of how to look into it, or a traceback of what it tried."""
        for paragraph in data["lines"]:
            lines = paragraph.strip().splitlines()
            if lines and "retries remaining" not in paragraph:  # of a task, which is no news after its worker's end
                gist = lines[-1] if lines[0].startswith("Traceback") else _SENTENCE_END.split(lines[0])[0]
                gist = without_secrets(gist)
                self._add(logging.WARNING, _NUMBERS.sub("#", gist), f"Ray: {gist[:300]}")

    def _add(self, level: int, kind: str, text: str, *places: str) -> None:
        with self._lock:
            known, now = self._kinds.get(kind), self.clock()
            if known and now - known.since < _QUIET_S:
                known.unsaid, known.last = known.unsaid + 1, text
                return
            self._kinds[kind] = _Kind(now)
        if known and known.unsaid:
            places += (f"{known.unsaid:,} more like it in the last {now - known.since:.0f} s",)
        self.say(level, f"{text} ({'; '.join(places)})" if places else text)

    def tell_rest(self) -> None:
        """What was counted and not said."""
        with self._lock:
            left = [known for known in self._kinds.values() if known.unsaid]
            self._kinds.clear()
        for known in left:
            self.say(logging.WARNING, f"{known.unsaid:,} more like: {known.last}")


def quieten_ray() -> None:
    """Ray prints all lines of all workers on stdout and stderr, and paragraphs of its own: no more from here on."""
    worker_lines.remove_handler("ray_print_logs")
    _hand_remarks_to(lambda *_, **__: None)


@contextlib.contextmanager
def workers_heard() -> Iterator[None]:
    """While it lasts, what workers say is logged here, and what Ray says of them."""
    heard = WorkerLog(log.log)
    worker_lines.add_handler(__name__, heard)
    _hand_remarks_to(heard.remark)
    try:
        yield
    finally:
        worker_lines.remove_handler(__name__)
        quieten_ray()
        heard.tell_rest()


def _hand_remarks_to(hear: Callable[..., None]) -> None:
    ray._private.worker.print_to_stdstream = hear


@contextlib.contextmanager
def nodes_watched(every_s: float = _NODES_EVERY_S) -> Iterator[None]:
    """While it lasts, nodes that the cluster loses or gains are told of."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch_nodes, args=(stop, every_s), name="nodes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_CONNECT_S)


def _watch_nodes(stop: threading.Event, every_s: float) -> None:
    head = ray.get_runtime_context().gcs_address
    known, was_there = _nodes(), True
    while not stop.wait(every_s):
        is_there = _answers(head)
        if is_there != was_there:
            log.warning(_HEAD_IS_BACK if is_there else _NO_HEAD, head)
        was_there = is_there
        if is_there:  # without it Ray's own question would wait for a minute
            try:
                now = _nodes()
            except Exception:
                log.debug("the nodes could not be listed", exc_info=True)
                continue
            _tell_of_nodes(known, now)
            known = now


def _tell_of_nodes(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for node in before.keys() - now.keys():
        log.warning(_NODE_IS_GONE, before[node], len(now))
    for node in now.keys() - before.keys():
        log.info("node %s has joined; there are %d", now[node], len(now))


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _nodes() -> dict[str, str]:
    """Addresses of the nodes that live, by their ids."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
