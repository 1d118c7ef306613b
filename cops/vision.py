"""The image tower on two paths: CLIP's own (Q-KV) for the image feature, V-VV for dense patch features.

Residual sums and norms stay in float32; only the large products run in the weights' precision.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cops.attention import attend, project_in, project_out
from cops.products import feed_forward, linear


@dataclass(frozen=True)
class VisionFeatures:
    """What the image tower says of b images: neither feature is normalised."""

    image: Float[Tensor, "b c"]
    patches: Float[Tensor, "b n c"]


def encode_images(visual: nn.Module, pixels: Float[Tensor, "b 3 s s"]) -> VisionFeatures:
    """Image and patch features from CLIP's vision transformer.

    `ln_post` is applied to the patches and not to the image feature, unlike in CLIP: the published weights expect that.
    Args:    visual: `open_clip.model.CLIP(...).visual`.   pixels: normalised; the side is a multiple of the patch.
    Source:  the paper's image branch (Q-KV and V-VV attention).
    """
    x, y = both_paths(visual, pixels)
    return VisionFeatures(image=x @ visual.proj, patches=visual.ln_post(y) @ visual.proj)  # type: ignore[operator]


def both_paths(
    visual: nn.Module, pixels: Float[Tensor, "b 3 s s"]
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"]]:
    """The last layer's class token of CLIP's own path, and its patches of the dense one."""
    x = embed(visual, pixels)  # (b, 1 + n, d)
    y = x[:, 1:]  # nobody reads the dense path's class token
    *blocks, last = visual.transformer.resblocks  # type: ignore[union-attr, misc]
    for block in blocks:
        x, y = two_path_layer(block, x, y)
    x, y = two_path_layer(last, x, y, keep=1)  # of the ordinary path, the class token alone goes on
    return x[:, 0], y


def two_path_layer(
    block: nn.Module, x: Float[Tensor, "b t d"], y: Float[Tensor, "b n d"], *, keep: int | None = None
) -> tuple[Float[Tensor, "b u d"], Float[Tensor, "b n d"]]:
    """One layer: the dense path y gathers what values attend to among themselves, and has no MLP.

    Both attentions read the values of the x path and leave through the same projection, in one product.

    Args:    y: the patches, without the class token.   keep: tokens of the x path that are read further; None: all.
    """
    query, key, value = project_in(block.attn, block.ln_1(x))  # type: ignore[arg-type, operator]
    x = x[:, :keep]
    heads = torch.cat([attend(query[:, :, :keep], key, value), attend(value[:, :, 1:], value, value)], dim=2)
    gathered = project_out(block.attn, heads)  # type: ignore[arg-type]
    x, y = x + gathered[:, : x.shape[1]], y + gathered[:, x.shape[1] :]
    return x + feed_forward(block, x), y


def embed(visual: nn.Module, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t d"]:
    """Patches with the class token first, positions added, normed."""
    weight: Tensor = visual.conv1.weight  # type: ignore[union-attr, assignment]
    patch = weight.shape[-1]
    grid = pixels.shape[-1] // patch
    # A product of unfolded patches: cuDNN would run the convolution in TF32, whose error is above 1e-4.
    patches = pixels.reshape(-1, 3, grid, patch, grid, patch)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (b, n, 3pp)
    tokens = linear(patches.to(weight.dtype), weight.flatten(1)).float()  # (b, n, d)
    class_token = visual.class_embedding.expand(len(pixels), 1, -1)  # type: ignore[operator]
    positions = resize_positions(visual.positional_embedding, grid)  # type: ignore[arg-type]
    embedded: Tensor = visual.ln_pre(torch.cat([class_token, tokens], dim=1) + positions)  # type: ignore[operator]
    return embedded


def resize_positions(table: Float[Tensor, "t d"], grid: int) -> Float[Tensor, "u d"]:
    """The positional table for a grid×grid image: class row kept, patch rows resized bilinearly.

    open_clip would resize bicubically with antialias; the published weights were trained with this.
    """
    side = int((len(table) - 1) ** 0.5)
    if side == grid:
        return table
    square = table[1:].reshape(side, side, -1).permute(2, 0, 1)[None]  # (1, d, side, side)
    resized = functional.interpolate(square, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T])
