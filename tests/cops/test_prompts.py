"""Prompts and the text tower."""

import pytest
import torch

from cops.class_tokens import draw_class_noise
from cops.config import CopsConfig
from cops.prompts import PromptLearner, encode_prompts, read_openings


def test_prompt_layout():
    """State + prototype and class + decoded noise of both prompts, beside a context that no image changes."""
    config = CopsConfig(samples=2, deep_layers=0, heads=1)
    learner = PromptLearner(config, 1)
    torch.nn.init.zeros_(learner.vae_decoder.net[2].weight)
    learner.vae_decoder.net[2].bias.data.fill_(100.0)
    learner.ctx_pos.data = torch.arange(14.0).reshape(1, 1, 14, 1)
    learner.ctx_neg.data = -torch.arange(14.0).reshape(1, 1, 14, 1)
    states = torch.full((3, 6, 1), 0.5)
    with torch.no_grad():
        prompts = learner(states, -states)
        assert learner.context()[:, :, 0].tolist() == [[0, 1, 2, 3, 4, 5], [0, -1, -2, -3, -4, -5]]
    assert prompts.states.shape == (3, 2, 6, 1) and prompts.names.shape == (1, 2, 2, 2, 1)
    assert prompts.states[1, 0, :, 0].tolist() == [6.5, 7.5, 8.5, 9.5, 10.5, 11.5]
    assert prompts.states[2, 1, :, 0].tolist() == [-6.5, -7.5, -8.5, -9.5, -10.5, -11.5]
    assert prompts.names[0, :, 1, :, 0].tolist() == [[112, 113], [88, 87]]


@pytest.mark.parametrize(("images", "draws"), [(1, 1), (2, 3)])
def test_shared_openings_and_states_change_nothing(tiny, images, draws):
    """Each draw's prompt gives what open_clip's own blocks give for it alone, padded to 77 tokens."""
    generator = torch.Generator().manual_seed(0)
    normal, anomaly = torch.randn(2, images, 6, 192, generator=generator)
    codes = torch.randn(images, draws, 192, generator=generator)
    learner, deep = tiny.prompt_learner, list(tiny.prompt_learner.compound_prompts_text)
    start, *ending = tiny._anchors()
    tower = {"transformer": tiny.transformer, "positions": tiny.positional_embedding}
    with torch.inference_mode():
        prompts, context = learner(normal, anomaly, codes), learner.context()
        openings = torch.cat([start.expand(2, 1, -1), context], dim=1)
        kept = read_openings(openings, deep_prompts=deep, **tower)
        found = encode_prompts(prompts, torch.stack(ending), kept, **tower)
        assert found.shape == (images, 2, draws, 192)
        for image in range(images):
            for state in range(2):
                for draw in range(draws):
                    parts = (openings[state], prompts.states[image, state], prompts.names[image, state, draw])
                    whole = torch.cat([*parts, *(row[None] for row in ending), torch.randn(60, 192)])
                    expected = encode_with_open_clip(tiny, whole[None], deep)[0]
                    torch.testing.assert_close(found[image, state, draw], expected, atol=1e-4, rtol=1e-4)


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
