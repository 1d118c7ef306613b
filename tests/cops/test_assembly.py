"""Models put together from parts."""

import numpy as np
import pytest
import torch

import cops
from cops.errors import CheckpointError, ConfigError

SMALL = {"image_size": 56, "sot_id": 0, "stop_id": 1, "eot_id": 4}


def test_missing_parts_are_seeded(small_arch):
    """One seed, one model; another seed, another; both say that they are untrained."""
    ids = [cops.build(small_arch, seed=seed, **SMALL).model_id for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]
    assert cops.build(small_arch, **SMALL).trained is False


def test_untrained_scores_are_not_degenerate(small):
    """Random weights are scaled so that pictures differ in their scores."""
    images = np.random.default_rng(0).integers(0, 256, (6, 56, 56, 3), dtype=np.uint8)
    prediction = small.predict(images)
    assert prediction.pred_score.std() > 1e-4
    assert prediction.patch_scores.std() > 1e-2


def test_names_with_and_without_prefix(arch, clip_tensors, prompt_tensors):
    """Published names may carry `prompt_learner.`; the VAE's encoder is left out; the noise is a part as well."""
    prefixed = {f"prompt_learner.{name}": tensor for name, tensor in prompt_tensors.items()}
    prefixed["vae_encoder.mean.weight"] = torch.zeros(3)
    noise = torch.ones(4, 192)
    options = {"clip_state_dict": clip_tensors, "class_noise": noise, "image_size": 56}
    models = [cops.build(arch, prompt_state_dict=given, **options) for given in (prompt_tensors, prefixed)]
    assert models[0].model_id == models[1].model_id
    assert models[0].trained is True
    assert models[0].config.samples == 4


def test_the_weights_say_how_many_deep_prompts_there_are(arch, prompt_tensors):
    """The number of deep layers is read off, not configured."""
    fewer = {name: tensor for name, tensor in prompt_tensors.items() if name[-1] not in "34567" or "." not in name}
    fewer |= {name: tensor for name, tensor in prompt_tensors.items() if "compound" not in name}
    assert cops.build(arch, prompt_state_dict=fewer).config.deep_layers == 3


def test_gaps_in_a_given_part_are_errors(arch, clip_tensors, prompt_tensors):
    """A state dict is checked name by name; nothing of it is filled up with random numbers."""
    short = {name: tensor for name, tensor in prompt_tensors.items() if name != "t_a"}
    with pytest.raises(CheckpointError, match=r"missing: prompt_learner\.t_a$"):
        cops.build(arch, prompt_state_dict=short)
    with pytest.raises(CheckpointError, match="unexpected: colour"):
        cops.build(arch, clip_state_dict=clip_tensors | {"colour": torch.zeros(1)})


def test_constants_come_over_the_profile(small_arch):
    """Any field of the config can be given, and a profile that was changed is no longer named."""
    model = cops.build(small_arch, profile="published-mvtec", alpha=0.5, **SMALL)
    assert (model.config.k, model.config.alpha, model.config.beta) == (3, 0.5, 1.0)
    assert model.config.profile == "custom"
    assert cops.build(small_arch, profile="published-mvtec", **SMALL).config.profile == "published-mvtec"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 3}, "unknown constants kernel"),
        ({"profile": "best"}, "unknown profile 'best'"),
        ({"device": "gpu7"}, "unknown device 'gpu7'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
    ],
)
def test_what_there_is_not(small_arch, options, message):
    """Names of constants, profiles, devices and precisions."""
    with pytest.raises(ConfigError, match=message):
        cops.build(small_arch, **SMALL, **options)


def test_auto_picks_a_device_and_float32(small_checkpoint):
    """`auto` works on every machine; its precision is the one of the published numbers."""
    model = cops.from_checkpoint(small_checkpoint, device="auto", precision="auto")
    assert model.precision == "float32"
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
