"""Twins drawn once and kept as arrays on disk: a picture takes longer to draw than to learn from."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.embedded.world import Twins, twins
from pipeline.errors import RunError

_AT_ONCE = 250  # pictures of a task, which are drawn again where it was stopped
_BYTES_A_PIXEL = 7


@dataclass(frozen=True)
class Pool:
    """So many twins of a world, in a folder."""

    folder: Path
    seed: int
    count: int
    side: int
    crowds: float = 0.0
    """As of `world.twins`."""

    def __getitem__(self, number: int) -> Twins:
        """Twins number `number`, of the pool's count; beyond it they come again."""
        at = number % self.count
        normal, damaged, mask = (plane[at] for plane in self._planes)
        return Twins(normal, damaged, mask, *self._words[at])

    def draw(self, workers: int) -> None:
        """Draw those that an earlier call did not.

        Raises:  RunError: the disk has no room for them.
        """
        left = [part for part in self._parts if not self._words_of(part).exists()]
        if not left:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._refuse_small_disk(sum(map(len, left)))
        for name, dtype, depth in _PLANES:
            if not (path := self.folder / f"{name}.npy").exists():
                shape = (self.count, self.side, self.side, *depth)
                np.lib.format.open_memmap(path, "w+", dtype, shape).flush()
        with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as processes:
            list(processes.map(self._draw, left))

    def _refuse_small_disk(self, count: int) -> None:
        """Room is taken page by page, and a full disk under a memory map kills the process."""
        needed, free = _BYTES_A_PIXEL * count * self.side**2, shutil.disk_usage(self.folder).free
        if needed > free:
            raise RunError(
                f"{self.folder}: drawing {count} twins of {self.side} px needs {needed / 1e9:.1f} GB, "
                f"the disk has {free / 1e9:.1f} GB free"
            )

    def _draw(self, part: range) -> None:
        cv2.setNumThreads(1)
        planes = [np.lib.format.open_memmap(self.folder / f"{name}.npy", "r+") for name, _, _ in _PLANES]
        words = []
        for number in part:
            pair = twins(self.seed, number, self.side, crowds=self.crowds)
            for plane, value in zip(planes, (pair.normal, pair.damaged, pair.mask), strict=True):
                plane[number] = value
            words.append((pair.noun, pair.state))
        for plane in planes:
            plane.flush()
        path = self._words_of(part)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(words))
        partial.replace(path)

    @property
    def _parts(self) -> list[range]:
        return [range(start, min(start + _AT_ONCE, self.count)) for start in range(0, self.count, _AT_ONCE)]

    def _words_of(self, part: range) -> Path:
        """Written when the part is drawn."""
        return self.folder / f"words-{part.start:06d}.json"

    @cached_property
    def _planes(self) -> list[npt.NDArray[np.generic]]:
        return [np.load(self.folder / f"{name}.npy", mmap_mode="r") for name, _, _ in _PLANES]

    @cached_property
    def _words(self) -> list[tuple[str, str]]:
        return [tuple(words) for part in self._parts for words in json.loads(self._words_of(part).read_text())]


_PLANES = (("normal", np.uint8, (3,)), ("damaged", np.uint8, (3,)), ("mask", np.bool_, ()))
