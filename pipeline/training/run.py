"""A training, from a labelled dataset to checkpoints: check → features, once → epochs → the best of them."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import cops
from cops.assembly import find_device
from cops.training.fit import Team, Trainer
from pipeline.datasets import Dataset
from pipeline.failures import as_run_errors
from pipeline.training.cache import FeatureCache, bytes_per_image, describe_features
from pipeline.training.config import LOSS, NO_CACHE, TrainConfig
from pipeline.training.epochs import Epochs
from pipeline.training.features import FeatureSource
from pipeline.training.folder import Epoch, Folder
from pipeline.training.progress import also_to
from pipeline.training.record import best_of, describe, identity, refuse_other
from pipeline.training.start import Base, make_learner, read_base
from pipeline.training.survey import Survey, check_for_training, open_dataset, report, require_usable, survey
from pipeline.training.validation import check_for_metric

WAY_ON = "The same command goes on from the last epoch"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is asked, with everything found that costs little; workers take it as it is."""

    config: TrainConfig
    dataset: Dataset
    validation: Dataset | None
    identity: dict[str, Any]

    @property
    def folder(self) -> Folder:
        return Folder.at(self.config.output)


@dataclass(frozen=True)
class Outcome:
    """What became of a training. `about` is what the folder's training.json holds."""

    about: dict[str, Any]
    epochs: list[Epoch]
    best: Epoch
    was_complete: bool


def train(config: TrainConfig) -> Outcome:
    """Train, or finish what an earlier command left in the output folder.

    In this process where that is one worker's work; else, and always on the cluster that RAY_ADDRESS names, by Ray
    Train.
    Raises:  InputError, ConfigError, CheckpointError: the request cannot be met as it stands.
             RunError: training stopped; the same command goes on from its last epoch.
    """
    with as_run_errors(WAY_ON):
        job, base = prepare(config)
        if complete := _finished(job):
            return complete
        if config.count_workers(torch.cuda.device_count()) == 1 and not os.environ.get("RAY_ADDRESS"):
            return work(job, base, Team(), find_device(config.device))
        from pipeline.training import workers  # noqa: PLC0415 -- Ray Train takes seconds, and one worker needs it not

        return workers.train_with_ray(job)


def prepare(config: TrainConfig) -> tuple[Job, Base]:
    """Whatever can be wrong and is cheap to see, before anything is computed.

    Raises:  InputError, ConfigError, CheckpointError: dataset, model, recipe or output cannot be used.
    """
    config = config.with_full_paths()
    folder = Folder.at(config.output)
    base = read_base(config)
    if base.random_clip:
        log.warning("CLIP's weights in %s are random: only its metrics tell what training on them is worth", base.name)
    dataset = open_dataset(config.data)
    check_for_training(dataset)
    validation = open_dataset(config.validation) if config.validation else None
    job = Job(config, dataset, validation, identity(config, base, dataset, validation))
    if known := folder.read_about():
        refuse_other(known, job.identity, folder)
    return job, base


def work(job: Job, base: Base, team: Team, device: torch.device) -> Outcome:
    """One process's part of the training; the first of a team alone writes.

    Raises:  InputError: no image can be used.   RunError: the output or the cache cannot be written.
    """
    config = job.config
    with _writing(job.folder, team):
        learner = make_learner(base, config.find_recipe().seed, device)
        source = FeatureSource(learner.model, config.decode, _open_cache(job, learner.model))
        trained_on = survey(job.dataset, source, team, masks_needed=True)
        validated_on = survey(job.validation, source, team, masks_needed=False) if job.validation else None
        if team.rank == 0:
            _say(config, trained_on, validated_on)
        require_usable(trained_on)
        if validated_on:
            check_for_metric(config.chosen_by, validated_on.usable, validated_on.name)
        about = describe(job.identity, trained_on, validated_on)
        epochs = Epochs(
            folder=job.folder,
            base=base,
            team=team,
            trainer=Trainer(learner, config.find_recipe(), team),
            source=source,
            about=about,
            chosen_by=config.chosen_by,
        ).run(trained_on.usable, validated_on.usable if validated_on else ())
        return Outcome(about, epochs, best_of(epochs, config.chosen_by), was_complete=False)


def _finished(job: Job) -> Outcome | None:
    about, state = job.folder.read_about(), job.folder.read_state()
    epochs = job.config.find_recipe().epochs
    if about is None or state is None or len(state.epochs) < epochs or not job.folder.has_published(epochs):
        return None
    return Outcome(about, state.epochs, best_of(state.epochs, job.config.chosen_by), was_complete=True)


def _say(config: TrainConfig, trained_on: Survey, validated_on: Survey | None) -> None:
    report(trained_on)
    if validated_on:
        report(validated_on)
    if config.chosen_by == LOSS:
        log.info("the best epoch is the one of the lowest training loss; a validation set would tell more")


@contextlib.contextmanager
def _writing(folder: Folder, team: Team) -> Iterator[None]:
    if team.rank > 0:
        with also_to(folder.messages, logging.WARNING):
            yield
        return
    with folder.claimed(), also_to(folder.messages, logging.INFO):
        yield


def _open_cache(job: Job, model: cops.CoPS) -> FeatureCache | None:
    if job.config.cache == NO_CACHE:
        return None
    root = Path(job.config.cache) if job.config.cache else job.folder.root / "features"
    cache = FeatureCache(root, describe_features(model, job.config.decode))
    images = len(job.dataset.images) + (len(job.validation.images) if job.validation else 0)
    size, free = images * bytes_per_image(model) / 1e9, shutil.disk_usage(cache.folder).free / 1e9
    log.info("features of %s images take %.2f GB in %s (%.1f GB free)", f"{images:,}", size, cache.folder, free)
    return cache
