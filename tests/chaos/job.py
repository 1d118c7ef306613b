"""jobs/score.py with a detector that notes how many pictures it scored, and runs out of memory where it is told to.

`python tests/chaos/job.py FOLDER [options of jobs/score.py]`. In FOLDER every actor appends to a file of its own; where
there is a file `out-of-memory`, an actor takes it away and raises what a full GPU raises.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import tyro

import cops
import pipeline.run
from jobs.score import Options, main
from pipeline.model import SharedModel
from pipeline.model import builder as real_builder

OUT_OF_MEMORY = "out-of-memory"


class Watched:
    """A detector and its note of what it scored."""

    def __init__(self, detector: Any, folder: Path) -> None:
        self.detector, self.folder = detector, folder
        self.model_id = detector.model_id

    def predict(self, images: np.ndarray, *, batch_size: int | None = None) -> cops.Prediction:
        try:
            (self.folder / OUT_OF_MEMORY).unlink()
        except FileNotFoundError:
            pass
        else:
            raise torch.OutOfMemoryError("CUDA out of memory (so the chaos harness says)")
        found = self.detector.predict(images, batch_size=batch_size)
        with (self.folder / f"scored-{os.getpid()}").open("a") as note:
            note.write(f"{len(images)}\n")
        return found


def _watched(build: Any, folder: Path) -> Watched:
    return Watched(build(), folder)


def watched_builder(folder: Path, model: SharedModel, device: str, threads: int) -> partial[Watched]:
    return partial(_watched, real_builder(model, device, threads), folder)


if __name__ == "__main__":
    notes = Path(sys.argv.pop(1))
    pipeline.run.builder = partial(watched_builder, notes)  # type: ignore[assignment]
    sys.exit(main(tyro.cli(Options)))
