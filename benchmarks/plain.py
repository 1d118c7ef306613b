"""The published procedure, written plainly from the method: what the fast path is measured against and tested by.

One image at a time: prompts of 77 tokens, one for each state and draw, all of them through the whole text tower; both
paths of the image tower on every token in every layer, their attention written out and projected apart.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cops import alignment
from cops.model import CoPS
from cops.vision import embed

PADDED = 77  # tokens of a prompt, as CLIP's text tower takes them


@torch.inference_mode()
def score(
    model: CoPS, pixels: Float[Tensor, "1 3 s s"]
) -> tuple[Float[Tensor, "1"], Float[Tensor, "1"], Float[Tensor, "1 n"]]:
    """Image score (1,), classification term (1,) and patch scores (1, n) of one image's normalised pixels."""
    return align(model, *encode_image(model, pixels))


@torch.inference_mode()
def align(
    model: CoPS, image: Float[Tensor, "1 c"], raw: Float[Tensor, "1 n c"]
) -> tuple[Float[Tensor, "1"], Float[Tensor, "1"], Float[Tensor, "1 n"]]:
    """What `score` gives, from the image tower's features."""
    config, learner = model.config, model.prompt_learner
    patches = alignment.spatial_average(raw, config.k)
    normal, anomaly = learner.extractor(learner.t_n, patches), learner.extractor(learner.t_a, patches)
    states = (anomaly, normal) if config.swap_prototypes else (normal, anomaly)
    samples = encode_prompts(model, compose(model, *states))
    text = functional.normalize(samples.mean(dim=1), dim=-1)[None]  # (1, 2, c)
    probability = alignment.anomaly_probability(patches, text, temperature=config.temperature)
    distances = [alignment.prototype_distance(patches, one) for one in (normal, anomaly)]
    scores = alignment.score_patches(probability, *distances, alpha=config.alpha)
    of_image = alignment.anomaly_probability(image[:, None], text, temperature=config.temperature)[:, 0]
    return alignment.score_images(of_image, scores.amax(dim=1), beta=config.beta), of_image, scores


def encode_image(model: CoPS, pixels: Float[Tensor, "1 3 s s"]) -> tuple[Float[Tensor, "1 c"], Float[Tensor, "1 n c"]]:
    """Image feature and patch features, before averaging."""
    visual = model.visual
    x = y = embed(visual, pixels)
    for block in visual.transformer.resblocks:
        query, key, value = heads_of(block.attn, block.ln_1(x))
        y = y + merged(block.attn, attention(value, value, value))
        x = x + merged(block.attn, attention(query, key, value))
        x = x + block.mlp(block.ln_2(x))
    return x[:, 0] @ visual.proj, visual.ln_post(y)[:, 1:] @ visual.proj


def compose(model: CoPS, normal: Float[Tensor, "1 m c"], anomaly: Float[Tensor, "1 m c"]) -> Float[Tensor, "2 r 77 c"]:
    """Every prompt of an image: both states, each draw, padded with zeros behind the end."""
    config, learner = model.config, model.prompt_learner
    table = model.token_embedding.weight
    offsets = learner.vae_decoder(learner.class_noise)  # (r, c)
    at = (config.context_tokens, config.context_tokens + config.state_tokens)
    prompts = torch.zeros(2, len(offsets), PADDED, table.shape[1], dtype=table.dtype, device=table.device)
    for state, (learned, prototypes) in enumerate(((learner.ctx_pos, normal), (learner.ctx_neg, anomaly))):
        context, own, name = torch.tensor_split(learned[0, 0], at)
        for draw, offset in enumerate(offsets):
            parts = [
                table[[config.sot_id]],
                context,
                own + prototypes[0],
                name + offset,
                table[[config.stop_id, config.eot_id]],
            ]
            prompts[state, draw, : config.prompt_length] = torch.cat(parts)
    return prompts


def encode_prompts(model: CoPS, prompts: Float[Tensor, "2 r 77 c"]) -> Float[Tensor, "2 r c"]:
    """Unit features of prompts, each read whole."""
    deep = list(model.prompt_learner.compound_prompts_text)
    x = prompts.flatten(0, 1)
    positions = model.positional_embedding
    length = min(PADDED, len(positions))  # a small model's text tower may have fewer positions
    x = x[:, :length] + positions[:length]
    causal = torch.full((length, length), -math.inf, device=x.device).triu(1)
    for layer, block in enumerate(model.transformer.resblocks):
        if 1 <= layer <= len(deep):
            x = torch.cat([x[:, :1], deep[layer - 1].expand(len(x), -1, -1), x[:, 1 + len(deep[0]) :]], dim=1)
        query, key, value = heads_of(block.attn, block.ln_1(x))
        x = x + merged(block.attn, attention(query, key, value, causal))
        x = x + block.mlp(block.ln_2(x))
    ends = model.ln_final(x)[:, model.config.prompt_length - 1] @ model.text_projection
    return functional.normalize(ends, dim=-1).unflatten(0, prompts.shape[:2])


def heads_of(attn: nn.MultiheadAttention, tokens: Float[Tensor, "b t d"]) -> list[Float[Tensor, "b h t e"]]:
    """Queries, keys and values, head by head."""
    projected = functional.linear(tokens, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    return [one.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for one in projected]


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Float[Tensor, "b h t e"]:
    """softmax(q kᵀ/√e + mask) v."""
    weights = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return (weights if mask is None else weights + mask).softmax(dim=-1) @ value


def merged(attn: nn.MultiheadAttention, heads: Float[Tensor, "b h t e"]) -> Float[Tensor, "b t d"]:
    return attn.out_proj(heads.transpose(1, 2).flatten(2))
