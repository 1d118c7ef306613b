"""The image tower against open_clip's and against a plain reading of the equations."""

import torch

from cops.vision import embed, encode_images, resize_positions, two_path_layer


def test_the_x_path_is_clips(tiny):
    """At the backbone's own size, the class feature before `ln_post` is what CLIP's tower computes."""
    visual = tiny.visual
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = visual.transformer(visual._embeds(pixels))[:, 0] @ visual.proj
        torch.testing.assert_close(encode_images(visual, pixels).image, expected, atol=1e-4, rtol=1e-4)


def test_the_dense_path_attends_among_values(tiny):
    """The y path gains proj(softmax(v vᵀ/√d) v), head by head, with v of the x path, and no MLP."""
    block = tiny.visual.transformer.resblocks[0]
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 5, 128, generator=generator)
    with torch.inference_mode():
        found = two_path_layer(block, x, y[:, 1:])[1]
        v = (block.ln_1(x) @ block.attn.in_proj_weight[256:].T + block.attn.in_proj_bias[256:])[0]
        heads = [head @ head.T for head in v.split(64, dim=1)]
        mixed = [(one / 8).softmax(dim=-1) @ head for one, head in zip(heads, v.split(64, dim=1), strict=True)]
        expected = (y[0] + block.attn.out_proj(torch.cat(mixed, dim=1)))[1:]
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)


def test_the_patch_product_is_the_convolution(tiny):
    """Patches unfolded and multiplied are CLIP's patch convolution."""
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(embed(tiny.visual, pixels), tiny.visual._embeds(pixels), atol=1e-5, rtol=1e-5)


def test_positions_are_resized_bilinearly():
    """From 2×2 to 4×4 by hand; the class row stays, and the own size changes nothing."""
    table = torch.tensor([[9.0], [0.0], [4.0], [0.0], [4.0]])
    resized = resize_positions(table, 4)
    assert resized[:5, 0].tolist() == [9, 0, 1, 3, 4]
    assert resize_positions(table, 2) is table
