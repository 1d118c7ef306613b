"""Columns read out of a path: `{line}/{category}/{date}/{name}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.decode import ENDINGS
from pipeline.errors import InputError
from pipeline.schema import RESERVED

_ENDING_FIELDS = ("ext", "extension", "ending", "suffix")
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class PathTemplate:
    """A template matched against the end of a path, one folder for each of its parts.

    The file's ending is left off, unless the template ends in one (`.png`, in any case) or a field for it (`.{ext}`).

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
        if self._ends_in_ending:
            parts[-2] = f"(?P<{literal_and_name[-2]}>[^/.]+)"  # from the last dot on
        return re.compile("".join(parts))

    @property
    def _ends_in_ending(self) -> bool:
        return self.template.endswith(tuple(f".{{{name}}}" for name in _ENDING_FIELDS))

    @property
    def _literal_ending(self) -> str:
        return next((ending for ending in ENDINGS if self.template.lower().endswith(ending)), "")

    def match(self, path: str) -> dict[str, str] | None:
        """The fields' values, or None where the path has fewer folders or other literals than the template."""
        depth = self.template.count("/") + 1
        parts = path.rsplit("/", depth)[-depth:]
        stem, dot, ending = parts[-1].rpartition(".")
        if literal := self._literal_ending:
            parts[-1] = stem + self.template[-len(literal) :] if dot + ending.lower() == literal else parts[-1]
        elif dot and stem and not self._ends_in_ending:
            parts[-1] = stem
        found = self.pattern.fullmatch("/".join(parts))
        return found.groupdict() if found else None
