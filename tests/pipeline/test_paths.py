"""Columns out of paths: matched from the end, folder by folder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.paths import PathTemplate
from pipeline.schema import RESERVED

NAME = st.text(st.characters(exclude_characters="/.", exclude_categories=["Cs"]), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("{line}/{name}", "archive/l1/a.png", {"line": "l1", "name": "a"}),
        ("{line}/{name}", "l1/a.b.png", {"line": "l1", "name": "a.b"}),
        ("{line}/{name}", "l1/.png", {"line": "l1", "name": ".png"}),
        ("{line}/{name}", "l1/noending", {"line": "l1", "name": "noending"}),
        ("{line}/{name}", "v1.2/a.png", {"line": "v1.2", "name": "a"}),
        ("{name}", "a.png", {"name": "a"}),
        ("line{line}/{day}_{name}", "x/line7/mo_a_b.png", {"line": "7", "day": "mo", "name": "a_b"}),
        ("{line}/good/{name}", "l1/good/a.png", {"line": "l1", "name": "a"}),
        ("{line}/good/{name}", "l1/bad/a.png", None),
        ("{line}/{day}/{name}", "l1/a.png", None),
        ("a.c/{name}", "abc/x.png", None),
        ("{line}/{name}.png", "l1/a.png", {"line": "l1", "name": "a"}),
        ("{line}/{name}.png", "l1/a.PNG", {"line": "l1", "name": "a"}),
        ("{line}/{name}.png", "l1/a.jpg", None),
        ("{line}/{date}.{serial}", "l1/20240101.0042.png", {"line": "l1", "date": "20240101", "serial": "0042"}),
        ("{line}/v1.{name}", "l1/v1.a.png", {"line": "l1", "name": "a"}),
        ("{line}/{name}.{ending}", "l1/a.b.png", {"line": "l1", "name": "a.b", "ending": "png"}),
        ("{line}/{name}", "l 1/ä\n#%.png", {"line": "l 1", "name": "ä\n#%"}),
    ],
)
def test_matches_worked_out_by_hand(template: str, path: str, expected: dict[str, str] | None) -> None:
    """The path's last folders and its name without the ending fill the fields; other literals match nothing."""
    assert PathTemplate(template).match(path) == expected


@given(st.lists(NAME, min_size=3, max_size=6))
def test_what_a_template_reads_is_what_stood_there(parts: list[str]) -> None:
    """Any names, of any characters, come back whole and from the end of the path."""
    found = PathTemplate("{line}/{day}/{name}").match("/".join(parts) + ".jpg")
    assert found == dict(zip(("line", "day", "name"), parts[-3:], strict=True))


@pytest.mark.parametrize(
    "template",
    [
        "",
        "plain",
        "{}",
        "{a b}/{name}",
        "{1st}",
        "{a}/{a}",
        "{A}/{a}",
        "{a}{b}",
        "/{line}/{name}",
        "{line:03d}",
        "{a-b}",
    ],
)
def test_templates_that_cannot_be_meant_are_refused(template: str) -> None:
    """Fields are plain names, each once; a template is no absolute path."""
    with pytest.raises(InputError, match="--path-fields"):
        PathTemplate(template)


@pytest.mark.parametrize("name", sorted(RESERVED - {"category"}))
def test_our_columns_are_not_overwritten(name: str) -> None:
    """No field takes the name of a column of the tables."""
    with pytest.raises(InputError, match="is a column"):
        PathTemplate(f"{{line}}/{{{name}}}")


def test_the_category_may_stand_in_the_path() -> None:
    """`category` is the one column of ours that a path may fill."""
    assert PathTemplate("{category}/{name}").fields == ("category", "name")
