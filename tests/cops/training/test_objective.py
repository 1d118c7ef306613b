"""A training step against the published code's own numbers."""

from pathlib import Path

import pytest
import report
import seeded
import torch
from safetensors.torch import load_file

from cops.training import losses
from cops.training.losses import LossWeights
from cops.training.objective import Batch, Learner
from cops.vision import encode_images

EXPECTED = load_file(Path(__file__).parents[2] / "golden" / "expected_training_step.safetensors")
GRADIENTS = [name.removeprefix("grad.") for name in EXPECTED if name.startswith("grad.")]


def golden_learner():
    learner = Learner(report.golden_model("k5"))
    shapes = {name: tensor.shape for name, tensor in learner.encoder.state_dict().items()}
    learner.encoder.load_state_dict(
        {name: seeded.fill(f"prompt_learner.vae_encoder.{name}", shape, 0) for name, shape in shapes.items()}
    )
    return learner


@torch.no_grad()
def golden_batch(model):
    seen = encode_images(model.visual, model.normalise(EXPECTED["images"].numpy()))
    coverage = losses.mask_coverage(EXPECTED["masks"].float(), model.image_size // model.grid)
    return Batch(image=seen.image, patches=seen.patches, labels=EXPECTED["labels"], coverage=coverage)


@pytest.fixture(scope="module")
def step():
    learner = golden_learner()
    found = learner(golden_batch(learner.model), EXPECTED["posterior_noise"])
    total = (found.means() * LossWeights().vector()).sum()
    total.backward()
    return learner, dict(zip(losses.NAMES, found.means().tolist(), strict=True)) | {"total": total.item()}


@pytest.mark.parametrize("name", [*losses.NAMES, "total"])
def test_every_loss_agrees_with_the_published_code(step, name):
    """Each loss is met to float32's rounding; KL is a sum of exponentials, here 13,235, which enlarge it."""
    assert step[1][name] == pytest.approx(EXPECTED[name].item(), rel=4e-6 if name == "kl" else 2e-6, abs=1e-5)


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_gradient_agrees_with_the_published_code(step, name):
    """And so is each gradient of the total."""
    gradient = dict(step[0].model.prompt_learner.named_parameters())[name].grad
    expected = EXPECTED[f"grad.{name}"]
    # Of the gradient's largest entry: its entries are sums, whose rounding is that of the largest.
    torch.testing.assert_close(gradient, expected, rtol=0, atol=2e-6 * expected.abs().max().item() + 2e-6)


def test_clip_is_frozen(step):
    """No gradient reaches CLIP: only what CoPS learns has one."""
    with_gradient = {name for name, parameter in step[0].named_parameters() if parameter.grad is not None}
    assert with_gradient
    assert all(name.startswith(("model.prompt_learner.", "encoder.")) for name in with_gradient)


def test_parts_of_a_batch_add_up_to_the_whole():
    """Sums and counts over two parts are those of the batch, as several processes need."""
    learner = golden_learner()
    batch, noise = golden_batch(learner.model), EXPECTED["posterior_noise"]
    whole = learner(batch, noise)
    parts = [
        learner(Batch(*(getattr(batch, name)[rows] for name in vars(batch))), noise[rows])
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(part.sums for part in parts), whole.sums, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(sum(part.counts for part in parts), whole.counts)


def test_normal_images_alone_have_no_anomaly_distance():
    """Where no patch is anomalous that loss is 0 and not NaN."""
    learner = golden_learner()
    batch, rows = golden_batch(learner.model), slice(2, 3)
    means = learner(
        Batch(*(getattr(batch, name)[rows] for name in vars(batch))), EXPECTED["posterior_noise"][rows]
    ).means()
    assert means[losses.NAMES.index("anomaly_distance")] == 0
    assert bool(torch.isfinite(means).all())
