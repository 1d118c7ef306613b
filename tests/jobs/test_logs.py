"""What the jobs log of others."""

import logging
from collections.abc import Callable

import pytest

from jobs import evaluate, make_embedded, train
from jobs.exits import WRONG_USE, fail
from jobs.logs import log_to_stderr
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


def test_a_message_is_one_line_and_obeyed_by_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name or an error of anybody's stands in log lines and error lines: neither forges a line nor moves a cursor."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    log_to_stderr()
    logging.getLogger("pipeline").warning("%s is damaged", "a\x1b[2J\nforged.jpg")
    assert fail(InputError("no \x1b[31m such\nplace")) == WRONG_USE
    logged, failed = capsys.readouterr().err.splitlines()
    assert logged.endswith(" a\\x1b[2J\\nforged.jpg is damaged")
    assert failed == "error: no \\x1b[31m such\\nplace"
