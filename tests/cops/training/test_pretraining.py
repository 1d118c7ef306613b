"""CLIP from scratch: its losses against plain definitions, where it starts from, and its going on after a stop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import cops
import cops.texts
from cops.assembly import assemble
from cops.errors import CheckpointError
from cops.training.pretraining import (
    CaptionedBatch,
    Pretrainer,
    StateTexts,
    contrastive_loss,
    encode_two_paths,
    initialise,
    patch_losses,
    peak_loss,
    rate_at,
)
from cops.vision import encode_images

WORDS = StateTexts(
    normal=("a good part", "a clean part", "a good item", "a clean item"),
    anomalous=("a broken part", "a broken item", "a bad part", "a bad item"),
    kinds=("a bent part", "a cracked part"),
)


def small_model() -> cops.CoPS:
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415 -- only here

    tokens = SimpleTokenizer()
    texts = (*WORDS.normal, *WORDS.anomalous, *WORDS.kinds, ".")
    words = (49406, *sorted({token for text in texts for token in tokens.encode(text)}), 49407)
    arch: dict[str, Any] = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 48,
            "patch_size": 12,
            "layers": 2,
            "width": 64,
            "head_width": 32,
            "mlp_ratio": 2.0,
        },
        "text_cfg": {"context_length": 20, "vocab_size": len(words), "layers": 3, "width": 32, "heads": 2},
    }
    ends = {"sot_id": 0, "stop_id": words.index(269), "eot_id": len(words) - 1}
    return cops.from_checkpoint(assemble(arch, k=1, heads=2, deep_layers=2, vocabulary=words, **ends))


def textures(count: int, side: int = 48) -> Tensor:
    """Smooth noise, whose neighbouring pixels are alike as in photographs."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(count, 3, side // 4, side // 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return smooth + 0.05 * torch.randn(count, 3, side, side, generator=generator)


def trainer(seed: int = 0) -> Pretrainer:
    model = small_model()
    initialise(model, iter(textures(40)), seed=seed)
    return Pretrainer(model, WORDS, learning_rate=2e-3, seed=seed)


def batch(number: int) -> CaptionedBatch:
    """Two textures, and the same with one bright patch."""
    pixels = textures(2 + number)[-2:].repeat_interleave(2, dim=0)
    coverage = torch.zeros(4, 16)
    for row in (1, 3):
        at = (5 * number + row) % 16
        top, left = 12 * (at // 4), 12 * (at % 4)
        pixels[row, :, top : top + 12, left : left + 12] = 3.0
        coverage[row, at] = 1.0
    captions = ["a good part", "a bent part", "a good item", "a cracked part"]
    return CaptionedBatch(pixels, coverage, captions, torch.tensor([-1, 0, -1, 1]))


def test_contrastive_loss_is_clips_where_captions_differ() -> None:
    """Cross-entropy of rows and columns."""
    images, texts = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    logits = 20 * images @ texts.T
    expected = sum(torch.nn.functional.cross_entropy(one, torch.arange(5)) for one in (logits, logits.T)) / 2
    found = contrastive_loss(images, texts, torch.arange(5), scale=torch.tensor(20.0))
    torch.testing.assert_close(found, expected)


def test_contrastive_loss_counts_every_picture_of_a_caption_as_right() -> None:
    """Pictures with one caption are not pushed apart."""
    texts = torch.eye(2)
    together = contrastive_loss(texts[[0, 0, 1, 1]], texts, torch.tensor([0, 0, 1, 1]), scale=torch.tensor(50.0))
    apart = contrastive_loss(texts[[0, 1, 1, 1]], texts, torch.tensor([0, 0, 1, 1]), scale=torch.tensor(50.0))
    # Two pictures share a caption's probability: log 2 is as low as its half of the loss can get.
    assert float(together) == pytest.approx(math.log(2) / 2, abs=1e-6) and float(apart) > 5


def test_patch_losses_against_loops() -> None:
    """The formulas, patch by patch."""
    logits, target = torch.randn(2, 5, 2), torch.tensor([[0, 0, 1, 0.5, 0], [0, 0, 0, 0, 0]])
    entropy, dice = patch_losses(logits, target)
    probability = logits.softmax(dim=-1)[..., 1]
    terms, overlaps = [], []
    for image in range(2):
        for p, t in zip(probability[image].tolist(), target[image].tolist(), strict=True):
            terms.append(-(t * math.log(p) + (1 - t) * math.log(1 - p)) * (1 + 3 * t) * (abs(t - p) + 0.05) * 2)
        common = float((probability[image] * target[image]).sum())
        overlaps.append(1 - (2 * common + 1) / float(probability[image].sum() + target[image].sum() + 1))
    assert float(entropy) == pytest.approx(sum(terms) / 10, rel=1e-5)
    assert float(dice) == pytest.approx(sum(overlaps) / 2, rel=1e-5)


def test_peak_loss_looks_at_four_patches() -> None:
    """The mean margin of the four strongest, as one verdict on the picture."""
    margins = torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0, -9.0], [0.0, -1.0, -2.0, -3.0, -90.0, -90.0]])
    logits = torch.stack([torch.zeros_like(margins), margins], dim=-1)
    found = float(peak_loss(logits, torch.tensor([True, False])))
    assert found == pytest.approx((math.log1p(math.exp(-4.5)) + math.log1p(math.exp(-1.5))) / 2, rel=1e-5)


def test_the_two_paths_are_those_that_scores_come_from() -> None:
    """What is trained is what is read later, although attention is written out here."""
    model, pixels = small_model(), textures(3)
    with torch.no_grad():
        ours, scored = encode_two_paths(model.visual, pixels), encode_images(model.visual, pixels)
    torch.testing.assert_close(ours.image, scored.image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.patches, scored.patches, atol=1e-5, rtol=1e-5)


def test_first_tokens_are_white() -> None:
    """Neighbouring pixels are alike, and the components that the first layer sees are not."""
    learner, pictures = trainer(), textures(200)
    tokens = torch.nn.functional.conv2d(pictures, learner.model.visual.conv1.weight.detach(), stride=12).flatten(2)
    tokens = tokens.transpose(1, 2).flatten(0, 1)
    covariance = tokens.T @ tokens / len(tokens)
    diagonal = covariance.diagonal()
    assert float(diagonal.max() / diagonal.min()) < 3
    assert float((covariance - diagonal.diag()).abs().max()) < 0.3 * float(diagonal.mean())


def test_training_learns_where_the_bright_patch_is() -> None:
    """In 60 steps, on pictures that it did not see."""
    learner = trainer()
    for number in range(60):
        losses = learner.step(batch(number), 1.0)
    model, fresh = learner.model, batch(77)
    with torch.no_grad():
        text = torch.stack(
            [cops.texts.encode_texts(model, words).mean(dim=0) for words in (WORDS.normal, WORDS.anomalous)]
        )
        patches = torch.nn.functional.normalize(encode_images(model.visual, fresh.pixels).patches, dim=-1)
        margin = patches @ (text[1] - text[0])
    assert losses["patches"] < 0.15
    for row in (1, 3):
        assert int(margin[row].argmax()) == int(fresh.coverage[row].argmax())


def test_going_on_equals_never_having_stopped() -> None:
    """Weights, their means and the state of both optimisers, bit for bit."""
    whole, first = trainer(), trainer()
    for number in range(4):
        whole.step(batch(number), 1.0)
    for number in range(2):
        first.step(batch(number), 1.0)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    second = trainer(seed=0)
    second.restore(state)
    for number in range(2, 4):
        second.step(batch(number), 1.0)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name
    assert all(torch.equal(one, second.averaged()[name]) for name, one in whole.averaged().items())


def test_a_state_of_another_model_is_refused() -> None:
    """Rather than loaded in part."""
    learner = trainer()
    state = learner.state()
    state["parameter.visual.proj"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="of another model"):
        learner.restore(state)


def test_the_rate_rises_holds_and_falls() -> None:
    """A ramp, a plateau, a ramp down."""
    rates = [rate_at(step, 100, warm_up=10, cool_down=40) for step in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[0] == pytest.approx(0.1)
    assert set(rates[10:60]) == {1.0}
    assert rates[60:] == sorted(rates[60:], reverse=True) and rates[-1] < 0.05


@pytest.mark.gpu
def test_a_gpu_trains_as_the_cpu_does() -> None:
    """The same losses over three steps, as far as bfloat16 goes, and a state that goes on on the other."""
    here, there = trainer(), trainer()
    there = Pretrainer(there.model.to("cuda"), WORDS, learning_rate=2e-3, seed=0)
    for number in range(3):
        ours, theirs = here.step(batch(number), 1.0), there.step(batch(number), 1.0)
        assert theirs == pytest.approx(ours, rel=0.03)
    again = trainer()
    again.restore({name: tensor.cpu() for name, tensor in there.state().items()})
    there.restore(again.state())
    assert there.step(batch(3), 1.0) == pytest.approx(again.step(batch(3), 1.0), rel=0.03)
