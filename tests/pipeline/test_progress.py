"""What is said while a run goes on, and when it stops."""

import logging

import pytest

from pipeline.progress import Progress, duration
from pipeline.run import innermost


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
    progress = Progress(total=1000, done=400)
    with progress:
        progress.began -= 10
        progress.add(190, 10)
    assert progress.images_per_s == pytest.approx(20, rel=0.01)
    assert progress.line().startswith("600 of 1,000 images, 10 quarantined, 20.0 images/s, 20 s left")


def test_before_the_first_image_the_time_is_unknown() -> None:
    """No rate, no guess."""
    assert "unknown time left" in Progress(total=10).line()


def test_the_last_image_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a job's log: quiet for the first seconds, and a line at the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO, "pipeline.progress"), Progress(total=2) as progress:
        progress.add(1, 0)
        assert not caplog.messages
        progress.add(0, 1)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("2 of 2 images, 1 quarantined")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("Traceback\n  File x\nOSError: disk full\n", "OSError: disk full"),
        (
            "Traceback\n  File x\nStoreError: down\n\nThe above exception was the direct cause of …\n\nLate: x",
            "StoreError: down",
        ),
        ("", ""),
    ],
)
def test_the_first_cause_in_one_line(text: str, expected: str) -> None:
    """Of a chain of tracebacks sent as text: the last line of the first."""
    assert innermost(Exception(text)) == expected
