"""The epochs of a training, and what is written after each."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cops.checkpoint import check_finite, save_checkpoint
from cops.training.fit import Team, Trainer
from pipeline.training.config import Metric
from pipeline.training.curves import draw_curves
from pipeline.training.features import FeatureSource, TrainingExamples, Usable
from pipeline.training.folder import Epoch, Folder
from pipeline.training.progress import Pace
from pipeline.training.record import best_of, epoch_record, line, provenance, refuse_other
from pipeline.training.start import Base, tensors_to_save
from pipeline.training.validation import validate

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Epochs:
    """One process's epochs; the first of its team writes.

    Args:    about: what `record.describe` says.   chosen_by: what the best epoch is chosen by.
    """

    folder: Folder
    base: Base
    team: Team
    trainer: Trainer
    source: FeatureSource
    about: dict[str, Any]
    chosen_by: Metric
    done: list[Epoch] = field(default_factory=list)

    def run(self, images: Sequence[Usable], validation: Sequence[Usable]) -> list[Epoch]:
        """All epochs that the folder does not have yet.

        Raises:  InputError: the folder is of another training.   RunError: the loss is no number, or nothing can be
                 written.
        """
        self._begin_or_go_on()
        examples = TrainingExamples(self.source, images)
        while self.trainer.epoch < self.trainer.recipe.epochs:
            self._one(examples, validation)
        return self.done

    def _one(self, examples: TrainingExamples, validation: Sequence[Usable]) -> None:
        began, number = time.monotonic(), self.trainer.epoch + 1
        examples.pace = Pace(f"epoch {number}", len(examples)) if self.team.rank == 0 else None
        losses = self.trainer.run_epoch(examples)
        metrics = validate(self.trainer.learner.model, self.source, validation, self.team) if validation else {}
        seconds = time.monotonic() - began
        self.done.append(epoch_record(number, losses, metrics, seconds=seconds, chosen_by=self.chosen_by))
        if self.team.rank == 0:
            self._commit()

    def _begin_or_go_on(self) -> None:
        known, state = self.folder.read_about(), self.folder.read_state()
        if known:
            refuse_other(known, self.about, self.folder)
        if state:
            self.trainer.restore(state.tensors)
            self.done = state.epochs
        self.team.gather(None)  # all have read before one writes
        if self.team.rank > 0:
            return
        self.folder.write_about(self.about)
        if state:
            log.info("going on after epoch %d of %d", len(self.done), self.trainer.recipe.epochs)
            self._publish()

    def _commit(self) -> None:
        """The newest epoch's checkpoint, then the state that makes it count, then what follows from it."""
        newest = self.done[-1]
        number, learner = newest["epoch"], self.trainer.learner
        tensors = tensors_to_save(self.base, learner)
        check_finite(tensors, label=f"what epoch {number} learned")
        save_checkpoint(
            self.folder.checkpoint(number),
            config=learner.model.config,
            tensors=tensors,
            provenance=provenance(self.about, self.base, newest),
        )
        self.folder.write_state(self.trainer.state(), self.done)
        self._publish()
        best = " (best so far)" if best_of(self.done, self.chosen_by) is newest else ""
        log.info("epoch %d of %d: %s%s", number, self.trainer.recipe.epochs, line(newest, self.chosen_by), best)

    def _publish(self) -> None:
        """Best checkpoint, curves and log, from what is committed; the same again where they are there."""
        best = best_of(self.done, self.chosen_by)["epoch"]
        self.folder.write_best(best)
        title = f"CoPS trained on {self.about['auxiliary_dataset']['name']}; best epoch {best} by {self.chosen_by}"
        weights = asdict(self.trainer.recipe.weights)
        self.folder.write(self.folder.curves, draw_curves(self.done, weights=weights, best=best, title=title))
        self.folder.write_log(self.about, self.done)  # the last: `Folder.has_published` goes by it
