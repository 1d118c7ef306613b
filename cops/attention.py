"""Multi-head attention taken apart: projections in and out, so that two attentions can share one value."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from cops.products import Int8Linear, affine, learns, linear

_CPU_WEIGHTS_BYTES = 2**22  # of attention weights at once, which so stay in a processor's cache


class QuantizedAttention(nn.Module):
    """Self-attention whose two projections are products of another kind, by default of 8-bit integers."""

    def __init__(self, attn: nn.MultiheadAttention, product: type[Int8Linear] = Int8Linear) -> None:
        super().__init__()
        self.num_heads = attn.num_heads
        self.in_proj = product(attn.in_proj_weight, attn.in_proj_bias)
        self.out_proj = product(attn.out_proj.weight, attn.out_proj.bias)


Attention = nn.MultiheadAttention | QuantizedAttention


def project_in(attn: Attention, tokens: Float[Tensor, "b n d"]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of the same tokens, each (b, heads, n, d / heads)."""
    if isinstance(attn, QuantizedAttention):
        qkv = affine(attn.in_proj, tokens)  # (b, n, 3d)
    else:
        qkv = linear(tokens.to(attn.in_proj_weight.dtype), attn.in_proj_weight, attn.in_proj_bias)
    query, key, value = split_heads(qkv, 3 * attn.num_heads).chunk(3, dim=1)
    return query, key, value


def attend(
    query: Float[Tensor, "b h m e"],
    key: Float[Tensor, "b h n e"],
    value: Float[Tensor, "b h n e"],
    *,
    mask: Bool[Tensor, "m n"] | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "b h m e"]:
    """softmax(q kᵀ/√e) v, over the keys where the mask is True."""
    if query.device.type == "cpu" and mask is None and not is_causal and not learns(query, key, value):
        if query.dtype == torch.float32:
            return _attend_by_head(query, key, value)
        if query.dtype == torch.bfloat16:
            return _attend_by_heads(query, key, value)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)


def _attend_by_head(
    query: Float[Tensor, "b h m e"], key: Float[Tensor, "b h n e"], value: Float[Tensor, "b h n e"]
) -> Float[Tensor, "b h m e"]:
    """One head after the other, some queries at a time, written out: `linear` is faster than torch's own attention."""
    rows = max(1, _CPU_WEIGHTS_BYTES // (key.shape[2] * key.element_size()))
    factors = (query * query.shape[-1] ** -0.5, key, value.mT)
    heads = zip(*(one.contiguous().flatten(0, 1) for one in factors), strict=True)
    found = [linear(linear(part, k).softmax(dim=-1), v) for q, k, v in heads for part in q.split(rows)]
    return torch.cat(found).view(query.shape)


def _attend_by_heads(
    query: Float[Tensor, "b h m e"], key: Float[Tensor, "b h n e"], value: Float[Tensor, "b h n e"]
) -> Float[Tensor, "b h m e"]:
    """A few heads at a time, written out: on a CPU torch's own takes as long in bfloat16 as in float32."""
    weights_bytes = query.shape[2] * key.shape[2] * query.element_size()
    step = max(1, _CPU_WEIGHTS_BYTES // weights_bytes)
    heads = zip(*(one.flatten(0, 1).split(step) for one in (query * query.shape[-1] ** -0.5, key, value)), strict=True)
    return torch.cat([(q @ k.transpose(1, 2)).softmax(dim=-1) @ v for q, k, v in heads]).view(query.shape)


def project_out(
    attn: nn.MultiheadAttention | QuantizedAttention, heads: Float[Tensor, "b h n e"]
) -> Float[Tensor, "b n d"]:
    """The heads side by side, through the output projection."""
    return affine(attn.out_proj, heads.transpose(1, 2).flatten(2))  # (b, n, d)


def split_heads(tokens: Float[Tensor, "b n d"], heads: int) -> Float[Tensor, "b h n e"]:
    batch, length, width = tokens.shape
    return tokens.reshape(batch, length, heads, width // heads).transpose(1, 2)


def cross_attend(
    attn: nn.MultiheadAttention, query: Float[Tensor, "b m d"], source: Float[Tensor, "b n d"]
) -> Float[Tensor, "b m d"]:
    """Attention whose queries come from one set of tokens, keys and values from another."""
    weights = attn.in_proj_weight.chunk(3)
    biases = attn.in_proj_bias.chunk(3)
    q, k, v = (
        split_heads(linear(tokens, weight, bias), attn.num_heads)
        for tokens, weight, bias in zip((query, source, source), weights, biases, strict=True)
    )
    return project_out(attn, attend(q, k, v))
