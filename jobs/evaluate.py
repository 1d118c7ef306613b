"""Evaluate a labelled dataset beside the paper: `python jobs/evaluate.py --dataset visa --data URI --output URI`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.decoding import Decoding
from jobs.exits import DONE, INTERRUPTED, TOO_MANY_BAD, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.config import DatasetName, Device, Precision, new_run_id


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score a labelled dataset and measure, per category and in the mean: I-AUROC, I-AP, I-F1-max, P-AUROC, P-AP,
    P-F1-max and AUPRO@0.3, beside the paper's figures. docs/evaluation.md says what each is.

    Exit codes: 0 done; 1 failed, and the same command with the same --run-id goes on; 2 wrong use; 3 done, but too many
    bad images; 130 stopped by Ctrl-C or SIGTERM.
    """

    dataset: DatasetName
    """The dataset, which says how it is laid out; `plain` is a labelled folder or manifest of one's own."""

    data: str
    """Its folder, or for `plain` a manifest with uri, label and perhaps mask_uri and category. Any fsspec URI."""

    output: str = "out/"
    """Root of the tables: scores/, quarantine/ and runs/ as of jobs/score.py, and evaluations/ beneath it."""

    model: str = "embedded"
    """A CoPS checkpoint, local or in a store, or the name of the packaged one."""

    clip_weights: str | None = None
    """A local file of CLIP weights, for a checkpoint that has none of its own."""

    baseline: bool = False
    """Score with plain zero-shot CLIP too: the same backbone, hand-written prompts, nothing that CoPS learned."""

    run_id: str | None = None
    """Name of the run; the same again resumes it, or measures anew what it scored. Default: the date and time."""

    batch_size: int | None = None
    """Images the model takes at once. Default: fit for the device."""

    actors: str | None = None
    """Model actors, MIN:MAX. Default: up to one a GPU, or to half of the CPUs."""

    device: Device = "auto"
    """Where the model runs."""

    precision: Precision = "auto"
    """Of the model's large products; auto is float32. int8 is for CPUs. Scores differ: docs/performance.md."""

    max_error_fraction: float = 0.01
    """More images in quarantine than this share ends with exit code 3, every table written all the same."""

    limit: int | None = None
    """Only N images, taken from each category's normal and anomalous ones in turn."""

    decoding: tyro.conf.OmitArgPrefixes[Decoding] = field(default_factory=Decoding)


def main(options: Options) -> int:
    log_to_stderr()
    stop_on_sigterm()
    run_id = new_run_id() if options.run_id is None else options.run_id
    try:
        return _evaluate(options, run_id)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print(f"stopped. What is scored is kept; --run-id {run_id} goes on with it", file=sys.stderr)
        return INTERRUPTED


def _evaluate(options: Options, run_id: str) -> int:
    from pipeline.evaluation import output  # noqa: PLC0415 -- Ray and torch take seconds: after the options are known
    from pipeline.evaluation.evaluate import EvaluateConfig  # noqa: PLC0415

    given = vars(options) | {"run_id": run_id}
    rules = given.pop("decoding").rules()
    report = output.evaluate_and_report(EvaluateConfig(**given, decode=rules))
    print(report.text)
    return TOO_MANY_BAD if report.too_many_bad else DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
