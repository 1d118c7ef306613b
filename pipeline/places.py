"""Where a run reads and writes, looked at before Ray takes its seconds to start."""

from __future__ import annotations

import stat
from pathlib import Path

from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.sources.walk import MAGIC
from pipeline.storage import open_root, redact


def check_output(config: ScoreConfig) -> None:
    """Raises:  InputError: the output is, or lies in, something of this machine that is no folder; or it reads as a
    pattern, which a store's client would take for other outputs, too, when a folder of ours is removed.
    """
    output = open_root(config.output)
    if not output.is_local and any(char in output.path for char in MAGIC):
        raise InputError(f"--output: expected one place, got a pattern: {output.uri()}")
    above = [Path(output.path), *Path(output.path).parents] if output.is_local else []
    if found := next((path for path in above if (mode := _mode(path)) and not stat.S_ISDIR(mode)), None):
        raise InputError(f"--output: expected a folder, {found} is none")


def check_inputs(config: ScoreConfig) -> None:
    """Stores are asked when they are listed.

    Raises:  InputError: an input on this machine is not there.
    """
    for uri in config.inputs:
        root = open_root(uri)
        if root.is_local and not any(char in root.path for char in MAGIC) and _mode(Path(root.path)) is None:
            raise InputError(f"{redact(uri)}: no such file, folder or prefix")


def _mode(path: Path) -> int | None:
    """What a path is, in the bits of `stat`; None where nothing is there, 0 where it may not be looked at."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return 0
