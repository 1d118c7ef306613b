"""Text for people: names and messages are anybody's, and a terminal obeys what it is sent."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with line breaks, terminal codes and marks that turn text round shown, not obeyed; letters stay."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
