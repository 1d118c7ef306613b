"""Where the jobs' log lines go."""

from __future__ import annotations

import logging
import sys

_SECRETIVE = ("aiobotocore", "botocore", "s3fs", "fsspec")  # some tell where they found credentials
_TALKATIVE = ("torch", "matplotlib")


def log_to_stderr() -> None:
    """Ours from INFO on, with the time; of others, warnings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in (*_SECRETIVE, *_TALKATIVE):
        logging.getLogger(name).setLevel(logging.WARNING)
