"""What a run says at its end, and when it has too many bad images."""

from pathlib import Path

import pytest

from pipeline import summary
from pipeline.layout import RunLayout
from pipeline.summary import _counts, too_many_bad


@pytest.mark.parametrize(
    ("quarantined", "planned", "known", "told"),
    [
        (0, 0, 0, None),
        (0, 100, 0, None),
        (1, 100, 0, None),
        (2, 100, 0, "2 of 100 images (2.0%) are in quarantine, more than --max-error-fraction 0.01"),
        (15, 15, 15, None),  # a night on which nothing is new but the pictures that are always bad
        (15, 15, 0, "15 of 15 images (100.0%) are in quarantine, more than --max-error-fraction 0.01"),
        (20, 115, 15, "5 of 100 new images (5.0%) are in quarantine, more than --max-error-fraction 0.01"),
    ],
)
def test_the_share_that_counts(quarantined: int, planned: int, known: int, told: str | None) -> None:
    """Bad images that earlier runs knew neither hide new ones nor spoil every night."""
    assert too_many_bad({"quarantined": quarantined, "planned": planned, "known_bad": known}, 0.01) == told


def test_a_contact_sheet_that_finds_no_room(layout: RunLayout, caplog: pytest.LogCaptureFixture) -> None:
    """The run is committed before: its summary is shown all the same."""
    Path(layout.root.path).mkdir()
    Path(layout.root.path, "runs").write_text("no folder")
    assert summary._sheet(layout, b"png") == "no contact sheet"
    assert "the run is committed, but its contact sheet" in caplog.text


def test_an_ending_of_an_ignored_file_is_shown_and_not_obeyed() -> None:
    """It is part of anybody's name."""
    counts = dict.fromkeys(("planned", "scored", "quarantined", "skipped", "duplicates", "unmatched"), 0)
    told = _counts({"counts": counts, "ignored_files": {".\x1b[2J": 1, ".\udcff": 2}})
    assert told[-1].endswith(r"1 .\x1b[2J, 2 .\udcff")
