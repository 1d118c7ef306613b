"""Our docstrings for mkdocstrings: the house form in, the form that griffe calls Google's out.

Ours has several items in a line, three spaces apart (`Args:    a: …   b: …`), and sections that others do not know.
"""

from __future__ import annotations

import re

import griffe

_SECTION = re.compile(r"(Args|Returns|Raises|Source|Differs|Measured|Yields):[ ]+(\S.*)")
_NEXT_ITEM = re.compile(r"[ ]{3,}(?=[A-Za-z_*][\w, *]*: )")
_ITEM = re.compile(r"([A-Za-z_*][\w, *]*): +(.*)", re.DOTALL)


class HouseDocstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_google(obj.docstring.value)


def to_google(docstring: str) -> str:
    """The same docstring with each section under a heading of its own, and each item on lines of its own."""
    done: list[str] = []
    lines = docstring.splitlines()
    at = 0
    while at < len(lines):
        start = _SECTION.fullmatch(lines[at])
        if start is None:
            done.append(lines[at])
            at += 1
            continue
        text = [start[2]]
        at += 1
        while at < len(lines) and lines[at].startswith(" "):
            text.append(lines[at])
            at += 1
        done += ["", *_section(start[1], text)]
    return "\n".join(done).strip("\n")


def _section(name: str, lines: list[str]) -> list[str]:
    items = _items(lines)
    if name not in ("Args", "Raises") or not all(map(_ITEM.fullmatch, items)):  # "Raises:  what `work` raises."
        return [f"**{name}:** {' '.join(line.strip() for line in lines)}", ""]
    return [f"{name}:", *(line for item in items for line in _item(item)), ""]


def _items(lines: list[str]) -> list[str]:
    """Each item's text. A line goes on with the item before it unless it begins one, after three spaces or more."""
    items: list[str] = []
    for line in lines:
        begins = not items or _ITEM.match(line.strip()) is not None
        first, *others = _NEXT_ITEM.split(line.strip())
        if begins:
            items.append(first)
        else:
            items[-1] += f" {first}"
        items += others
    return items


def _item(text: str) -> list[str]:
    """`a, b: text` is one line for each name."""
    names, _, told = text.partition(":")
    return [f"    {name.strip()}: {told.strip()}" for name in names.split(",")]
