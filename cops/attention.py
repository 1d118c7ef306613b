"""Multi-head attention taken apart: projections in and out, so that two attentions can share one value."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


def project_in(attn: nn.MultiheadAttention, tokens: Float[Tensor, "b n d"]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of the same tokens, each (b, heads, n, d / heads)."""
    weight = attn.in_proj_weight
    qkv = functional.linear(tokens.to(weight.dtype), weight, attn.in_proj_bias)  # (b, n, 3d)
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
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)


def project_out(attn: nn.MultiheadAttention, heads: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n d"]:
    """The heads side by side, through the output projection."""
    merged = heads.transpose(1, 2).flatten(2)  # (b, n, d)
    return functional.linear(merged, attn.out_proj.weight, attn.out_proj.bias)


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
        split_heads(functional.linear(tokens, weight, bias), attn.num_heads)
        for tokens, weight, bias in zip((query, source, source), weights, biases, strict=True)
    )
    return project_out(attn, attend(q, k, v))


def feed_forward(block: nn.Module, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """A block's MLP on its second norm, without the residual, in the precision of the MLP's weights."""
    dtype = block.mlp.c_fc.weight.dtype  # type: ignore[union-attr]
    hidden: Tensor = block.mlp(block.ln_2(tokens).to(dtype))  # type: ignore[operator]
    return hidden
