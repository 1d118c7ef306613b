"""What every job returns: 0 done, 1 failed, 2 wrong use, 3 done, but too many bad images, 130 stopped.

Ctrl-C and SIGTERM stop a job.
"""

from __future__ import annotations

import signal
import sys

from cops.errors import CopsError, is_wrong_use
from cops.terminal import printable
from pipeline.errors import InputError

DONE, FAILED, WRONG_USE, TOO_MANY_BAD = 0, 1, 2, 3
INTERRUPTED = 130  # as shells say of what Ctrl-C stopped


def stop_on_sigterm() -> None:
    """As Ctrl-C does: a scheduler, or a cluster that takes a machine back, lets a job end in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def fail(error: CopsError) -> int:
    """Say what went wrong on stderr, without a traceback; the exit code that it means."""
    print(f"error: {printable(str(error))}", file=sys.stderr)
    return WRONG_USE if isinstance(error, InputError) or is_wrong_use(error) else FAILED
