"""The command around an evaluation: its options and exit codes."""

from dataclasses import replace
from typing import Any

import pytest
import tyro

from cops.errors import CheckpointError, CopsError
from jobs.decoding import Decoding
from jobs.evaluate import Options, main
from jobs.exits import DONE, FAILED, INTERRUPTED, TOO_MANY_BAD, WRONG_USE
from pipeline.config import ScoreConfig
from pipeline.decode import DecodeRules
from pipeline.errors import InputError, RunError
from pipeline.evaluation import output
from pipeline.evaluation.evaluate import EvaluateConfig
from pipeline.summary import Report

OPTIONS = Options(dataset="visa", data="d", run_id="r7")


def run(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | Report) -> int:
    def evaluates(*_: Any) -> Report:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(output, "evaluate_and_report", evaluates)
    return main(OPTIONS)


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("m"), WRONG_USE), (CheckpointError("m"), WRONG_USE), (RunError("m"), FAILED)]
)
def test_exit_codes(
    error: CopsError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 where the same command would fail again, 1 where it may go on; one line on stderr."""
    assert run(monkeypatch, error) == code
    assert capsys.readouterr().err == "error: m\n"


@pytest.mark.parametrize(("too_many_bad", "code"), [(False, DONE), (True, TOO_MANY_BAD)])
def test_too_many_bad_images_are_an_exit_code(
    too_many_bad: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is printed all the same."""
    assert run(monkeypatch, Report("the report", too_many_bad)) == code
    assert capsys.readouterr().out == "the report\n"


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line instead of a traceback."""
    assert run(monkeypatch, KeyboardInterrupt()) == INTERRUPTED
    assert capsys.readouterr().err == "stopped. What is scored is kept; --run-id r7 goes on with it\n"


def test_images_are_decoded_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the flags of jobs/train.py and with its share of bad images, for the baseline too."""
    given: list[EvaluateConfig] = []
    monkeypatch.setattr(output, "evaluate_and_report", lambda config: given.append(config) or Report("", False))
    flags = ["--bit-depth-range", "0:4095", "--alpha-background", "#102030", "--max-pixels", "99"]
    options = tyro.cli(Options, args=["--dataset", "visa", "--data", "d", "--baseline", *flags])
    assert main(replace(options, max_error_fraction=0.2)) == DONE
    for run in given[0].scoring():
        assert run.decode == DecodeRules(bit_depth_range="0:4095", alpha_background="#102030", max_pixels=99)
        assert run.max_error_fraction == 0.2


def test_an_unlikely_colour_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything is read."""
    assert main(replace(OPTIONS, decoding=Decoding(alpha_background="white"))) == WRONG_USE
    assert capsys.readouterr().err == "error: --alpha-background: expected a colour such as #ffffff, got 'white'\n"


def test_an_evaluation_is_a_run_of_each_method() -> None:
    """The baseline under an id of its own, on the same images with the same settings."""
    config = EvaluateConfig(dataset="visa", data="d", output="o", run_id="r", baseline=True, batch_size=3, limit=9)
    of_cops, of_clip = config.scoring()
    assert (of_cops.run_id, of_cops.method, of_clip.run_id, of_clip.method) == ("r", "cops", "r-clip", "clip")
    for one in (of_cops, of_clip):
        assert (one.inputs, one.format, one.batch_size, one.limit) == (("d",), "visa", 3, 9)
    assert isinstance(of_clip, ScoreConfig)


@pytest.mark.parametrize(("options", "words"), [({"data": " "}, "--data"), ({"limit": 0}, "--limit")])
def test_values_that_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    """With the option's name."""
    with pytest.raises(InputError, match=words):
        EvaluateConfig(**{"dataset": "visa", "data": "d", "output": "o", **options})
