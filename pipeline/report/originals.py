"""From a table's rows back to their pictures, for a report: which has more to tell, and does not wait for a store."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from cops.errors import CopsError
from pipeline.decode import DecodeRules
from pipeline.originals import Missing, read_encoded
from pipeline.report.picks import Pick
from pipeline.store_errors import describe

WITHIN_S = 120.0
"""After so long no further shard or store is asked: what was not read by then is shown as a map alone."""

log = logging.getLogger(__name__)


def originals(
    picks: Sequence[Pick], rules: DecodeRules, *, within_s: float = WITHIN_S
) -> Iterator[tuple[int, bytes | Missing]]:
    """Each pick's number and its picture's bytes, in an order of our own: shard by shard and store by store.

    Args:    picks: of one run.
    """
    deadline = time.monotonic() + within_s
    places: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(picks):
        places[one.row["shard"] or _store_of(one.row["image_uri"])].append(at)
    for place, members in places.items():
        if time.monotonic() > deadline:
            late = Missing("not_read", f"not read: the pictures before it took {within_s:.0f} s")
            yield from ((at, late) for at in members)
        else:
            yield from _of_place(place, members, picks, rules)


def _store_of(uri: str) -> str:
    protocol, is_uri, rest = uri.partition("://")
    return f"{protocol}://{rest.partition('/')[0]}" if is_uri else ""


def _of_place(
    place: str, members: Sequence[int], picks: Sequence[Pick], rules: DecodeRules
) -> Iterator[tuple[int, bytes | Missing]]:
    """Of one shard, or of one store's files."""
    named = picks[members[0]].run.record["config"].get("image_column")
    left = list(members)
    try:
        rows = (picks[at].row for at in members)
        column = named if isinstance(named, str) else None
        for row, data in read_encoded(rows, max_bytes=rules.max_bytes, image_column=column):
            yield left.pop(0), _explained(data, row["image_uri"])
    except (CopsError, OSError) as exc:
        log.warning("no pictures from %s: %s", place or "this machine", describe(exc))
        failed = Missing("read_error", f"its store does not give it: {describe(exc)}")
        yield from ((at, failed) for at in left)


def _explained(data: bytes | Missing, uri: str) -> bytes | Missing:
    if isinstance(data, Missing) and uri.lower().startswith("http"):
        return Missing(data.reason, f"{data.message}; a signed address is kept without its signature")
    return data
