"""An experiment: the image tower's products with weights in 8-bit floats, as Hopper's tensor cores take them.

Weights are scaled per output channel, activations per token, to float8_e4m3fn's range; what comes out is bfloat16.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops.model import CoPS
from cops.precision import quantize
from cops.products import Int8Linear

_FORMAT = torch.float8_e4m3fn
_TOP = torch.finfo(_FORMAT).max


class Fp8Linear(Int8Linear):
    """x wᵀ + b in 8-bit floats; takes the place of the 8-bit integers' product."""

    def __init__(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]) -> None:
        nn.Module.__init__(self)
        exact = weight.detach().float()
        scale = exact.abs().amax(dim=1).clamp_min(1e-12) / _TOP
        self.register_buffer("weight", (exact / scale[:, None]).to(_FORMAT))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias.detach().float())

    def forward(self, rows: Float[Tensor, "n i"], *, gain: float = 1.0, bias_gain: float = 1.0) -> Float[Tensor, "n o"]:
        step = rows.abs().amax(dim=1, keepdim=True).float().clamp_min(1e-12) / _TOP
        scale = (self.scale * gain)[None]
        summed = torch._scaled_mm(
            (rows / step).to(_FORMAT), self.weight.t(), scale_a=step, scale_b=scale, out_dtype=torch.bfloat16
        )
        return summed + (self.bias * bias_gain).to(torch.bfloat16)


def use_fp8(model: CoPS) -> None:
    """Of a float32 model: its image tower's products in 8-bit floats, what else is large in bfloat16."""
    quantize(model, Fp8Linear)
    for block in model.transformer.resblocks:
        block.attn.to(torch.bfloat16)
        block.mlp.to(torch.bfloat16)
    model.visual.conv1.to(torch.bfloat16)
