"""When a run has too many bad images."""

import pytest

from pipeline.summary import too_many_bad


@pytest.mark.parametrize(
    ("quarantined", "planned", "skipped", "told"),
    [
        (0, 0, 0, None),
        (0, 100, 0, None),
        (1, 100, 0, None),
        (2, 100, 0, "2 of 100 images (2.0%) are in quarantine, more than --max-error-fraction 0.01"),
        (15, 15, 5000, None),  # a night on which nothing is new but the pictures that are always bad
        (15, 15, 0, "15 of 15 images (100.0%) are in quarantine, more than --max-error-fraction 0.01"),
    ],
)
def test_the_share_is_of_the_whole_archive(quarantined: int, planned: int, skipped: int, told: str | None) -> None:
    """Images that an incremental run skips are good ones, and count."""
    assert too_many_bad({"quarantined": quarantined, "planned": planned, "skipped": skipped}, 0.01) == told
