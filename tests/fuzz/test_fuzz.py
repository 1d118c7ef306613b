"""The fuzzer in short, and that it sees what it is there to see."""

import os
from pathlib import Path

import bad_reader
import pytest
import workers
from checks import BrokenPromiseError, check_image
from corpus import KINDS, Seed, seeds
from mutate import Mutant, mutant
from tally import Tally
from targets import read


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """The C libraries write a line on stderr for every damage."""
    kept = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    yield
    os.dup2(kept, 2)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "large"])
def test_whole_files_give_all_that_is_in_them(kind: str, tmp_path: Path) -> None:
    """Every seed file is what it says: scored, read or accepted, down to each picture in a shard."""
    for seed in seeds(kind):
        assert read(Mutant(seed, "whole", seed.data), tmp_path).outcome in ("scored", "read", "accepted")


def test_damaged_files_have_outcomes_that_can_be_right(tmp_path: Path) -> None:
    """Some thousand inputs of one seed: no exception, no reason that contradicts what was done, all counted."""
    tally = Tally()
    for number in range(1000):
        one = mutant(3, number)
        found = read(one, tmp_path)
        tally.add(
            workers.Result(number, one.seed.form, one.seed.name, one.plan, found.outcome, pictures=found.pictures)
        )
    assert tally.inputs == 1000
    assert sum(sum(counts.values()) for counts in tally.as_json()["outcomes"].values()) == 1000
    assert {"scored", "truncated", "corrupt", "not_an_image", "too_many_pixels"} <= set(tally.outcomes["png"])


def test_an_input_is_the_same_whenever_it_is_made() -> None:
    """A failure can be read again by its number."""
    assert [mutant(1, number) for number in range(50)] == [mutant(1, number) for number in range(50)]
    assert mutant(1, 0) != mutant(2, 0)


@pytest.mark.parametrize(
    ("plan", "data", "outcome"),
    [
        ("cut", b"\x89PNG\r\n", "corrupt"),
        ("text", b"<html>", "corrupt"),
        ("damage", b"\x89PNG\r\n\x1a\n", "not_an_image"),
        ("damage", b"\xff\xd8\xff", "out_of_memory"),
        ("too large", b"GIF89a", "truncated"),
        ("whole", b"BM", "truncated"),
    ],
)
def test_a_wrong_reason_is_a_failure(plan: str, data: bytes, outcome: str) -> None:
    """A reason that does not fit what was done to a picture does not pass."""
    with pytest.raises(BrokenPromiseError):
        check_image(Mutant(Seed("image", "png", "x", data), plan, data), outcome, None, whole=None)


def test_hangs_crashes_memory_and_exceptions_are_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told for the input that did it, and the inputs behind it are read all the same."""
    monkeypatch.setattr(workers, "PATIENCE_S", 5.0)
    monkeypatch.setattr(workers, "BODY", bad_reader.work)
    results = sorted(
        workers.run(bad_reader.SEED, bad_reader.COUNT, processes=1, log=tmp_path / "log"),
        key=lambda result: result.number,
    )
    assert [result.number for result in results] == list(range(bad_reader.COUNT))
    told = [result.failure or "" for result in results]
    assert (told[0], told[5]) == ("", "")
    for failure, words in zip(told[1:5], ("hangs", "SIGABRT", "MiB; at most", "KeyError: 'odd'"), strict=True):
        assert words in failure
