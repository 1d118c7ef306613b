"""What the world does to a run (stores, networks, lost machines), in one line and with a way on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import duckdb
import pyarrow as pa
from ray.exceptions import RayError

from cops.errors import CopsError
from pipeline.errors import RunError
from pipeline.store_errors import describe, without_secrets

_WORLD = (OSError, RayError, pa.ArrowException, duckdb.Error)
_CLIENTS = frozenset({"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "ray"})  # roots of their own

T = TypeVar("T")
log = logging.getLogger(__name__)


@contextlib.contextmanager
def as_run_errors(way_on: str, *, what: str = "the run stopped") -> Iterator[None]:
    """Args:    what: how the error begins.
    Raises:  RunError: in place of what Ray, a store or its client raised; says the way on, too.
    """
    try:
        yield
    except Exception as exc:
        if not is_of_the_world(exc):
            raise
        log.debug("%s", what, exc_info=True)
        cause = describe(exc) if not isinstance(exc, RayError) else innermost(exc)
        raise RunError(f"{what}: {cause}. {way_on}") from exc


def after_the_commit(action: Callable[[], T], *, otherwise: T, but: str) -> T:
    """What an action gives, or what to take instead: the run is committed, and what the world does is warned of."""
    try:
        return action()
    except Exception as exc:
        if not (isinstance(exc, CopsError) or is_of_the_world(exc)):
            raise
        log.warning("the run is committed, but %s: %s", but, describe(exc))
        return otherwise


def is_of_the_world(exc: BaseException) -> bool:
    """Whether it says something of stores and machines, and not of a mistake of ours."""
    return isinstance(exc, _WORLD) or type(exc).__module__.partition(".")[0] in _CLIENTS


def innermost(error: BaseException) -> str:
    """The first cause, in one line. Ray sends errors home as text: a traceback for each, the cause's own first."""
    first = str(error).partition("The above exception was the direct cause")[0]
    return without_secrets(first.strip().rpartition("\n")[2]) or type(error).__name__
