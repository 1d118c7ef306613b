"""Paths that cannot be meant are told before Ray starts."""

from pathlib import Path

import pytest

from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.places import check_inputs, check_output


def check(tmp_path: Path, *, source: str = "in", output: str = "out") -> None:
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "file.txt").touch()
    config = ScoreConfig(inputs=(f"{tmp_path}/{source}",), output=f"{tmp_path}/{output}")
    check_output(config)
    check_inputs(config)


@pytest.mark.parametrize("output", ["file.txt", "file.txt/deep/below"])
def test_an_output_in_a_file(tmp_path: Path, output: str) -> None:
    """Going on could never work, so it is wrong use."""
    with pytest.raises(InputError, match=r"--output: expected a folder, .*/file.txt is none"):
        check(tmp_path, output=output)


def test_an_input_that_is_not_there(tmp_path: Path) -> None:
    """Named; patterns, stores and what may not be looked at are left to the listing."""
    with pytest.raises(InputError, match=r"/none: no such file, folder or prefix"):
        check(tmp_path, source="none")
    for source in ("in", "file.txt", "no*.png"):
        check(tmp_path, source=source)
    check_inputs(ScoreConfig(inputs=("s3://bucket/none",), output=str(tmp_path)))


@pytest.mark.parametrize("name", ["out*", "o?t/x", "out[12]"])
def test_an_output_in_a_store_is_no_pattern(name: str, tmp_path: Path) -> None:
    """A client of a store removes what a pattern matches, another output perhaps; on this machine a name is a name."""
    with pytest.raises(InputError, match="expected one place"):
        check_output(ScoreConfig(inputs=("in",), output=f"memory://bucket/{name}"))
    check_output(ScoreConfig(inputs=("in",), output=str(tmp_path / name)))
