"""Every relative link of every page leads somewhere, as a code host and an editor follow it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`+[^`]*`+")
HEADING = re.compile(r"#{1,6} +(.*?) *#*$")
FENCE = re.compile(r"\s*(```|~~~)")


def pages() -> list[str]:
    """Every Markdown file that git knows or would know."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    return sorted(name for name in found if name and (ROOT / name).is_file())


def prose(path: Path) -> Iterator[str]:
    """The lines that are not code."""
    fenced = False
    for line in path.read_text("utf-8").splitlines():
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield line


def anchors(path: Path) -> set[str]:
    """Those that a code host gives a page's headings: lower case, no punctuation, a hyphen for each space, numbered."""
    found: set[str] = set()
    for line in prose(path):
        if heading := HEADING.match(line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            number = 0
            while (numbered := f"{anchor}-{number}" if number else anchor) in found:
                number += 1
            found.add(numbered)
    return found


def broken(page: str) -> list[str]:
    """Its links that lead nowhere. Anchors of what is no Markdown are not looked at."""
    here = ROOT / page
    found: list[str] = []
    for line in prose(here):
        for link in LINK.findall(CODE.sub("", line)):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            place = (here.parent / target).resolve() if target else here
            is_there = place.exists() and place.is_relative_to(ROOT) and not target.startswith("/")
            if not is_there or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
                found.append(link)
    return found


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    """To a file or folder of the repository and, where an anchor is given, to a heading."""
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and headings that are not there, absolute paths, and what lies outside; not what stands in code."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "a.md").write_text(
        "# It's a – heading\n\n# Twice\n\n# Twice\n[1](a.md#its-a--heading) [2](#twice-1) [3](b.md) [4](#gone)\n"
        f"[5]({tmp_path}/a.md) [6](..) `[7](c.md)` [8](https://example.org/x)\n"
        "```\n[9](d.md)\n# No heading\n```\n[10](#no-heading)\n"
    )
    assert broken("a.md") == ["b.md", "#gone", f"{tmp_path}/a.md", "..", "#no-heading"]
