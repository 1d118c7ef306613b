"""Backbones: what is built, and what is refused with the way out."""

import pytest
import torch

from cops.backbone import architecture, build_clip
from cops.config import CopsConfig
from cops.errors import ConfigError


def build(**values):
    with torch.device("meta"):
        return build_clip(CopsConfig(**values))


@pytest.mark.parametrize(
    ("name", "size", "heads", "patch"),
    [
        ("ViT-L-14-336-quickgelu", 336, 12, 14),
        ("ViT-L-14-336-quickgelu", 518, 12, 14),
        ("ViT-L-14-336-quickgelu", 700, 12, 14),
        ("ViT-L-14-quickgelu", 518, 12, 14),
        ("ViT-B-16-quickgelu", 336, 8, 16),
        ("ViT-H-14", 336, 16, 14),
    ],
)
def test_open_clips_configs_are_built(name, size, heads, patch):
    """Those of the paper's Table S3 and others, by name, at any multiple of the patch."""
    built = build(backbone=name, image_size=size, pretrained="openai" if "quickgelu" in name else None, heads=heads)
    assert built.visual.patch_size == (patch, patch)


def test_openai_weights_need_quickgelu():
    """Without it every score would be wrong without a word; the message names the right config."""
    with pytest.raises(ConfigError, match="Use 'ViT-L-14-336-quickgelu'"):
        build(backbone="ViT-L-14-336", pretrained="openai")
    build(backbone="ViT-L-14-336-quickgelu", pretrained="openai")


def test_given_configs_need_quickgelu_as_well(small_arch):
    """Where the config is given rather than named."""
    with pytest.raises(ConfigError, match='"quick_gelu": true'):
        build(backbone=small_arch | {"quick_gelu": False}, pretrained="openai", image_size=56)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 520}, "nearest: 518 or 532"),
        ({"image_size": 5}, "nearest: 14"),
        ({"backbone": "ViT-L-99"}, "knows no model config 'ViT-L-99'"),
        ({"backbone": "RN50"}, "not a plain CLIP vision transformer"),
        ({"backbone": "ViT-B-16-SigLIP"}, "not a plain CLIP vision transformer"),
        ({"backbone": {"embed_dim": 3}}, "has no 'vision_cfg'"),
        ({"backbone": {"embed_dim": 3, "vision_cfg": "x", "text_cfg": {}}}, "must be objects"),
        ({"backbone": "local-dir:/tmp"}, "expected the name of a model config"),
        ({"backbone": "hf-hub:org/model"}, "expected the name of a model config"),
        ({"backbone": "xlm-roberta-base-ViT-B-32"}, "not a plain CLIP"),
        ({"backbone": "ViT-H-14-CLIPA"}, "another tokenizer than CLIP's"),
        ({"heads": 7}, "7 extractor heads do not divide the joint width 768"),
        ({"deep_layers": 12}, "12 deep prompts need more than the 12 text layers"),
        ({"context_tokens": 70}, "exceed the 77 positions"),
        ({"eot_id": 49408}, "rows of the token table"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    """Sizes, names and counts that make no CoPS."""
    with pytest.raises(ConfigError, match=message):
        build(**values)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vision_cfg", {"pool_type": "avg"}, "does not pool at a class token"),
        ("vision_cfg", {"ls_init_value": 0.1}, "differ from CLIP's"),
        ("vision_cfg", {"colour": 1}, "open_clip cannot build"),
        ("vision_cfg", {"patch_size": 0}, "open_clip cannot build"),
        ("vision_cfg", {"head_width": 0}, "open_clip cannot build"),
        ("text_cfg", {"no_causal_mask": True}, "no causal text tower"),
        ("text_cfg", {"width": 96}, "text width 96 and joint width 48 differ"),
    ],
)
def test_other_towers_are_refused(small_arch, part, change, message):
    """Architectures whose towers CoPS does not read."""
    changed = small_arch | {part: small_arch[part] | change}
    with pytest.raises(ConfigError, match=message):
        build(backbone=changed, image_size=56, sot_id=0, stop_id=1, eot_id=2)


def test_a_given_config_is_taken_as_it_is(small_arch):
    """No name is needed."""
    assert architecture(small_arch) == small_arch


@pytest.mark.parametrize("part", ["vision_cfg", "text_cfg"])
@pytest.mark.parametrize("layers", [257, 10**9, 2.5, None])
def test_a_tower_without_end_is_refused_at_once(small_arch, part, layers):
    """A damaged header may name any number of layers: nothing is built of it."""
    arch = small_arch | {part: small_arch[part] | {"layers": layers}}
    with pytest.raises(ConfigError, match=r"expected at most 256 layers|not a plain CLIP"):
        architecture(arch)
