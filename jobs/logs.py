"""Where the jobs' log lines go."""

from __future__ import annotations

import logging
import sys

from cops.shown import shown

_SECRETIVE = ("aiobotocore", "botocore", "s3fs", "fsspec")  # some tell where they found credentials
_TALKATIVE = ("torch", "matplotlib", "pyiceberg")


class OneLine(logging.Formatter):
    """A message is one line, whatever names stand in it; a traceback below it keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's name
        return shown(super().formatMessage(record))


def log_to_stderr() -> None:
    """Ours from INFO on, with the time; of others, warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in (*_SECRETIVE, *_TALKATIVE):
        logging.getLogger(name).setLevel(logging.WARNING)
