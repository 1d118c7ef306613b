"""The CLIP that CoPS is built on: an open_clip architecture, checked for what the method needs."""

import math
from collections.abc import Mapping
from typing import Any

import open_clip
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from cops.config import CopsConfig
from cops.errors import ConfigError

_MOST_LAYERS = 256  # CLIP's largest has 64; each costs a millisecond to build, even if a damaged header names millions


def architecture(backbone: str | Mapping[str, Any]) -> dict[str, Any]:
    """The open_clip model config of a backbone: looked up by name, or given.

    Raises:  ConfigError: open_clip does not know the name, or it is no plain CLIP vision transformer.
    """
    if isinstance(backbone, str) and ":" in backbone:  # open_clip would read a folder or ask a hub
        raise ConfigError(f"expected the name of a model config of open_clip, got {backbone!r}")
    found = open_clip.get_model_config(backbone) if isinstance(backbone, str) else dict(backbone)
    if found is None:
        raise ConfigError(f"open_clip knows no model config {backbone!r}; see open_clip.list_models()")
    for part in ("embed_dim", "vision_cfg", "text_cfg"):
        if part not in found:
            raise ConfigError(f"the backbone config has no {part!r}; it is no CLIP config of open_clip")
    vision, text = found["vision_cfg"], found["text_cfg"]
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise ConfigError("the backbone config's vision_cfg and text_cfg must be objects")
    if vision.get("timm_model_name") or not isinstance(vision.get("layers", 12), int) or "hf_model_name" in text:
        raise ConfigError(f"{_name(backbone)} is not a plain CLIP vision transformer with CLIP's text tower")
    layers = [part.get("layers", 12) for part in (vision, text)]
    if not all(isinstance(count, int) and count <= _MOST_LAYERS for count in layers):
        raise ConfigError(f"layers must be whole numbers, {_MOST_LAYERS} at most; got {layers}")
    if text.get("hf_tokenizer_name"):
        raise ConfigError(f"{_name(backbone)} has another tokenizer than CLIP's, whose tokens CoPS's prompts hold")
    return found


def build_clip(config: CopsConfig) -> CLIP:
    """An open_clip CLIP of the config's architecture, weights not set; build it on torch's meta device to save them.

    Raises:  ConfigError: the architecture cannot carry CoPS, the weights' tag needs QuickGELU, or sizes do not fit.
    """
    arch = architecture(config.backbone)
    check_activation(config, arch)
    known = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    try:
        clip = CLIP(**{key: arch[key] for key in known if key in arch})
    except (TypeError, AssertionError, ValueError, ArithmeticError, AttributeError, RuntimeError) as exc:
        raise ConfigError(f"open_clip cannot build {_name(config.backbone)}: {exc}") from exc
    _check_towers(clip, config)
    _check_input_size(clip, config)
    _check_prompts(clip, config)
    return clip


def check_activation(config: CopsConfig, arch: Mapping[str, Any]) -> None:
    """Refuse weights that were trained with QuickGELU in a model without it.

    Raises:  ConfigError: naming the config that fits.
    """
    if config.pretrained is None or arch.get("quick_gelu"):
        return
    tagged: Mapping[str, Any] = {}
    if isinstance(config.backbone, str):
        tagged = open_clip.get_pretrained_cfg(config.backbone, config.pretrained) or {}
    if config.pretrained != "openai" and not tagged.get("quick_gelu"):
        return
    right = 'the same config with "quick_gelu": true'
    if isinstance(config.backbone, str):
        right = repr(f"{config.backbone}-quickgelu")
    raise ConfigError(
        f"the {config.pretrained!r} weights were trained with QuickGELU, and {_name(config.backbone)} has plain GELU: "
        f"scores would be wrong without a word. Use {right}"
    )


def joint_width(clip: CLIP) -> int:
    """Width C of the joint embedding, which is the text tower's too."""
    return int(clip.text_projection.shape[1])


def _check_towers(clip: CLIP, config: CopsConfig) -> None:
    name, visual = _name(config.backbone), clip.visual
    blocks = [*visual.transformer.resblocks, *clip.transformer.resblocks]
    if not all(type(block) is ResidualAttentionBlock and isinstance(block.ls_1, nn.Identity) for block in blocks):
        raise ConfigError(f"{name} has attention blocks that differ from CLIP's")
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.pool_type != "tok":
        raise ConfigError(f"{name} does not pool at a class token, which CoPS reads")
    if not isinstance(clip.text_projection, nn.Parameter) or clip.attn_mask is None:
        raise ConfigError(f"{name} has no causal text tower with a plain projection")
    text_width, joint = clip.text_projection.shape
    if text_width != joint:
        raise ConfigError(
            f"{name}: text width {text_width} and joint width {joint} differ; CoPS adds image features to text tokens, "
            "so they must be the same"
        )


def _check_input_size(clip: CLIP, config: CopsConfig) -> None:
    patch = clip.visual.patch_size[0]
    size = config.image_size
    if size % patch:
        nearest = sorted({max(1, math.floor(size / patch)) * patch, math.ceil(size / patch) * patch})
        raise ConfigError(
            f"image_size {size} is not a multiple of the patch, {patch} px; nearest: {' or '.join(map(str, nearest))}"
        )


def _check_prompts(clip: CLIP, config: CopsConfig) -> None:
    width, layers = joint_width(clip), len(clip.transformer.resblocks)
    if width % config.heads:
        raise ConfigError(f"{config.heads} extractor heads do not divide the joint width {width}; set heads")
    if config.deep_layers > layers - 1:
        raise ConfigError(f"{config.deep_layers} deep prompts need more than the {layers} text layers there are")
    if config.prompt_length > len(clip.positional_embedding):
        raise ConfigError(
            f"prompts of {config.prompt_length} tokens exceed the {len(clip.positional_embedding)} positions"
        )
    rows = len(clip.token_embedding.weight)
    if config.vocabulary and len(config.vocabulary) != rows:
        raise ConfigError(f"vocabulary names {len(config.vocabulary)} tokens; the token table has {rows} rows")
    if max(config.sot_id, config.stop_id, config.eot_id) >= rows:
        raise ConfigError(f"sot_id, stop_id and eot_id must be rows of the token table, below {rows}")


def _name(backbone: str | Mapping[str, Any]) -> str:
    return repr(backbone) if isinstance(backbone, str) else "the given backbone config"
