"""Score an image archive into Parquet tables: `python jobs/score.py --input URI --output URI`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.decoding import Decoding
from jobs.exits import DONE, INTERRUPTED, TOO_MANY_BAD, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.config import Device, Format, Precision, ScoreConfig, new_run_id
from pipeline.errors import InputError

Repeatable = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
SAMPLES = Path("samples/images")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score every image of an archive, once, into tables that SQL reads.

    Exit codes: 0 done; 1 failed, and the same command with the same --run-id goes on; 2 wrong use; 3 done, but too many
    bad images; 130 stopped by Ctrl-C or SIGTERM.
    """

    input: Repeatable = ()
    """A folder, prefix or glob of images; .tar shards; Parquet with image bytes; or a manifest (.parquet, .csv, .jsonl)
    with a uri column. Any fsspec URI; may be given again. Default: the sample archive that `make score` writes."""

    output: str = "out/"
    """Root of the tables: scores/, quarantine/ and runs/ beneath it. Any fsspec URI."""

    model: str = "embedded"
    """A CoPS checkpoint, local or in a store, or the name of the packaged one."""

    clip_weights: str | None = None
    """A local file of CLIP weights, for a checkpoint that has none of its own. Its checksum is checked."""

    run_id: str | None = None
    """Name of the run; the same again resumes it. Default: the date and time."""

    format: Format = "auto"
    """What the inputs are, where recognising them is not wanted. A dataset's name reads its own layout, and its labels,
    defects and masks' URIs become columns; `plain` is a labelled folder or manifest of one's own."""

    incremental: bool = False
    """Skip images that an earlier committed run scored with the same model and content."""

    category: str | None = None
    """The category of all images."""

    path_fields: str | None = None
    """Columns read from the path below the input, matched from its end: '{line}/{category}/{date}/{name}'."""

    keep_columns: str | None = None
    """Columns of a manifest or Parquet input, or fields of WebDataset .json files, to keep: a,b,c."""

    image_column: str | None = None
    """The column of image bytes, where a Parquet input has several."""

    thresholds: str | None = None
    """Thresholds per category, or by other columns, too: a table from jobs/calibrate.py, of the same model."""

    image_threshold: float | None = None
    """Images that score this or more are labelled anomalous. Without thresholds labels and masks are null."""

    pixel_threshold: float | None = None
    """Pixels of the anomaly map of this or more make the mask."""

    batch_size: int | None = None
    """Images the model takes at once. Default: fit for the device."""

    actors: str | None = None
    """Model actors, MIN:MAX. Default: up to one a GPU, or to half of the CPUs. A cluster that grows is asked for
    MIN, and grows to MAX."""

    device: Device = "auto"
    """Where the model runs."""

    precision: Precision = "auto"
    """Of the model's large products; auto is float32. int8 is for CPUs. Scores differ: docs/performance.md."""

    max_error_fraction: float = 0.01
    """More bad images than this share of the planned ones ends the run with exit code 3, all good rows kept. Where
    --incremental meets bad images that earlier runs had in quarantine, they do not count."""

    limit: int | None = None
    """Only the first N images."""

    table: str | None = None
    """Publish the committed run into Iceberg tables, too: iceberg://CATALOG/namespace.table for the scores, and beside
    it table_quarantine. CATALOG is one of pyiceberg's configuration; docs/iceberg.md."""

    dry_run: bool = False
    """Show what would be done: images, model, estimated time. Writes nothing."""

    top: int = 12
    """How many of the highest scores to show, as a table and as a contact sheet; 0 for none."""

    decoding: tyro.conf.OmitArgPrefixes[Decoding] = field(default_factory=Decoding)

    def config(self) -> ScoreConfig:
        """Raises:  InputError: options that cannot be meant."""
        if not self.input and not SAMPLES.is_dir():
            raise InputError("no --input, and no sample archive here; `make score` or jobs/make_samples.py writes one")
        if self.top < 0:
            raise InputError(f"--top: expected 0 or more, got {self.top}")
        return ScoreConfig(
            inputs=self.input or (str(SAMPLES),),
            output=self.output,
            model=self.model,
            clip_weights=self.clip_weights,
            run_id=new_run_id() if self.run_id is None else self.run_id,
            format=self.format,
            incremental=self.incremental,
            category=self.category,
            path_fields=self.path_fields,
            keep_columns=tuple(name.strip() for name in (self.keep_columns or "").split(",") if name.strip()),
            image_column=self.image_column,
            thresholds=self.thresholds,
            image_threshold=self.image_threshold,
            pixel_threshold=self.pixel_threshold,
            batch_size=self.batch_size,
            actors=self.actors,
            device=self.device,
            precision=self.precision,
            max_error_fraction=self.max_error_fraction,
            limit=self.limit,
            table=self.table,
            decode=self.decoding.rules(),
        )


def main(options: Options) -> int:
    log_to_stderr()
    stop_on_sigterm()
    try:
        config = options.config()
        return show(config) if options.dry_run else score(config, top=options.top)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def show(config: ScoreConfig) -> int:
    from pipeline import summary  # noqa: PLC0415 -- Ray and torch take seconds: after the options are known good

    print(summary.dry_run(config))
    return DONE


def score(config: ScoreConfig, *, top: int) -> int:
    from pipeline import summary  # noqa: PLC0415 -- as above

    try:
        report = summary.score_and_report(config, top=top)
    except KeyboardInterrupt:
        print(f"stopped. What is scored is kept; --run-id {config.run_id} goes on with it", file=sys.stderr)
        return INTERRUPTED
    print(report.text, flush=True)
    if report.not_published:
        return fail(report.not_published)
    return TOO_MANY_BAD if report.too_many_bad else DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
