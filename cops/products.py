"""The towers' products, in the precision of their weights: float32, bfloat16, float16, or 8-bit integers on a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional

_CPU_ROWS = 256  # of tokens at once in low precision: what lies between two products stays in the processor's cache
_INT8_TOP = 127
_QUICK_GELU = 1.702
_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Int8Linear(nn.Module):
    """x wᵀ + b with 8-bit integers: weights scaled per output channel, activations per token, as they come.

    Sums are exact in 32 bits; what comes out is bfloat16.
    Args:    weight: (out, in), of any float type.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]) -> None:
        super().__init__()
        exact = weight.detach().float()
        scale = exact.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _INT8_TOP
        self.register_buffer("weight", torch.round(exact / scale[:, None]).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias.detach().float())

    def forward(self, rows: Float[Tensor, "n i"], *, gain: float = 1.0, bias_gain: float = 1.0) -> Float[Tensor, "n o"]:
        step = rows.abs().amax(dim=1, keepdim=True).float().clamp_min(torch.finfo(torch.float32).tiny) / _INT8_TOP
        summed = torch._int_mm(torch.round(rows / step).to(torch.int8), self.weight.t())
        scaled = summed.float().mul_(step * gain)
        return torch.addcmul(self.bias * bias_gain, scaled, self.scale).to(torch.bfloat16)


def affine(
    product: nn.Linear | Int8Linear, tokens: Float[Tensor, "*b n i"], *, gain: float = 1.0, bias_gain: float = 1.0
) -> Float[Tensor, "*b n o"]:
    """gain · x wᵀ + bias_gain · b."""
    rows = tokens.flatten(0, -2)
    if isinstance(product, Int8Linear):
        found = _in_cache(lambda part: product(part, gain=gain, bias_gain=bias_gain), rows)
    else:
        found = _scaled(rows, product.weight, product.bias * bias_gain if bias_gain != 1 else product.bias, gain)
    return found.view(*tokens.shape[:-1], -1)


def linear(
    tokens: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "*b o"]:
    """x wᵀ + b. In float32 on a CPU by oneDNN where nothing is learned: torch's own choice there, MKL, runs at half the
    rate on AMD's processors.
    """
    if _ONEDNN and tokens.device.type == "cpu" and tokens.dtype == torch.float32 and not learns(tokens, weight, bias):
        found: Tensor = torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "none", [], "")
        return found
    return functional.linear(tokens, weight, bias)


def learns(*tensors: Tensor | None) -> bool:
    """Whether a gradient is wanted of any of them."""
    return torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)


def _scaled(rows: Tensor, weight: Tensor, bias: Tensor, gain: float) -> Tensor:
    """gain · rows wᵀ + b, the gain where it costs least."""
    if gain == 1:
        return linear(rows, weight, bias)
    if weight.dtype != torch.float32:
        return torch.addmm(bias, rows, weight.t(), alpha=gain)
    if weight.shape[1] <= weight.shape[0]:
        return linear(rows * gain, weight, bias)
    return linear(rows, weight, bias / gain) * gain


def feed_forward(block: nn.Module, tokens: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """A block's MLP on its second norm, without the residual, in the precision of the MLP's weights."""
    mlp: Any = block.mlp
    weight: Tensor = mlp.c_fc.weight
    is_int8 = isinstance(mlp.c_fc, Int8Linear)

    def run(rows: Tensor) -> Tensor:
        normed: Tensor = block.ln_2(rows)  # type: ignore[operator]
        if not is_int8:
            normed = normed.to(weight.dtype)
        if not isinstance(mlp.gelu, QuickGELU):
            plainly: Tensor = mlp(normed)
            return plainly
        # x·σ(1.702 x) is silu(1.702 x) / 1.702: its factors go into the products, which leaves one pass of three.
        hidden = affine(mlp.c_fc, normed, gain=_QUICK_GELU, bias_gain=_QUICK_GELU)
        return affine(mlp.c_proj, functional.silu(hidden), gain=1 / _QUICK_GELU)

    rows = tokens.flatten(0, -2)
    return (run(rows) if weight.dtype == torch.float32 else _in_cache(run, rows)).view(tokens.shape)


def _in_cache(work: Callable[[Tensor], Tensor], rows: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
    """On a CPU a few rows at a time; on a GPU all at once."""
    if rows.device.type != "cpu" or len(rows) <= _CPU_ROWS:
        return work(rows)
    return torch.cat([work(part) for part in torch.split(rows, _CPU_ROWS)])
