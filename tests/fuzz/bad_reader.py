"""A process whose reader hangs, dies, takes memory and raises: what the parent is tested on."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import workers
from mutate import Mutant, mutant

SEED, COUNT = 5, 6


def work(*arguments: object) -> None:
    """The body of such a process."""
    workers._limited_reader = _bad_reader
    workers._work(*arguments)


def _bad_reader() -> Callable[[Mutant, Path], object]:
    """Input 1 hangs, 2 kills its process, 3 takes 300 MiB, 4 raises; the others are read."""
    numbers = {(made.plan, made.data): number for number in range(COUNT) for made in [mutant(SEED, number)]}

    def read(one: Mutant, folder: Path) -> object:
        number = numbers[one.plan, one.data]
        if number == 1:
            time.sleep(600)
        if number == 2:
            os.abort()
        if number == 3:
            bytearray(b"x") * (300 * 2**20)
        if number == 4:
            raise KeyError("odd")
        return SimpleNamespace(outcome="read", pictures=Counter())

    return read
