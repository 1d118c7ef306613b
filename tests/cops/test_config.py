"""Constants: checked when made, and the same after a journey through JSON."""

import json

import pytest
from open_clip.tokenizer import SimpleTokenizer

from cops.config import PROFILES, CopsConfig, profile_named
from cops.errors import ConfigError


def test_json_round_trip(arch):
    """Nothing is lost, whether the backbone is a name or a config."""
    for config in (CopsConfig(), CopsConfig(backbone=arch, k=3, pixel_std=(0.1, 0.2, 0.3))):
        assert CopsConfig.from_json(config.to_json()) == config


def test_defaults_are_the_papers():
    """17 tokens, 14 of them learned; the published profiles' constants."""
    config = CopsConfig()
    assert (config.prompt_length, config.learned_tokens, config.temperature, config.sigma_px) == (17, 14, 0.07, 4.0)
    of_visa, of_mvtec = profile_named("published-visa"), profile_named("published-mvtec")
    assert (of_visa.k, of_visa.alpha, of_visa.beta) == (5, 0.26, 0.9)
    assert (of_mvtec.k, of_mvtec.alpha, of_mvtec.beta) == (3, 0.35, 1.0)
    assert (PROFILES["paper"].alpha, PROFILES["paper"].beta) == (0.3, 0.9)


def test_anchor_ids_are_clips_tokenizers():
    """Start of text, "." and end of text, as open_clip's own tokenizer gives them."""
    config = CopsConfig()
    assert SimpleTokenizer()(["."])[0][:3].tolist() == [config.sot_id, config.stop_id, config.eot_id]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 4}, "k must be odd"),
        ({"k": 3.0}, "k must be a whole number"),
        ({"alpha": 1.5}, "alpha is a share"),
        ({"beta": "much"}, "beta must be a finite number"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"sigma_px": -1}, "sigma_px must be 0 or more"),
        ({"swap_prototypes": 1}, "true or false"),
        ({"pixel_mean": [1, 2]}, "pixel_mean must be three"),
        ({"pixel_std": [1, 2, 0]}, "pixel_std must be above 0"),
        ({"deep_tokens": 17}, "do not fit"),
        ({"backbone": 3}, "backbone must be"),
        ({"kernel": 3}, "unknown constants kernel"),
    ],
)
def test_wrong_constants_are_named(wrong, message):
    """From a header as from a call."""
    with pytest.raises(ConfigError, match=message):
        CopsConfig.from_json(json.dumps(wrong))


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_other_text_is_refused(text):
    """A header that is no JSON object."""
    with pytest.raises(ConfigError, match="JSON"):
        CopsConfig.from_json(text)


def test_unknown_profile():
    """The message lists the profiles there are."""
    with pytest.raises(ConfigError, match="paper, published-visa, published-mvtec"):
        profile_named("published")
