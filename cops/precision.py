"""The precisions that a model can run in, and how far each may differ from float32."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cops.attention import QuantizedAttention
from cops.products import Int8Linear

if TYPE_CHECKING:
    from cops.model import CoPS

PRECISIONS = ("float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True)
class Tolerance:
    """Of a precision against float32 on the CPU, over photographs: what is published, and tested.

    Measured: benchmarks/results/precision-cpu.md.
    """

    score: float
    """Largest difference of an image score."""
    spearman: float
    """Least rank correlation of image scores."""
    map: float
    """Largest difference of a pixel of the anomaly map."""


TOLERANCES = {
    "float32": Tolerance(score=1e-5, spearman=0.99999, map=1e-5),
    "bfloat16": Tolerance(score=2e-2, spearman=0.99, map=3e-2),
    "float16": Tolerance(score=3e-3, spearman=0.998, map=5e-3),
    "int8": Tolerance(score=4e-2, spearman=0.98, map=6e-2),
}


def use_precision(model: "CoPS", precision: str) -> None:
    """Run the towers' large products in a lower precision; norms, residual sums and the scoring stay float32.

    `int8` is of the image tower's products with weights, on a CPU; what else is large is bfloat16 then.
    """
    model.precision = precision
    if precision == "int8":
        quantize(model)
    dtype: torch.dtype = torch.bfloat16 if precision == "int8" else getattr(torch, precision)
    floats = [] if precision == "int8" else [*model.visual.transformer.resblocks]
    for block in (*floats, *model.transformer.resblocks):
        block.attn.to(dtype)
        block.mlp.to(dtype)
    model.visual.conv1.to(dtype)


def quantize(model: "CoPS", product: type[Int8Linear] = Int8Linear) -> None:
    """Put products of another kind in place of the image tower's products with weights."""
    for block in model.visual.transformer.resblocks:
        block.attn = QuantizedAttention(block.attn, product)
        for name in ("c_fc", "c_proj"):
            linear = getattr(block.mlp, name)
            setattr(block.mlp, name, product(linear.weight, linear.bias))
