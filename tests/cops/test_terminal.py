"""What is shown of names and messages that anybody may have written."""

import pytest

from cops.terminal import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ä 日本", "plain ä 日本"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),  # the same in one byte
        ("a\u202eb", "a\\u202eb"),
        ("\udcff.png", "\\udcff.png"),  # a file's name that is not UTF-8
    ],
)
def test_printable(text: str, expected: str) -> None:
    """Line breaks, terminal codes and marks that turn text round are shown, not obeyed; letters stay."""
    assert printable(text) == expected
    printable(text).encode()
