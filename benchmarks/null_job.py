"""The whole scoring job with a model that looks at nothing: what is left is the pipeline.

`python benchmarks/null_job.py OUTPUT INPUT…`: the other benchmarks start it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import cops
import pipeline.run
import pipeline.write
from pipeline.config import ScoreConfig
from pipeline.execution import connect, plan_execution
from pipeline.model import SharedModel
from pipeline.scorer import Scorer
from pipeline.write import PartWriter, Receipt


class NullDetector:
    """Scores that depend on nothing but the first pixel."""

    def __init__(self, model_id: str, grid: int) -> None:
        self.model_id, self.grid = model_id, grid

    def predict(self, images: Any, *, batch_size: int | None = None) -> cops.Prediction:  # noqa: ARG002
        score = images[:, 0, 0, 0].astype(np.float32) / 255
        patches = np.broadcast_to(score[:, None, None], (len(images), self.grid, self.grid))
        return cops.Prediction(pred_score=score, class_score=score, patch_scores=np.ascontiguousarray(patches))


def build_null(model: SharedModel, device: str, threads: int) -> partial[NullDetector]:  # noqa: ARG001
    return partial(NullDetector, model.card.model_id, model.card.image_size // 12)


class UncountedScorer(Scorer):
    """Tells Prometheus nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._meter = self  # type: ignore[assignment]

    def batch(self, images: int) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        return contextlib.nullcontext()


class UncountedWriter(PartWriter):
    """The same."""

    def write(self, blocks: Any, ctx: Any) -> Receipt:
        pipeline.write.tell_written = lambda *_: None
        return super().write(blocks, ctx)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--uncounted", action="store_true", help="without metrics for Prometheus")
    options = parser.parse_args()
    pipeline.run.builder = build_null  # type: ignore[assignment]
    if options.uncounted:
        pipeline.run.Scorer = UncountedScorer  # type: ignore[misc]
        pipeline.run.PartWriter = UncountedWriter  # type: ignore[misc]
    config = ScoreConfig(
        inputs=tuple(options.inputs),
        output=options.output,
        run_id="null",
    )
    connect()
    execution = plan_execution(config)
    share = execution.num_cpus / options.actors  # a model that looks at nothing needs no processor of its own
    execution = replace(execution, min_actors=options.actors, max_actors=options.actors, num_cpus=share)
    pipeline.run.score(config, execution=execution)


if __name__ == "__main__":
    main()
