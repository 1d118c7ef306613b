"""What workers say reaches the driver's log: marked lines alone, with their place, counted where there are many."""

import io
import json
import logging
import socket
import sys
import threading
from types import SimpleNamespace

import pytest
import ray

from pipeline import cluster_log
from pipeline.cluster_log import WorkerLog, marked, speak_up

DATA = {"ip": "10.0.0.3", "pid": 7, "is_err": True}


class Said:
    """A driver's log with a clock that is set by hand."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.log = WorkerLog(lambda _, text: self.lines.append(text), clock=lambda: self.now)

    def hear(self, *lines: str) -> list[str]:
        """What is new in the log after these lines of a worker."""
        before = len(self.lines)
        self.log({**DATA, "lines": list(lines)})
        return self.lines[before:]


def warning(kind: str, text: str) -> str:
    return marked(logging.WARNING, kind, text)


def test_a_line_says_where_it_comes_from() -> None:
    """The text, the machine and the process; what libraries print is left out."""
    said = Said().hear("Traceback (most recent call last):", warning("k", "a thing"), "cops-log {cut", "")
    assert said == ["a thing (10.0.0.3, process 7)"]


def test_many_of_a_kind_are_counted() -> None:
    """The first at once; then their number with the next one half a minute later. Other kinds do not wait."""
    said = Said()
    assert len(said.hear(*[warning("%d failed", f"{n} failed") for n in range(1001)])) == 1
    assert said.hear(warning("other", "other")) == ["other (10.0.0.3, process 7)"]
    said.now = 31
    assert said.hear(warning("%d failed", "9 failed")) == [
        "9 failed (10.0.0.3, process 7; 1,000 more like it in the last 31 s)"
    ]


def test_the_rest_is_told_at_the_end() -> None:
    """What was counted and has not been said is not lost."""
    said = Said()
    said.hear(warning("%d failed", "1 failed"), warning("%d failed", "2 failed"), warning("once", "once"))
    said.log.tell_rest()
    assert said.lines[2:] == ["1 more like: 2 failed"]


def test_rays_own_remarks_are_cut_to_what_happened() -> None:
    """A paragraph to its first sentence, a traceback to its last line, counted as others are; retries are no news."""
    said = Said()
    died = "A worker died or was killed. To troubleshoot the problem, check the logs. Worker PID: {}"
    full = "Traceback (most recent call last):\n  File x\nOSError: [Errno 28] No space left on device: '/t/{}'\n"
    retried = "Task f failed. There are infinite retries remaining, so the task will be retried."
    said.log.remark({"lines": [died.format(7), full.format("ab1"), full.format("ab2"), retried, died.format(8)]})
    assert said.lines == [
        "Ray: A worker died or was killed.",
        "Ray: OSError: [Errno 28] No space left on device: '/t/ab1'",
    ]
    said.now = 31
    said.log.remark({"lines": [full.format("ab3")]}, ignore_prefix=False)
    assert said.lines[2:] == [
        "Ray: OSError: [Errno 28] No space left on device: '/t/ab3' (1 more like it in the last 31 s)"
    ]


@pytest.mark.parametrize("lines", ["{}", "Traceback (most recent call last):\n  File x\n{}\n"])
def test_no_signature_of_what_ray_remarks(lines: str) -> None:
    """Clients put whole addresses into their texts; neither at once nor counted does one come out."""
    said = Said()
    for number in range(2):
        said.log.remark({"lines": [lines.format(f"OSError: 403, https://u:SECRET@h/{number}.jpg?sig=SECRET")]})
    said.log.tell_rest()
    assert said.lines == ["Ray: OSError: 403, https://h/0.jpg?…", "1 more like: Ray: OSError: 403, https://h/1.jpg?…"]
    assert "SECRET" not in "".join(said.log._kinds)


def test_a_worker_speaks_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a worker a warning is one marked line, however often the stage is entered; INFO stays there."""
    logger = logging.getLogger("pipeline")
    stderr = io.StringIO()
    monkeypatch.setattr(cluster_log, "in_worker", lambda: True)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(sys, "stderr", stderr)
    speak_up()
    speak_up()
    logging.getLogger("pipeline.read").warning("%d of %d\nfailed", 1, 2)
    logging.getLogger("pipeline.read").info("nothing")
    (line,) = stderr.getvalue().splitlines()
    assert json.loads(line.removeprefix("cops-log ")) == {
        "level": logging.WARNING, "kind": "%d of %d\nfailed", "text": "1 of 2\nfailed"
    }  # fmt: skip


def test_the_driver_is_no_worker() -> None:
    """Where there is no Ray, or in the driver, nobody's logging is touched."""
    assert not cluster_log.in_worker()
    handlers = list(logging.getLogger("pipeline").handlers)
    speak_up()
    assert logging.getLogger("pipeline").handlers == handlers


def node(name: str, *, alive: bool = True) -> dict[str, object]:
    return {"NodeID": name, "NodeManagerAddress": f"10.0.0.{name}", "Alive": alive}


def test_nodes_that_go_and_come(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A node that is lost, or given back, is told of by its address, with how many are left; a new one, too; and a head
    that is away, and then nobody asks it for nodes.
    """
    all_looks = [
        [node("1"), node("2")], [node("1"), node("2", alive=False)], [node("1"), node("3")], [node("1"), node("3")]
    ]  # fmt: skip
    looks, answers, over = iter(all_looks), iter([True, True, False, True]), threading.Event()

    def answer(_: str) -> bool:
        found = next(answers, None)
        if found is None:
            over.set()
        return bool(found)

    monkeypatch.setattr(ray, "nodes", lambda: next(looks))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"))
    monkeypatch.setattr(cluster_log, "_answers", answer)
    with caplog.at_level(logging.INFO), cluster_log.nodes_watched(every_s=0.01):
        assert over.wait(10)
    said = [record.getMessage() for record in caplog.records[:4]]
    assert said[0] == "node 10.0.0.2 is gone; what it had in hand, if anything, is done again by the 1 left"
    assert [line.partition(";")[0] for line in said] == [
        "node 10.0.0.2 is gone",
        "node 10.0.0.3 has joined",
        "the cluster's head (10.0.0.1:6379) does not answer",
        "the cluster's head (10.0.0.1:6379) answers again",
    ]


def test_a_head_answers_where_something_listens() -> None:
    """A port on which nobody listens does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert cluster_log._answers(address)
    assert not cluster_log._answers(address)
