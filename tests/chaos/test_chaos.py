"""The chaos harness in its short form: a few faults, the same ones every time. `make chaos` is the long one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import Campaign, carry_out

KINDS = ("kill -9 driver", "kill -9 model actor", "kill -9 decoding worker", "lost node", "store: 503 SlowDown")


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: Ray's sockets and the store's keys lie below."""
    made = Path(tempfile.mkdtemp(prefix="cops-chaos-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(900)
def test_every_image_once_whatever_is_killed(folder: Path) -> None:
    """Driver, actor, worker, node and store fail in one run on S3: the same command again until it commits, and its
    tables are those of an undisturbed run, with nothing beside them and nothing scored twice but what was in flight.
    """
    short = Campaign(faults=len(KINDS), images=600, seed=5, each=len(KINDS), only=KINDS, places=("S3",))
    faults = carry_out(short, folder, print)
    assert sorted(fault.kind for fault in faults) == sorted(KINDS)
