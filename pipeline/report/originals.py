"""From a table's row back to the picture it was made from, or why that is not shown.

The plan is gone with the commit, so a member of a shard is looked up in the shard again. What is read is held against
the row's content hash: a picture that was replaced since is not shown under another one's map.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cops.errors import CopsError
from pipeline.decode import DecodeRules, ImageRejected
from pipeline.read import fetched_portions
from pipeline.report.picks import Pick
from pipeline.request import Request
from pipeline.sources.items import PlanItem
from pipeline.sources.parquet import choose_image_column, index_parquet, read_schema
from pipeline.sources.webdataset import index_tar
from pipeline.storage import IMAGE_PROTOCOLS, has_credentials, open_root
from pipeline.store_errors import describe

WITHIN_S = 120.0
"""After so long no further shard or store is asked: what was not read by then is shown as a map alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Missing:
    """In place of a picture's bytes."""

    why: str


def originals(
    picks: Sequence[Pick], rules: DecodeRules, *, within_s: float = WITHIN_S
) -> Iterator[tuple[int, bytes | Missing]]:
    """Each pick's number and its picture's bytes, in an order of our own; some 64 MB at once at most."""
    deadline = time.monotonic() + within_s
    places: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(picks):
        places[one.row["shard"] or _store_of(one.row["image_uri"])].append(at)
    for place, members in places.items():
        if time.monotonic() > deadline:
            yield from ((at, Missing(f"not read: the pictures before it took {within_s:.0f} s")) for at in members)
            continue
        yield from _of_place(place, [(at, picks[at]) for at in members], rules)


def _store_of(uri: str) -> str:
    protocol, is_uri, rest = uri.partition("://")
    return f"{protocol}://{rest.partition('/')[0]}" if is_uri else ""


def _of_place(
    place: str, members: Sequence[tuple[int, Pick]], rules: DecodeRules
) -> Iterator[tuple[int, bytes | Missing]]:
    """Of one shard, or of one store's files."""
    left = dict(members)
    try:
        asked: list[tuple[int, Request]] = []
        for at, found in _requests(members):
            if isinstance(found, Missing):
                yield at, found
                del left[at]
            else:
                asked.append((at, found))
        for portion, outcomes in fetched_portions([request for _, request in asked], max_bytes=rules.max_bytes):
            for (at, _), outcome in zip(asked[portion], outcomes, strict=True):
                yield at, _checked(outcome, left.pop(at).row)
    except (CopsError, OSError) as exc:  # a store that does not answer: the report has more to tell than pictures
        log.warning("no pictures from %s: %s", place or "this machine", describe(exc))
        yield from ((at, Missing(f"its store does not give it: {describe(exc)}")) for at in left)


def _checked(outcome: bytes | ImageRejected, row: Mapping[str, Any]) -> bytes | Missing:
    if isinstance(outcome, ImageRejected):
        is_web = row["image_uri"].lower().startswith("http")
        hint = "; a signed address is kept without its signature" if is_web else ""
        return Missing(f"{outcome}{hint}")
    if hashlib.sha256(outcome).hexdigest() != row["content_hash"]:
        return Missing("it is another picture by now: its content hash is not the one that was scored")
    return outcome


def _requests(members: Sequence[tuple[int, Pick]]) -> list[tuple[int, Request | Missing]]:
    """What to read for each; members of a shard by where they lie in it, in this order.

    Raises:  StoreError: the store does not answer.
    """
    first = members[0][1]
    shard = first.row["shard"]
    if shard is None:
        return [(at, _of_file(one.row)) for at, one in members]
    if refusal := _refusal(shard):
        return [(at, refusal) for at, _ in members]
    wanted = {one.row["image_uri"] for _, one in members}
    items: dict[str, PlanItem] = {}
    for item in _index(shard, first):
        if item.image_uri in wanted and item.bad is None:
            items.setdefault(item.image_uri, item)
    found = [(at, _of_member(items.get(one.row["image_uri"]))) for at, one in members]
    return sorted(found, key=lambda one: (one[1].row or 0) if isinstance(one[1], Request) else -1)


def _of_file(row: Mapping[str, Any]) -> Request | Missing:
    uri = row["image_uri"]
    return _refusal(uri) or Request(kind="file", path=uri, num_bytes=row["num_bytes"])


def _refusal(uri: str) -> Missing | None:
    """What is in a table is data: it leads to no other places than a manifest might."""
    protocol = uri.partition("://")[0] if "://" in uri else None
    if "::" in uri or (protocol and protocol not in IMAGE_PROTOCOLS) or has_credentials(uri):
        return Missing("its address is none that a run reads")
    try:
        open_root(uri)
    except CopsError as exc:  # a package is missing, for one
        return Missing(str(exc))
    return None


def _of_member(item: PlanItem | None) -> Request | Missing:
    if item is None:
        return Missing("its shard has it no more, or cannot be read")
    return Request(
        kind=item.kind, path=item.path, offset=item.offset, row=item.row, row_group=item.row_group,
        image_column=item.image_column, num_bytes=item.num_bytes,
    )  # fmt: skip


def _index(shard: str, one: Pick) -> list[PlanItem]:
    if not shard.lower().endswith(".parquet"):
        return index_tar(shard, wanted_fields=())
    root = open_root(shard)
    schema = read_schema(root, root.path)
    if schema is None:
        return []
    named = one.run.record["config"].get("image_column")
    column = choose_image_column(schema, root.uri(), named if isinstance(named, str) else None)
    return index_parquet(shard, wanted_fields=(), image_column=column)
