"""Plain zero-shot CLIP against open_clip's own features; its words, and what names it."""

import dataclasses
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

import cops
from cops.assembly import assemble
from cops.backbone import build_clip
from cops.zero_shot import ANOMALOUS, NORMAL, ZeroShotClip, prompts, zero_shot_id

# What the packaged model's token table is to hold, whatever else.
WORDS = (
    "a photo of the with without and . , normal good clean perfect flawless undamaged intact damaged defective broken "
    "anomalous defect flaw damage object surface texture product part item material scratched cracked dirty stained "
    "bent missing foreign hole dent dented blob spot"
)
TOKENIZER = open_clip.tokenizer.SimpleTokenizer()


def make_checkpoint(arch: dict[str, Any], words: str = WORDS, **constants: Any) -> cops.Checkpoint:
    """A small seeded model whose token table holds these words alone."""
    used = sorted({*TOKENIZER.encode(words), 269})
    vocabulary = (*used, 49406, 49407)
    small = {**arch, "text_cfg": {**arch["text_cfg"], "vocab_size": len(vocabulary)}}
    ends = {"sot_id": len(used), "eot_id": len(used) + 1, "stop_id": used.index(269)}
    return assemble(small, vocabulary=vocabulary, **ends, **constants)


def detector_of(checkpoint: cops.Checkpoint) -> ZeroShotClip:
    return ZeroShotClip(cops.from_checkpoint(checkpoint), zero_shot_id(checkpoint))


@pytest.fixture(scope="module")
def checkpoint(small_arch: dict[str, Any]) -> cops.Checkpoint:
    return make_checkpoint(small_arch)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)


def test_prompts_are_made_of_the_words_that_every_model_knows() -> None:
    """Each text's tokens are among those of the list that the packaged model holds."""
    encode = TOKENIZER.encode
    texts = prompts(NORMAL) + prompts(ANOMALOUS)
    assert {token for text in texts for token in encode(text)} <= set(encode(WORDS))
    assert "a photo of the flawless surface." in texts and "the object with a hole." in texts
    assert len(set(texts)) == len(texts)


def test_class_scores_are_those_of_open_clips_own_features(checkpoint: cops.Checkpoint, pictures: np.ndarray) -> None:
    """The softmax of cosines over τ between CLIP's image feature, `ln_post` included, and the mean of the texts'."""
    detector = detector_of(checkpoint)
    config, model = detector.model.config, detector.model
    reference = build_clip(config).eval()
    reference.load_state_dict(model.state_dict(), strict=False)
    rows = {token: row for row, token in enumerate(config.vocabulary)}
    means = []
    for phrases in (NORMAL, ANOMALOUS):
        encoded = [TOKENIZER.encode(text) for text in prompts(phrases)]
        padded = torch.zeros(len(encoded), reference.context_length, dtype=torch.int64)
        for row, tokens in enumerate(encoded):
            ids = [config.sot_id, *(rows[token] for token in tokens), config.eot_id]
            padded[row, : len(ids)] = torch.tensor(ids)
        with torch.no_grad():
            means.append(reference.encode_text(padded, normalize=True).mean(dim=0))
    text = functional.normalize(torch.stack(means), dim=-1)
    with torch.no_grad():
        image = reference.encode_image(model.normalise(pictures), normalize=True)
    expected = (image @ text.T / config.temperature).softmax(dim=-1)[:, 1]
    found = detector.predict(pictures)
    np.testing.assert_allclose(found.class_score, expected, atol=1e-5)
    np.testing.assert_array_equal(found.pred_score, found.class_score)
    assert found.patch_scores.shape == (3, model.grid, model.grid)
    assert 0 <= found.patch_scores.min() < found.patch_scores.max() <= 1


def test_nothing_that_cops_learned_takes_part(checkpoint: cops.Checkpoint, pictures: np.ndarray) -> None:
    """Other prompts, k, α and β change CoPS's scores and id, not CLIP's."""
    doubled = {
        name: tensor * 2 if name.startswith("prompt_learner") else tensor for name, tensor in checkpoint.tensors.items()
    }
    other = cops.Checkpoint(dataclasses.replace(checkpoint.config, k=1, alpha=0.9, beta=0.1), {}, doubled)
    assert zero_shot_id(other) == zero_shot_id(checkpoint)
    assert other.model_id() != checkpoint.model_id()
    one, two = detector_of(checkpoint).predict(pictures), detector_of(other).predict(pictures)
    np.testing.assert_array_equal(one.patch_scores, two.patch_scores)
    np.testing.assert_array_equal(one.pred_score, two.pred_score)


def test_the_id_changes_with_what_changes_a_score(checkpoint: cops.Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Precision, constants, CLIP's weights, a word's row; and it is never that of CoPS."""
    word = checkpoint.tensors["token_embedding.weight"].clone()
    (photo,) = TOKENIZER.encode("photo")
    word[checkpoint.config.vocabulary.index(photo)] += 1
    changed = [
        cops.Checkpoint(dataclasses.replace(checkpoint.config, temperature=0.01), {}, checkpoint.tensors),
        cops.Checkpoint(checkpoint.config, {}, checkpoint.tensors | {"token_embedding.weight": word}),
    ]
    ids = [zero_shot_id(checkpoint), zero_shot_id(checkpoint, "bfloat16"), checkpoint.model_id()]
    ids += [zero_shot_id(one) for one in changed]
    monkeypatch.setattr("cops.zero_shot.TEMPLATES", ("the {}.",))
    ids.append(zero_shot_id(checkpoint))
    assert len(set(ids)) == len(ids)


def test_the_id_does_not_change_with_the_order_of_the_words(checkpoint: cops.Checkpoint) -> None:
    """A table in another order gives the same texts."""
    config, tensors = checkpoint.config, checkpoint.tensors
    turned = dataclasses.replace(
        config,
        vocabulary=tuple(reversed(config.vocabulary)),
        **{name: len(config.vocabulary) - 1 - getattr(config, name) for name in ("sot_id", "stop_id", "eot_id")},
    )
    table = tensors["token_embedding.weight"].flip(0)
    other = cops.Checkpoint(turned, {}, tensors | {"token_embedding.weight": table})
    assert zero_shot_id(other) == zero_shot_id(checkpoint)


def test_batches_change_no_score(checkpoint: cops.Checkpoint, pictures: np.ndarray) -> None:
    """Three at once, or one by one."""
    detector = detector_of(checkpoint)
    np.testing.assert_allclose(
        detector.predict(pictures, batch_size=1).patch_scores, detector.predict(pictures).patch_scores, atol=1e-5
    )
    assert detector.predict([]).patch_scores.shape == (0, detector.model.grid, detector.model.grid)


def test_a_model_without_the_words_is_refused_before_it_is_built(small_arch: dict[str, Any]) -> None:
    """Words that are missing are named; so is a table of three rows that names none."""
    with pytest.raises(cops.ConfigError, match="this model does not know 'photo'"):
        zero_shot_id(make_checkpoint(small_arch, WORDS.replace("photo", "")))
    with pytest.raises(cops.ConfigError, match="reads no written text: its token table has 3 rows of CLIP's 49408"):
        zero_shot_id(
            assemble(
                {**small_arch, "text_cfg": {**small_arch["text_cfg"], "vocab_size": 3}}, sot_id=0, stop_id=1, eot_id=2
            )
        )
