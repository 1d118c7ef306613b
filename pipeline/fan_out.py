"""Work that is handed out to Ray tasks piece by piece, and comes back in order; a bounded number is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

_MOST_AHEAD = 64  # tasks in flight; of counts of pixels, 1.5 MB each

Key = TypeVar("Key")
Piece = TypeVar("Piece")
Found = TypeVar("Found")


def in_tasks(
    work: Callable[[Piece], Found], pieces: Iterable[tuple[Key, Piece]], *, memory: int
) -> Iterator[tuple[Key, Found]]:
    """What `work` makes of each piece, beside the piece's key.

    Args:    memory: bytes that a task reserves.
    Raises:  what `work` raises, as itself.
    """
    task = ray.remote(_done).options(num_cpus=1, memory=memory)
    ahead = min(_MOST_AHEAD, 2 * max(1, int(ray.cluster_resources().get("CPU", 1))))
    shared = ray.put(work)
    waiting: deque[tuple[Key, ray.ObjectRef]] = deque()
    for key, piece in pieces:
        if len(waiting) == ahead:
            yield _finished(*waiting.popleft())
        waiting.append((key, task.remote(shared, piece)))
    while waiting:
        yield _finished(*waiting.popleft())


def _done(work: Callable[[Any], Any], piece: Any) -> Any:
    return work(piece)


def _finished(key: Key, reference: ray.ObjectRef) -> tuple[Key, Any]:
    try:
        return key, ray.get(reference)
    except ray.exceptions.RayTaskError as exc:
        raise exc.cause or exc from exc
