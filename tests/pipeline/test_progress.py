"""What is said while a run goes on, and when it stops."""

import logging
import threading
import time

import pytest

from pipeline.errors import StoreError
from pipeline.failures import innermost
from pipeline.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (18720, "5 h 12 min"),
        (3_600_000, "1,000 h 0 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    """Rounded once, then cut into units: never 60 s or 60 min."""
    assert duration(seconds) == expected


def test_a_line_counts_this_attempts_rate() -> None:
    """What earlier attempts did counts as done, not for the rate."""
    progress = Progress(total=1000, done=400, count=lambda: (200, 0))
    progress.began -= 10
    assert progress.line(200).startswith("600 of 1,000 images, 20.0 images/s, 20 s left")


def test_before_the_first_image_the_time_is_unknown() -> None:
    """No rate, no guess."""
    assert "unknown time left" in Progress(total=10, done=0, count=lambda: (0, 0)).line(0)


def test_a_job_gets_log_lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal, a line now and then says how far it is; a store that hiccups ends nothing."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    monkeypatch.setattr("pipeline.progress._LOG_EVERY_S", 0.01)
    answers = iter([OSError("hiccup"), StoreError("no answer"), (1, 0), *[(2, 0)] * 10_000])

    def count() -> tuple[int, int]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.INFO, "pipeline.progress"), Progress(total=2, done=0, count=count):
        deadline = time.monotonic() + 20
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert caplog.messages[0].startswith("1 of 2 images")
    assert caplog.messages[1].startswith("2 of 2 images")


def test_a_silent_store_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that waits for an answer is left behind."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    monkeypatch.setattr("pipeline.progress._LOG_EVERY_S", 0.01)
    monkeypatch.setattr("pipeline.progress._LEAVE_S", 0.05)
    asked, answer = threading.Event(), threading.Event()

    def count() -> tuple[int, int]:
        asked.set()
        answer.wait(60)
        return 0, 0

    with Progress(total=2, done=0, count=count):
        assert asked.wait(20)
    assert not answer.is_set()
    answer.set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("Traceback\n  File x\nOSError: disk full\n", "OSError: disk full"),
        (
            "Traceback\n  File x\nStoreError: down\n\nThe above exception was the direct cause of …\n\nLate: x",
            "StoreError: down",
        ),
        ("", "Exception"),
    ],
)
def test_the_first_cause_in_one_line(text: str, expected: str) -> None:
    """Of a chain of tracebacks sent as text: the last line of the first."""
    assert innermost(Exception(text)) == expected
