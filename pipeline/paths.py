"""Columns read out of a path: `{line}/{category}/{date}/{name}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.schema import RESERVED

_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class PathTemplate:
    """A template matched against the end of a path, one folder for each of its parts.

    The file's ending is left off, unless the template's last part has a dot.

    Raises:  InputError: a field that is no plain name, comes twice, follows another with nothing between them, or has
             the name of a column of ours.
    """

    template: str

    def __post_init__(self) -> None:
        names = _FIELD.findall(self.template)
        for name in names:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise InputError(f"--path-fields: {{{name}}} in {self.template!r} is not a plain column name")
            if name.lower() in RESERVED and name != "category":
                raise InputError(f"--path-fields: {name!r} is a column of the tables; choose another name")
        if "}{" in self.template:
            raise InputError(f"--path-fields: expected something between two fields, got {self.template!r}")
        if not names or len({name.lower() for name in names}) != len(names):  # SQL's names know no case
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
        if self.template.endswith("}") and literal_and_name[-3].endswith("."):
            parts[-2] = f"(?P<{literal_and_name[-2]}>[^/.]+)"  # the file's ending begins at its last dot
        return re.compile("".join(parts))

    def match(self, path: str) -> dict[str, str] | None:
        """The fields' values, or None where the path has fewer folders or other literals than the template."""
        depth = self.template.count("/") + 1
        parts = path.rsplit("/", depth)[-depth:]
        stem, dot, _ = parts[-1].rpartition(".")
        if dot and stem and "." not in self.template.rpartition("/")[2]:
            parts[-1] = stem
        found = self.pattern.fullmatch("/".join(parts))
        return found.groupdict() if found else None
