"""What the site is made with: docstrings in the house's form, links between repository and site, help texts."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_site"))

import command_help  # noqa: E402
import house_docstrings  # noqa: E402
import repository_pages  # noqa: E402


def test_items_of_one_line_become_items() -> None:
    """Three spaces part them; a line goes on with the item before it, unless it begins one; names may share a text."""
    docstring = (
        "One sentence.\n\n"
        "Args:    scores: (g, g) or\n         (b, g, g).   size: the side: px.\n         low, high: the ends.\n"
        "Raises:  ShapeError: no square grid.   InputError: it is `None`.\n"
        "Source:  the paper, 3.1;\n         differs: so."
    )
    assert house_docstrings.to_google(docstring) == (
        "One sentence.\n\n\n"
        "Args:\n    scores: (g, g) or (b, g, g).\n    size: the side: px.\n"
        "    low: the ends.\n    high: the ends.\n\n\n"
        "Raises:\n    ShapeError: no square grid.\n    InputError: it is `None`.\n\n\n"
        "**Source:** the paper, 3.1; differs: so."
    )


@pytest.mark.parametrize("docstring", ["One sentence.", "A: b", "Two\n\n    indented: code\n", "Raises as `predict`."])
def test_other_docstrings_stay(docstring: str) -> None:
    """What has no section of ours is left to the letter."""
    assert house_docstrings.to_google(docstring) == docstring.strip("\n")


def test_what_is_no_item_is_text() -> None:
    """Words that name no error stay together."""
    assert house_docstrings.to_google("Raises:  what `work` raises.") == "**Raises:** what `work` raises."


@pytest.mark.parametrize(
    ("here", "link", "on_site"),
    [
        ("performance.md", "../SECURITY.md#ray", "SECURITY.md#ray"),
        ("performance.md", "../benchmarks/results/scale.md", "benchmarks/results/scale.md"),
        ("SECURITY.md", "docs/design.md", "design.md"),
        ("index.md", "../README.md", "index.md"),
        ("adr/0001-own-plan-and-reader.md", "../design.md", "../design.md"),
        ("index.md", "../LICENSE", "files/LICENSE.md"),
        ("index.md", "gone.md", "gone.md"),
    ],
)
def test_links_lead_to_the_same_place_on_the_site(here: str, link: str, on_site: str) -> None:
    """Pages from outside of docs/, pages below it, and files that are shown; what is not there stays as it is."""
    assert repository_pages.relinked(f"see [it]({link}).", here) == f"see [it]({on_site})."


def test_a_folder_is_named_and_no_link() -> None:
    """A site has no listing of it."""
    assert repository_pages.relinked("in [adr/](adr/).", "design.md") == "in adr/."


def test_help_has_no_frames() -> None:
    """Groups by their names, flags below, long lines broken."""
    framed = "usage: x\n\n" + "word " * 40 + "\n\n╭─ options ───╮\n│ --a   b     │\n│       c     │\n╰─────────────╯\n"
    lines = command_help.without_frames(framed).splitlines()
    assert lines[-3:] == ["options:", " --a   b", "       c"]
    assert max(map(len, lines)) <= command_help.COLUMNS
