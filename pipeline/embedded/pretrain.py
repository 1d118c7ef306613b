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
from cops.assembly import assemble
from cops.training.pretraining import Pretrainer, StateTexts, initialise, rate_at
from pipeline.embedded.captions import STATES, anomalous_texts, normal_texts, state_texts, vocabulary
from pipeline.embedded.feed import Phase, batches, normalise
from pipeline.embedded.pool import Pool
from pipeline.embedded.world import twins

log = logging.getLogger(__name__)

_STATISTICS = 80  # pictures that the whitening of patches is computed from
_STATISTICS_SEED = 1  # of a world of their own
_SAVE_EVERY = 100
_SMOOTH = 0.98


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
    """Pairs that are drawn; views of them differ each time."""
    phases: tuple[Phase, ...] = (
        Phase(steps=1200, pairs=32, grid=8),
        Phase(steps=2500, pairs=20, grid=12),
        Phase(steps=1500, pairs=8, grid=24),
    )
    learning_rate: float = 1e-3
    warm_up: int = 50
    cool_down: int = 4200
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


def pretrain(recipe: PretrainingRecipe, folder: Path, *, workers: int = 1) -> cops.CoPS:
    """Train, or go on where an earlier run in this folder was stopped; the model with the mean of its last weights."""
    model = fresh_model(recipe)
    texts = StateTexts(normal=tuple(normal_texts()), anomalous=tuple(anomalous_texts()), kinds=tuple(state_texts()))
    assert len(texts.kinds) == len(STATES)
    trainer = Pretrainer(model, texts, learning_rate=recipe.learning_rate, seed=recipe.seed)
    state = folder / "pretraining.safetensors"
    if state.exists():
        trainer.restore(load_file(state))
        log.info("going on from step %d", trainer.step_number)
    pool = Pool(folder / "world", recipe.seed, recipe.pictures, model.image_size)
    pool.draw(workers + 1)
    begun = time.perf_counter()
    begin_step, first = trainer.step_number, 0
    smooth: dict[str, float] = {}
    done = 0  # steps before the phase at hand
    for phase in recipe.phases:
        left = done + phase.steps - trainer.step_number
        if left > 0:
            skipped = (phase.steps - left) * phase.pairs
            for batch in batches(
                model.config, phase, pool, seed=recipe.seed, first=first + skipped, steps=left, workers=workers
            ):
                rate = rate_at(trainer.step_number, recipe.steps, warm_up=recipe.warm_up, cool_down=recipe.cool_down)
                losses = trainer.step(batch, rate)
                smooth = {
                    name: _SMOOTH * smooth.get(name, value) + (1 - _SMOOTH) * value for name, value in losses.items()
                }
                if trainer.step_number % _SAVE_EVERY == 0:
                    _save(trainer, state)
                    _report(
                        trainer.step_number,
                        smooth,
                        folder,
                        (time.perf_counter() - begun) / (trainer.step_number - begin_step),
                    )
        first += phase.steps * phase.pairs
        done += phase.steps
    _save(trainer, state)
    model.load_state_dict(model.state_dict() | trainer.averaged())
    return model


def _save(trainer: Pretrainer, path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in trainer.state().items()}, partial)
    partial.replace(path)


def _report(step: int, losses: dict[str, float], folder: Path, step_s: float) -> None:
    rounded = {name: round(value, 4) for name, value in losses.items()}
    log.info(
        "step %d, %.2f s a step: %s", step, step_s, ", ".join(f"{name} {value:.3f}" for name, value in rounded.items())
    )
    with (folder / "pretraining.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **rounded}) + "\n")


def recipe_record(recipe: PretrainingRecipe) -> dict[str, Any]:
    """The recipe for a checkpoint's header."""
    return {**asdict(recipe), "torch": torch.__version__}
