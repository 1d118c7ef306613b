"""What a training is asked to do, checked before anything is read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from cops.checkpoint import EMBEDDED
from cops.config import profile_named
from cops.training.recipe import RECIPES, Recipe
from pipeline.config import DatasetName, Device
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.storage import open_root, refuse_credentials, require_local

Metric = Literal["image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "loss"]
LOSS: Metric = "loss"  # the one metric that needs no validation set; lower is better
NO_CACHE = "none"


@dataclass(frozen=True, kw_only=True)
class Data:
    """A labelled dataset: one of the paper's by name, or `plain` for one's own, and where it lies."""

    name: DatasetName
    uri: str

    def check(self, flag: str) -> None:
        """Raises:  InputError: there is no such dataset, or the URI cannot be meant."""
        if self.name not in get_args(DatasetName):
            raise InputError(f"{flag}: unknown dataset {self.name!r}; there are {', '.join(get_args(DatasetName))}")
        if not self.uri.strip():
            raise InputError(f"{flag} {self.name}: expected where it lies, got an empty path; is a variable not set?")
        refuse_credentials(self.uri)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Whose CLIP the prompts are trained on: a checkpoint's, or a backbone of open_clip with its weights."""

    model: str = EMBEDDED
    backbone: str | None = None
    pretrained: str | None = None
    clip_weights: str | None = None
    clip_sha256: str | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.backbone is None and self.pretrained is not None:
            raise InputError("--pretrained goes with --backbone: a checkpoint names its own weights")
        if self.backbone is None and self.clip_sha256 is not None:
            raise InputError("--clip-sha256 goes with --backbone: a checkpoint records its own")
        if self.backbone is not None and self.model != EMBEDDED:
            raise InputError("give --model or --backbone, not both")
        if not self.model.strip():
            raise InputError("--model: expected a path or URI, got an empty one; is a variable not set?")
        refuse_credentials(self.model)
        require_local("--clip-weights", self.clip_weights)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of jobs/train.py. Raises InputError where a value cannot be meant."""

    data: Data
    output: str
    start: Start = field(default_factory=Start)
    recipe: str = "visa"
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe to set otherwise."""
    constants: dict[str, float] = field(default_factory=dict)
    """k, α and β where the profile's are not wanted."""
    validation: Data | None = None
    metric: Metric | None = None
    workers: int | None = None
    device: Device = "auto"
    cache: str | None = None
    max_error_fraction: float = 0.01
    decode: DecodeRules = field(default_factory=DecodeRules)

    def __post_init__(self) -> None:
        self.data.check("--dataset")
        if self.recipe not in RECIPES:
            raise InputError(f"--recipe: unknown recipe {self.recipe!r}; there are {', '.join(RECIPES)}")
        if self.validation:
            self.validation.check("--validation-dataset")
        if self.metric not in (None, *get_args(Metric)):
            raise InputError(f"--metric: expected one of {', '.join(get_args(Metric))}, got {self.metric!r}")
        if self.metric not in (None, LOSS) and self.validation is None:
            raise InputError(f"--metric {self.metric} needs a validation set: --validation-dataset, --validation-data")
        if not 0 <= self.max_error_fraction <= 1:
            raise InputError(f"--max-error-fraction: expected a number from 0 to 1, got {self.max_error_fraction}")
        for flag, folder in (("--output", self.output), ("--cache", self.cache)):
            _check_folder(flag, folder)
        workers, batch = self.workers, self.find_recipe().batch_size
        if workers is not None and not 1 <= workers <= batch:
            raise InputError(f"--workers: expected 1 to {batch}, the images of a batch, got {workers}")

    def with_full_paths(self) -> TrainConfig:
        """The same, as workers with other working directories understand it."""
        names = ("model", "backbone", "clip_weights")
        places = {name: _full_path(getattr(self.start, name)) for name in names}
        places["model"] = self.start.model if self.start.model == EMBEDDED else places["model"]
        cache = self.cache if self.cache == NO_CACHE else _full_path(self.cache, may_be_new=True)
        output = _full_path(self.output, may_be_new=True)
        start = dataclasses.replace(self.start, **places)
        return dataclasses.replace(self, start=start, output=output, cache=cache)

    def count_workers(self, gpus: int) -> int:
        """As many as asked for; else one a GPU, at most one an image of a batch; one without GPUs."""
        if self.workers is not None:
            return self.workers
        return 1 if self.device == "cpu" else max(1, min(gpus, self.find_recipe().batch_size))

    def find_recipe(self) -> Recipe:
        """Raises:  ConfigError: a number of it is out of range."""
        return dataclasses.replace(RECIPES[self.recipe], **self.overrides)

    @property
    def chosen_by(self) -> Metric:
        """What the best epoch is chosen by."""
        return self.metric or ("image_auroc" if self.validation else LOSS)

    def find_constants(self) -> dict[str, Any]:
        """Profile, k, α and β of the trained model."""
        name = self.find_recipe().profile
        of_profile = {"profile": name, **dataclasses.asdict(profile_named(name))}
        return of_profile | ({"profile": "custom", **self.constants} if self.constants else {})


def _full_path(place: str | None, *, may_be_new: bool = False) -> Any:
    """A local path as one from the root; URIs and names of models, which are no files, stay as they are."""
    if place is not None and place.startswith("file://"):
        return open_root(place).path
    if place is None or "://" in place or not (may_be_new or Path(place).exists()):
        return place
    return str(Path(place).resolve())


def _check_folder(flag: str, folder: str | None) -> None:
    if folder is None:
        return
    if not folder.strip():
        raise InputError(f"{flag}: expected a folder, got an empty path; is a variable not set?")
    if not open_root(folder).is_local:
        raise InputError(f"{flag}: expected a folder on this machine, or one that all workers share; got {folder}")
