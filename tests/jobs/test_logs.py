"""What the jobs log, and what of others."""

import logging
import sys
from collections.abc import Callable

import pytest

from jobs import evaluate, make_embedded, train
from jobs.exits import WRONG_USE, fail
from jobs.logs import OneLine
from pipeline.errors import InputError
from pipeline.evaluation import output
from pipeline.training import run

Job = Callable[[], int]


def refuse(*_: object, **__: object) -> None:
    raise InputError("m")


def start_evaluate(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(output, "evaluate_and_report", refuse)
    return evaluate.main(evaluate.Options(dataset="visa", data="d"))


def start_train(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(run, "train", refuse)
    return train.main(train.Options(dataset="visa", data="d", output="o"))


def start_make_embedded(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(make_embedded, "make", refuse)
    return make_embedded.main(make_embedded.Make())


@pytest.mark.parametrize("start", [start_evaluate, start_train, start_make_embedded])
def test_what_tells_of_credentials_is_silent(
    start: Callable[[pytest.MonkeyPatch], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of stores say from INFO on where they found credentials: no job shows that."""
    logger = logging.getLogger("botocore")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    assert start(monkeypatch) == WRONG_USE
    assert logger.level == logging.WARNING


def test_a_name_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in the log nor in an error; a traceback keeps its lines."""
    name = "a\n12:00:00 all is well\x1b[1A"
    try:
        int("b")
    except ValueError:
        record = logging.LogRecord("n", logging.WARNING, "p", 1, "removing %s", (name,), sys.exc_info())
    first, *traceback = OneLine("%(message)s").format(record).splitlines()
    assert first == r"removing a\n12:00:00 all is well\x1b[1A"
    assert traceback[-1].startswith("ValueError: ")
    fail(InputError(name))
    assert capsys.readouterr().err == r"error: a\n12:00:00 all is well\x1b[1A" + "\n"
