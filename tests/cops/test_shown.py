"""What of a name is printed."""

import pytest

from cops.shown import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),  # clears the screen, names the window
        ("\x9b31m", r"\x9b31m"),  # the same in one character
        ("a\r\nerror: b", r"a\r\nerror: b"),
        ("a\u2028b\u0085c", r"a\u2028b\x85c"),  # line breaks of other alphabets
        ("\u202egpj.exe", r"\u202egpj.exe"),  # from right to left
        ("\u2066a\u2069\u200b\ufeff", r"\u2066a\u2069\u200b\ufeff"),
        ("bad\udcff.png", r"bad\udcff.png"),  # a byte of a file name that is no UTF-8
        ("\U000e0041", r"\U000e0041"),  # a letter that nobody sees
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, expected: str) -> None:
    """And what is printed can be encoded."""
    assert shown(text) == expected
    assert shown(text).encode()


@pytest.mark.parametrize("text", ["", "a b-c_d.jpg", "Größe 5 µm", "零件", "قطعة", "🔩", r"C:\new"])
def test_names_of_every_script_stay(text: str) -> None:
    """Only what does something is changed."""
    assert shown(text) == text
