"""A folder, prefix or glob of image files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.schema import Reason
from pipeline.sources.items import Bad, PlanItem
from pipeline.storage import Root


def image_items(root: Root, files: Iterable[tuple[str, int | None]], *, base: str) -> Iterator[PlanItem]:
    """One item per file. `base` is the folder that paths are taken relative to for `--path-fields`."""
    prefix = base.rstrip("/") + "/"
    for path, num_bytes in files:
        yield PlanItem(
            image_uri=root.uri(path),
            path=path if root.is_local else str(root.fs.unstrip_protocol(path)),
            relative=path.removeprefix(prefix),
            num_bytes=num_bytes,
            bad=unreadable_name(path) if root.is_local else None,
        )


def unreadable_name(path: str) -> Bad | None:
    """What is wrong with a local file's name, if anything is: a table cannot hold it, so nobody could find the file."""
    if path == path.encode("utf-8", "replace").decode():
        return None
    return Bad(reason=Reason.BAD_NAME, message="the file's name is not UTF-8; rename it to have it scored")
