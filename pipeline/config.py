"""What a scoring run is asked to do; jobs/score.py makes its flags from these fields."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.iceberg.address import TableAddress
from pipeline.layout import check_run_id
from pipeline.paths import PathTemplate
from pipeline.storage import refuse_credentials, require_local

DatasetName = Literal[
    "mvtec-ad",
    "visa",
    "btad",
    "mpdd",
    "dtd-synthetic",
    "headct",
    "brainmri",
    "br35h",
    "isic",
    "cvc-colondb",
    "cvc-clinicdb",
    "kvasir",
    "endo",
    "plain",  # labelled images of one's own
]
Format = Literal["auto", "images", "webdataset", "parquet", "manifest", DatasetName]
Method = Literal["cops", "clip"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Device = Literal["auto", "cpu", "cuda"]

_ACTORS = re.compile(r"(\d+)(?::(\d+))?")


def new_run_id() -> str:
    """The date and time, in UTC, fit for a folder's name."""
    return datetime.datetime.now(datetime.UTC).strftime("run-%Y-%m-%dT%H-%M-%SZ")


def check_threshold(name: str, value: float) -> None:
    """Raises:  InputError: no score can be compared with it."""
    if not 0 <= value <= 1:
        raise InputError(f"{name}: scores lie in 0..1, so a threshold does; got {value}")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """One run of jobs/score.py. Raises InputError where a value cannot be meant."""

    inputs: tuple[str, ...]
    output: str = "out/"
    model: str = "embedded"
    clip_weights: str | None = None
    run_id: str = field(default_factory=new_run_id)
    format: Format = "auto"
    method: Method = "cops"
    incremental: bool = False
    category: str | None = None
    path_fields: str | None = None
    keep_columns: tuple[str, ...] = ()
    image_column: str | None = None
    thresholds: str | None = None
    image_threshold: float | None = None
    pixel_threshold: float | None = None
    batch_size: int | None = None
    actors: str | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    max_error_fraction: float = 0.01
    limit: int | None = None
    table: str | None = None
    decode: DecodeRules = field(default_factory=DecodeRules)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError("no --input given")
        given = [("--output", self.output), ("--model", self.model), *(("--input", uri) for uri in self.inputs)]
        if empty := [name for name, text in given if not text.strip()]:
            raise InputError(f"{empty[0]}: expected a path or URI, got an empty one; is a variable not set?")
        check_run_id(self.run_id)
        if self.thresholds and (self.image_threshold is not None or self.pixel_threshold is not None):
            raise InputError("give --thresholds or --image-threshold and --pixel-threshold, not both")
        for name, value in (("--image-threshold", self.image_threshold), ("--pixel-threshold", self.pixel_threshold)):
            if value is not None:
                check_threshold(name, value)
        if not 0 <= self.max_error_fraction <= 1:
            raise InputError(f"--max-error-fraction: expected a number from 0 to 1, got {self.max_error_fraction}")
        for name, count in (("--limit", self.limit), ("--batch-size", self.batch_size)):
            if count is not None and count < 1:
                raise InputError(f"{name}: expected 1 or more, got {count}")
        for uri in filter(None, (*self.inputs, self.output, self.model, self.thresholds)):
            refuse_credentials(uri)
        require_local("--clip-weights", self.clip_weights)
        if self.table is not None:
            TableAddress.parse(self.table)
        template = self.path_template
        if self.category is not None and template and "category" in template.fields:
            raise InputError("--category and {category} in --path-fields say two things about one column; give one")
        self.actor_range()

    @property
    def is_dataset(self) -> bool:
        """Whether the inputs are labelled datasets in their own layouts."""
        return self.format in get_args(DatasetName)

    @property
    def path_template(self) -> PathTemplate | None:
        return PathTemplate(self.path_fields) if self.path_fields else None

    def actor_range(self) -> tuple[int, int] | None:
        """--actors as (min, max); one number means exactly that many."""
        if self.actors is None:
            return None
        found = _ACTORS.fullmatch(self.actors)
        low = int(found[1]) if found else 0
        high = int(found[2] or low) if found else 0
        if not 1 <= low <= high:
            raise InputError(f"--actors: expected MIN:MAX with 1 <= MIN <= MAX, such as 1:4; got {self.actors!r}")
        return low, high
