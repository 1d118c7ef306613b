"""Prompts and the text tower."""

import torch

from cops.class_tokens import draw_class_noise
from cops.config import CopsConfig
from cops.prompts import PromptLearner, enclose, encode_prompts


def test_prompt_layout():
    """SOT, context, state + prototype, class + decoded noise, full stop, EOT: 17 tokens in that order."""
    config = CopsConfig(samples=2, deep_layers=0, heads=1)
    learner = PromptLearner(config, 1)
    torch.nn.init.zeros_(learner.vae_decoder.net[2].weight)
    learner.vae_decoder.net[2].bias.data.fill_(100.0)
    learner.ctx_pos.data = torch.arange(14.0).reshape(1, 1, 14, 1)
    learner.ctx_neg.data = -torch.arange(14.0).reshape(1, 1, 14, 1)
    states = torch.full((3, 6, 1), 0.5)
    with torch.no_grad():
        prompts = enclose(learner(states, -states), torch.tensor([[-7.0], [-8.0], [-9.0]]))
    assert prompts.shape == (3, 2, 2, 17, 1)
    context, state, name = list(range(6)), [6.5, 7.5, 8.5, 9.5, 10.5, 11.5], [112, 113]
    assert prompts[1, 0, 1, :, 0].tolist() == [-7, *context, *state, *name, -8, -9]
    assert prompts[2, 1, 0, 7:13, 0].tolist() == [-value for value in state]


def test_tokens_after_the_end_change_nothing(tiny):
    """The causal mask at work: 17 tokens serve where the published code pads to 77."""
    padded = torch.randn(2, 77, 192, generator=torch.Generator().manual_seed(0))
    deep = list(tiny.prompt_learner.compound_prompts_text)
    tower = {"transformer": tiny.transformer, "positions": tiny.positional_embedding, "deep_prompts": deep}
    cut = encode_prompts(padded[:, :17], **tower)
    from_open_clip = encode_with_open_clip(tiny, padded, deep)
    torch.testing.assert_close(cut, from_open_clip, atol=1e-4, rtol=1e-4)


def encode_with_open_clip(model, prompts, deep):
    """open_clip's own blocks under their own mask, all tokens, positions 1 to 4 overwritten from the second on."""
    x = prompts + model.positional_embedding[: prompts.shape[1]]
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
    for layer, block in enumerate(model.transformer.resblocks):
        if 1 <= layer <= len(deep):
            x = x.clone()
            x[:, 1:5] = deep[layer - 1]
        x = block(x, attn_mask=mask)
    return x[:, 16]


def test_noise_is_its_seeds():
    """One seed, one bank; another seed, another."""
    torch.testing.assert_close(draw_class_noise(3, 4, seed=1), draw_class_noise(3, 4, seed=1))
    assert not draw_class_noise(3, 4, seed=1).equal(draw_class_noise(3, 4, seed=2))
