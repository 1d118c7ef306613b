"""What is installed is what was tested: constraints.txt has every package that ours need, in this very version."""

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("s3", "docs", "test", "dev")  # what `make setup` installs


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().split()
    found = [line.partition("==") for line in lines]
    return {canonicalize_name(name): Version(version) for name, _, version in found}


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    return [Requirement(text) for texts in lists for text in texts]


def needed(requirements: list[Requirement]) -> Iterator[importlib.metadata.Distribution]:
    """These and all that they need on this machine, each once."""
    left, seen = list(requirements), set()
    while left:
        requirement = left.pop()
        extras = frozenset(requirement.extras)
        if (requirement.name, extras) in seen:
            continue
        seen.add((requirement.name, extras))
        found = importlib.metadata.distribution(requirement.name)
        yield found
        for text in found.requires or ():
            below = Requirement(text)
            if not below.marker or any(below.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                left.append(below)


def test_every_package_that_ours_need_is_pinned_and_installed_so() -> None:
    """Down to what those need themselves: an audit of constraints.txt is one of what runs."""
    pinned = pins()
    installed = {canonicalize_name(one.name): Version(one.version) for one in needed(wanted())}
    assert len(installed) > 80
    assert installed == {name: pinned.get(name) for name in installed}


def test_the_pins_are_versions_alone() -> None:
    """Neither addresses nor ranges: pip resolves them against whatever index the machine has."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines == sorted(lines, key=str.lower)
    assert all(line.count("==") == 1 and not set(line) & set(" @/:<>~;*,") for line in lines)
