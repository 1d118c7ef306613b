"""The first half of the packaged model's making: its CLIP, trained on the procedural world."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import cops
from cops.assembly import assemble, find_device
from cops.training.pretraining import Pretrainer, PretrainingWeights, StateTexts, initialise, rate_at
from pipeline.embedded.captions import STATES, anomalous_texts, normal_texts, state_texts, vocabulary
from pipeline.embedded.feed import Phase, batches, normalise
from pipeline.embedded.pool import Pool
from pipeline.embedded.world import twins

log = logging.getLogger(__name__)

_STATISTICS = 80  # pictures that the whitening of patches is computed from
_STATISTICS_SEED = 1  # of a world of their own
_SAVE_EVERY = 100
_SMOOTH = 0.98
_STATE, _LOG = "pretraining.safetensors", "pretraining.jsonl"


def architecture() -> dict[str, Any]:
    """The packaged model's backbone, as a config of open_clip."""
    return {
        "embed_dim": 192,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 288,
            "patch_size": 12,
            "layers": 8,
            "width": 256,
            "head_width": 64,
            "mlp_ratio": 3.0,
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": len(vocabulary()),
            "layers": 10,
            "width": 192,
            "heads": 3,
            "mlp_ratio": 2.0,
        },
    }


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe:
    """All that decides what pretraining gives."""

    pictures: int = 16_000
    """Pairs that are drawn for each share of crowds; views of them differ each time."""
    phases: tuple[Phase, ...] = (
        Phase(steps=1200, pairs=32, grid=8),
        Phase(steps=1000, pairs=20, grid=12),
        Phase(steps=3400, pairs=8, grid=24, crowds=0.3, peak=0.5),
    )
    learning_rate: float = 1e-3
    warm_up: int = 50
    cool_down: int = 4600
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


def fresh_model(recipe: PretrainingRecipe) -> cops.CoPS:
    """The model with CLIP's weights as training starts from them."""
    words = vocabulary()
    stop = words.index(269)
    checkpoint = assemble(
        architecture(), k=1, seed=recipe.seed, sot_id=0, stop_id=stop, eot_id=len(words) - 1, vocabulary=words
    )
    model = cops.from_checkpoint(checkpoint)
    side = model.image_size
    pictures = (twins(_STATISTICS_SEED, index, side).damaged for index in range(_STATISTICS))
    initialise(model, (normalise(picture, model.config) for picture in pictures), seed=recipe.seed)
    return model


def pretrain(recipe: PretrainingRecipe, folder: Path, *, workers: int = 1, device: str = "cpu") -> cops.CoPS:
    """Train, or go on where an earlier run in this folder was stopped; the model with the mean of its last weights."""
    model = fresh_model(recipe).to(find_device(device))
    trainer = _trainer(recipe, model)
    pools = [drawn_pool(recipe, folder, phase.crowds, model.image_size, workers=workers + 1) for phase in recipe.phases]
    journal = _Journal(folder, trainer)  # whose clock starts when all is drawn
    done = first = 0  # steps, and pairs, before the phase at hand
    for phase, pool in zip(recipe.phases, pools, strict=True):
        left = done + phase.steps - trainer.step_number
        if left > 0:
            trainer.weights = PretrainingWeights(peak=phase.peak)
            begin = first + (phase.steps - left) * phase.pairs
            for batch in batches(model.config, phase, pool, seed=recipe.seed, first=begin, steps=left, workers=workers):
                rate = rate_at(trainer.step_number, recipe.steps, warm_up=recipe.warm_up, cool_down=recipe.cool_down)
                journal.add(trainer.step(batch, rate))
        first += phase.steps * phase.pairs
        done += phase.steps
    journal.close()
    model.load_state_dict(model.state_dict() | trainer.averaged())
    return model.cpu()


def _trainer(recipe: PretrainingRecipe, model: cops.CoPS) -> Pretrainer:
    texts = StateTexts(normal=tuple(normal_texts()), anomalous=tuple(anomalous_texts()), kinds=tuple(state_texts()))
    assert len(texts.kinds) == len(STATES)
    return Pretrainer(model, texts, learning_rate=recipe.learning_rate, seed=recipe.seed)


def drawn_pool(recipe: PretrainingRecipe, folder: Path, crowds: float, side: int, *, workers: int) -> Pool:
    """The pictures of a phase, drawn where an earlier one or an earlier run has not done so."""
    pool = Pool(folder / f"world-{100 * crowds:.0f}", recipe.seed, recipe.pictures, side, crowds)
    pool.draw(workers)
    return pool


class _Journal:
    """The state on disk and a line of losses every so many steps; begins where the last one ended."""

    def __init__(self, folder: Path, trainer: Pretrainer) -> None:
        self.trainer, self.state, self.log = trainer, folder / _STATE, folder / _LOG
        self.smooth: dict[str, float] = {}
        if self.state.exists():
            trainer.restore(load_file(self.state))
            log.info("going on from step %d", trainer.step_number)
        self.written, self.at = trainer.step_number, time.perf_counter()

    def add(self, losses: dict[str, float]) -> None:
        kept = self.smooth or losses
        self.smooth = {name: _SMOOTH * kept[name] + (1 - _SMOOTH) * value for name, value in losses.items()}
        if self.trainer.step_number % _SAVE_EVERY == 0:
            self.write()

    def write(self) -> None:
        step, seconds = self.trainer.step_number, time.perf_counter() - self.at
        partial = self.state.with_suffix(".partial")
        save_file({name: tensor.contiguous() for name, tensor in self.trainer.state().items()}, partial)
        partial.replace(self.state)
        rounded = {name: round(value, 4) for name, value in self.smooth.items()}
        told = ", ".join(f"{name} {value:.3f}" for name, value in rounded.items())
        log.info("step %d, %.2f s a step: %s", step, seconds / (step - self.written), told)
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, "seconds": round(seconds, 3), **rounded}) + "\n")
        self.written, self.at = step, time.perf_counter()

    def close(self) -> None:
        if self.trainer.step_number > self.written:
            self.write()


def seconds_of(folder: Path) -> float:
    """How long a pretraining took over all its runs, the drawing of its pools left out."""
    lines = (folder / _LOG).read_text().splitlines()
    return round(sum(float(json.loads(line)["seconds"]) for line in lines), 3)


def recipe_record(recipe: PretrainingRecipe) -> dict[str, Any]:
    """The recipe for a checkpoint's header."""
    return {**asdict(recipe), "torch": torch.__version__}
