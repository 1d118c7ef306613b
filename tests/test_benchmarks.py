"""Benchmarks start: they run seldom, and what they import from the package moves."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
# One process for all: most of the time goes into the start of torch and Ray.
HELP_OF_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv.pop(1))
for name in sys.argv[1:]:
    main = getattr(importlib.import_module(name), "main", None)
    if main:
        sys.argv = [name, "--help"]
        try:
            main()
        except SystemExit as exit:
            assert exit.code == 0, name
"""


def test_every_benchmark_starts() -> None:
    """Each is imported, as a script is, and tells of its options."""
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    command = [sys.executable, "-c", HELP_OF_ALL, str(BENCHMARKS), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: endurance" in done.stdout


@pytest.fixture
def watched() -> Callable[..., Any]:
    """What a job of one kind of process took, by a sample a second."""
    spec = spec_from_file_location("watching", BENCHMARKS / "watching.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look it up
    spec.loader.exec_module(module)
    return lambda *samples: module.Watched(memory={"driver": list(samples)})


def test_memory_that_grows_fails_the_endurance_run(watched: Callable[..., Any]) -> None:
    """The last part of the run beside the second: the first is the start."""
    watched(10, 90, 100, 110, 100, 99, 120, 128).require_flat("driver", 4, at_most=1.3)
    with pytest.raises(RuntimeError, match="driver had 110 MiB in part 2 of 4, 144 MiB in the last"):
        watched(10, 90, 100, 110, 100, 99, 120, 144).require_flat("driver", 4, at_most=1.3)
