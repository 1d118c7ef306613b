"""Names on a terminal: they are anybody's, and a terminal obeys what is in them."""


def shown(text: str) -> str:
    """The text in one line, as it may be printed: nothing in it moves the cursor, hides, or turns the line around.

    Line breaks, control characters, marks of writing direction, characters of no width and halves of characters are
    escaped as Python writes them; letters of every script stay as they are.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
