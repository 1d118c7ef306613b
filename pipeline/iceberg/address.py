"""The name of an Iceberg table, as a user gives it: iceberg://CATALOG/namespace.table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.storage import redact, refuse_credentials

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
_ADDRESS = re.compile(rf"iceberg://({_NAME})/({_NAME}(?:\.{_NAME})+)")
_QUARANTINE = "_quarantine"


@dataclass(frozen=True, kw_only=True)
class TableAddress:
    """A catalog of pyiceberg's configuration, and in it the table of the scores; quarantine has a table beside it."""

    catalog: str
    scores: str

    @classmethod
    def parse(cls, uri: str) -> TableAddress:
        """Raises:  InputError: it is no such address. Where the catalog is and who may use it never stands in it."""
        refuse_credentials(uri)
        found = _ADDRESS.fullmatch(uri)
        if not found:
            expected = "iceberg://CATALOG/namespace.table, CATALOG as pyiceberg's configuration names it"
            raise InputError(f"--table: expected {expected}; got {redact(uri)!r}")
        if found[2].endswith(_QUARANTINE):
            raise InputError(f"--table: {found[2]!r} is the name of a quarantine; give that of the scores beside it")
        return cls(catalog=found[1], scores=found[2])

    @property
    def quarantine(self) -> str:
        return self.scores + _QUARANTINE

    def uri(self, name: str | None = None) -> str:
        """How messages name one of the tables; that of the scores where none is given."""
        return f"iceberg://{self.catalog}/{name or self.scores}"
