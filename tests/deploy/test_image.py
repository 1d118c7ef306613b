"""The image's recipe: what it copies is there and let in, and what it is asked for is understood."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEPS = re.findall(r"^RUN (.*)$", RECIPE.replace("\\\n", " "), re.MULTILINE)


def step(mark: str) -> str:
    (found,) = [step for step in STEPS if mark in step]
    return found


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", RECIPE, re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


def test_what_is_copied_is_let_in_and_nothing_else() -> None:
    """A token, a data folder or a virtual environment beside the code never reaches the builder."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())
    assert all((ROOT / name).exists() for name in copied())
    assert any(fnmatch.fnmatch("cops/__pycache__", line) for line in lines[1:])


def test_all_that_jobs_read_is_there(tmp_path: Path) -> None:
    """A job in the image, which has the packages elsewhere, finds what lies beside jobs/ in a checkout."""
    final = re.findall(r"^COPY (?!--from)(\S+) \S+$", RECIPE.rpartition("\nFROM ")[2], re.MULTILINE)
    beside = {name for path in (ROOT / "jobs").glob("*.py")
              for name in re.findall(r"""parents\[1\] / ["'](\w+)""", path.read_text())}  # fmt: skip
    assert beside == {"queries"}  # or the pattern sees nothing
    assert beside | {"jobs", "deploy"} == set(final)
    for name in final:
        shutil.copytree(ROOT / name, tmp_path / name)
    command = [sys.executable, "jobs/query.py"]
    packages = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=packages, timeout=120)
    assert "threshold_what_if" in done.stdout


def test_its_python_is_one_that_the_project_takes() -> None:
    (version,) = re.findall(r"^ARG PYTHON=(\S+)$", RECIPE, re.MULTILINE)
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


@pytest.mark.parametrize(("device", "code"), [("cuda", 0), ("rocm", 2)])
def test_an_unknown_device_is_refused(device: str, code: int, tmp_path: Path) -> None:
    """And none is not taken for another."""
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step('case "$DEVICE"')], check=False, capture_output=True, text=True,
        env={"DEVICE": device, "PATH": "/usr/bin:/bin"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == code
    assert (f"expected cpu or cuda, got '{device}'" in done.stderr) == bool(code)


def test_on_cpus_torch_is_the_pinned_one_without_cuda(tmp_path: Path) -> None:
    """The same version, from PyTorch's own index; pip is noted, not run."""
    (tmp_path / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@" > called\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"DEVICE": "cpu", "TORCH_CPU_INDEX": "https://index", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step('case "$DEVICE"')], check=True, env=environment, cwd=tmp_path)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    wanted = [f"{name}=={pins[name]}+cpu" for name in ("torch", "torchvision")]
    assert (tmp_path / "torch.txt").read_text().split() == wanted
    assert (tmp_path / "called").read_text() == "install --index-url https://index --no-deps -r torch.txt\n"


def test_everything_that_the_project_needs_is_installed_pinned(tmp_path: Path) -> None:
    """The list is pyproject.toml's own, that of S3 among it."""
    listing, _, install = step("tomllib").partition(" && ")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    listing = listing.replace("python -c", f"{sys.executable} -c", 1)
    subprocess.run(["bash", "-c", listing], check=True, cwd=tmp_path)
    needed = (tmp_path / "needed.txt").read_text().splitlines()
    assert needed == [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["s3"]]
    assert install.strip() == "pip install -c constraints.txt -r needed.txt"
