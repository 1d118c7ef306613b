"""The command around a training: its options and exit codes."""

import pytest

from cops.errors import ConfigError, CopsError
from jobs.exits import DONE, FAILED, INTERRUPTED, TOO_MANY_BAD, WRONG_USE
from jobs.train import Options, main
from pipeline.errors import InputError, RunError
from pipeline.training import run
from pipeline.training.run import Outcome

GIVEN = {"dataset": "plain", "data": "images", "output": "out"}
DATASET = {"name": "parts", "normal": 60, "anomalous": 38, "flawed": {"empty_mask": 2}, "unmarked": 1}
EPOCH = {"epoch": 1, "loss": 2.5, "losses": {}, "metrics": {}, "seconds": 3.0}


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("m"), WRONG_USE), (ConfigError("m"), WRONG_USE), (RunError("m"), FAILED)],
)
def test_exit_codes(
    error: CopsError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 where the same command would fail again, 1 where it may go on; one line on stderr."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(run, "train", fails)
    assert main(Options(**GIVEN)) == code
    assert capsys.readouterr().err == "error: m\n"


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line instead of a traceback."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", stopped)
    assert main(Options(**GIVEN)) == INTERRUPTED
    assert capsys.readouterr().err == "stopped. Its epochs are kept; the same command goes on in out\n"


@pytest.mark.parametrize(("fraction", "code"), [(0.01, TOO_MANY_BAD), (0.02, DONE)])
def test_too_many_flawed_images(
    fraction: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 of 100: all is done, and above the share the exit code says so; the summary counts them by kind."""
    about = {"metric": "loss", "auxiliary_dataset": DATASET}
    monkeypatch.setattr(run, "train", lambda _: Outcome(about, [EPOCH], EPOCH, was_complete=False))
    assert main(Options(**GIVEN, max_error_fraction=fraction)) == code
    told = capsys.readouterr().out
    assert "60 normal, 38 anomalous, 2 not used (empty mask), 1 anomalous without a mask not used" in told
    assert ("2 of 100 images (2.0%) are flawed" in told) == (code == TOO_MANY_BAD)


def test_a_validation_set_is_named_and_placed() -> None:
    """One without the other is a slip."""
    with pytest.raises(InputError, match="go together"):
        Options(**GIVEN, validation_dataset="visa").config()


def test_flags_reach_the_training() -> None:
    """Those that are not given leave recipe and profile as they are."""
    config = Options(**GIVEN, recipe="mvtec-ad", epochs=2, k=5, validation_dataset="visa", validation_data="v").config()
    assert config.find_recipe().epochs == 2
    assert config.find_recipe().batch_size == 8
    assert config.find_constants() == {"profile": "custom", "k": 5, "alpha": 0.35, "beta": 1.0}
    assert config.validation is not None
    assert config.validation.uri == "v"
