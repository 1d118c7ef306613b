"""What a plan row asks for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipeline.decode import ImageRejected
from pipeline.schema import Reason

Fetched = bytes | ImageRejected

_BY_HOST = ("http", "https", "abfs", "abfss", "az")


@dataclass(frozen=True)
class Request:
    """What one plan row asks for; the fields are the plan's."""

    kind: str
    path: str
    offset: int | None = None
    row: int | None = None
    row_group: int | None = None
    image_column: str | None = None
    num_bytes: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What can be fetched together: files of one store, or pictures of one shard."""
        if self.kind != "file":
            return self.kind, self.path
        protocol, is_uri, rest = self.path.partition("://")
        host = rest.partition("/")[0] if protocol in _BY_HOST else ""
        return self.kind, f"{protocol}://{host}" if is_uri else "file"

    def follows(self, other: Request) -> bool:
        """Whether one stream over an image column comes to this cell after the other."""
        same = (self.path, self.row_group, self.image_column) == (other.path, other.row_group, other.image_column)
        return same and self.kind == other.kind == "cell" and (other.row or 0) < (self.row or 0)


def requests_of(rows: pa.Table) -> list[Request]:
    columns = (rows[name].to_pylist() for name in Request.__dataclass_fields__)
    return [Request(*values) for values in zip(*columns, strict=True)]


def too_large(max_bytes: int) -> ImageRejected:
    return ImageRejected(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes (--max-bytes)")
