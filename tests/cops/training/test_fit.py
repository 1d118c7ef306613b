"""Training over features: it learns, goes on after a stop, and gives with two processes what it gives with one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cops
from cops.assembly import assemble
from cops.errors import CheckpointError, ConfigError
from cops.training.fit import Trainer
from cops.training.objective import Batch, Learner
from cops.training.recipe import RECIPES, Recipe

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(profile="published-visa", epochs=3, batch_size=4, learning_rate=1e-2)


class RandomExamples:
    """Patches of two kinds around two directions, one of them called anomalous."""

    def __init__(self, width, *, count=10, patches=16):
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(2, width, generator=generator)
        self.labels = torch.arange(count) % 2
        self.coverage = (torch.rand(count, patches, generator=generator) < 0.3) * self.labels[:, None].float()
        noise = torch.randn(count, patches, width, generator=generator)
        self.patches = directions[self.coverage.long()] + 0.3 * noise
        self.image = directions[self.labels] + 0.3 * noise[:, 0]

    def __len__(self):
        return len(self.labels)

    def batch(self, rows):
        return Batch(self.image[rows], self.patches[rows], self.labels[rows], self.coverage[rows])


def make_trainer(recipe=RECIPE, team=None):
    arch = {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": 5, "width": 48, "heads": 3, "layers": 3},
    }
    model = cops.from_checkpoint(assemble(arch, image_size=56, sot_id=0, stop_id=1, eot_id=4))
    torch.manual_seed(0)
    return Trainer(Learner(model), recipe, team)


def test_training_lowers_the_loss():
    """A few epochs on patches that differ."""
    trainer, examples = make_trainer(), RandomExamples(48)
    totals = [trainer.run_epoch(examples).total for _ in range(8)]
    assert totals[-1] < 0.8 * totals[0]


def test_a_restored_trainer_goes_on_as_if_it_had_not_stopped():
    """One epoch, a stop, one epoch: bit for bit what two epochs give."""
    examples = RandomExamples(48)
    whole = make_trainer()
    whole.run_epoch(examples)
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    expected = whole.run_epoch(examples)
    again = make_trainer()
    again.restore(state)
    assert again.run_epoch(examples) == expected
    for name, tensor in whole.state().items():
        torch.testing.assert_close(again.state()[name], tensor, rtol=0, atol=0)


def test_epochs_differ_and_seeds_decide():
    """Another order and other noise in each epoch; the same ones for the same seed."""
    orders = [make_trainer(Recipe(profile="paper", epochs=1, seed=seed))._draw(20)[0].tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    trainer = make_trainer()
    first = trainer._draw(20)[0].tolist()
    trainer.epoch = 1
    assert trainer._draw(20)[0].tolist() != first


def test_a_state_of_another_model_is_refused():
    """The first differences are named."""
    trainer = make_trainer()
    state = trainer.state()
    state.pop("parameter.model.prompt_learner.t_n")
    with pytest.raises(CheckpointError, match=r"another model.*prompt_learner.t_n"):
        trainer.restore(state)


MEMBER = """
import json, sys
import torch
sys.path[:0] = sys.argv[2:4]
from test_fit import RandomExamples, make_trainer
from cops.training.fit import TorchTeam
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[4]}", rank=int(sys.argv[1]), world_size=2)
trainer, examples = make_trainer(team=TorchTeam()), RandomExamples(48, count=9)
totals = [trainer.run_epoch(examples).total for _ in range(2)]
weights = trainer.state()["parameter.model.prompt_learner.ctx_pos"].flatten()[:50].tolist()
print(json.dumps([totals, weights]))
"""


def test_two_processes_give_what_one_gives(tmp_path):
    """Batches of 4, 4 and 1 are shared out, the last to one process alone; losses and weights are the same."""
    arguments = [str(ROOT), str(Path(__file__).parent), str(tmp_path / "meeting")]
    team = [
        subprocess.Popen([sys.executable, "-c", MEMBER, str(rank), *arguments], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    results = [json.loads(member.communicate(timeout=120)[0].splitlines()[-1]) for member in team]
    trainer, examples = make_trainer(), RandomExamples(48, count=9)
    totals = [trainer.run_epoch(examples).total for _ in range(2)]
    weights = trainer.state()["parameter.model.prompt_learner.ctx_pos"].flatten()[:50].tolist()
    for found_totals, found_weights in results:
        assert found_totals == pytest.approx(totals, rel=1e-4)
        assert found_weights == pytest.approx(weights, abs=1e-4)


def test_recipes():
    """As published: ten epochs without reconstruction on VisA, five with it on MVTec-AD."""
    visa, mvtec = RECIPES["visa"], RECIPES["mvtec-ad"]
    assert (visa.epochs, visa.weights.reconstruction, visa.profile) == (10, 0, "published-visa")
    assert (mvtec.epochs, mvtec.weights.reconstruction, mvtec.profile) == (5, 1, "published-mvtec")
    assert (visa.batch_size, visa.learning_rate, visa.betas, visa.seed) == (8, 1e-3, (0.5, 0.999), 0)
    with pytest.raises(ConfigError, match="epochs must be above 0"):
        Recipe(profile="paper", epochs=0)
