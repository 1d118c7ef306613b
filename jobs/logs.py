"""Where the jobs' log lines go."""

from __future__ import annotations

import logging
import sys

from cops.terminal import printable

_SECRETIVE = ("aiobotocore", "botocore", "s3fs", "fsspec")  # some tell where they found credentials
_TALKATIVE = ("torch", "matplotlib")


class _OneLine(logging.Formatter):
    """A message is one line, whatever names and errors stand in it; a traceback may follow."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's name
        return printable(super().formatMessage(record))


def log_to_stderr() -> None:
    """Ours from INFO on, with the time; of others, warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in (*_SECRETIVE, *_TALKATIVE):
        logging.getLogger(name).setLevel(logging.WARNING)
