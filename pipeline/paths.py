"""Columns read out of a path: `{line}/{category}/{date}/{name}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.schema import RESERVED

_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class PathTemplate:
    """A template matched against the end of a path, one folder for each of its parts, the file's ending left off.

    Raises:  InputError: a field that is no plain name, comes twice, or has the name of a column of ours.
    """

    template: str

    def __post_init__(self) -> None:
        names = _FIELD.findall(self.template)
        for name in names:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise InputError(f"--path-fields: {{{name}}} in {self.template!r} is not a plain column name")
            if name.lower() in RESERVED and name != "category":
                raise InputError(f"--path-fields: {name!r} is a column of the tables; choose another name")
        if not names or len(set(names)) != len(names):
            raise InputError(
                "--path-fields: expected fields such as '{line}/{category}/{name}', each once; "
                f"got {self.template!r}"
            )
        if self.template.startswith("/"):
            raise InputError("--path-fields is matched from the end of a path and starts with no '/'")

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(_FIELD.findall(self.template))

    @property
    def pattern(self) -> re.Pattern[str]:
        literal_and_name = _FIELD.split(self.template)
        parts = [re.escape(text) if at % 2 == 0 else f"(?P<{text}>[^/]+?)" for at, text in enumerate(literal_and_name)]
        return re.compile("".join(parts))

    def match(self, path: str) -> dict[str, str] | None:
        """The fields' values, or None where the path has fewer folders or other literals than the template."""
        depth = self.template.count("/") + 1
        parts = path.rsplit("/", depth)[-depth:]
        stem, dot, ending = parts[-1].rpartition(".")
        parts[-1] = stem if dot and stem and "/" not in ending else parts[-1]
        found = self.pattern.fullmatch("/".join(parts))
        return found.groupdict() if found else None
