"""Prompts made per image, and CLIP's text tower reading them once.

A prompt is `[SOT][context][state][class][.][EOT]`, 17 tokens. The published code pads it to 77; under the causal mask
what follows EOT changes nothing. Under the same mask a token depends on those before it alone, so start and context are
read once for a model, an image's state tokens once for all its draws, and each draw adds its class tokens and the end:
2·6 + 2·10·4 = 92 token steps an image, where the published code takes 20·77 = 1,540.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cops.attention import attend, project_in, project_out
from cops.class_tokens import ClassTokenDecoder
from cops.config import CopsConfig
from cops.products import feed_forward
from cops.published import ENCODER
from cops.state_tokens import PrototypeExtractor

KeysValues = list[tuple[Float[Tensor, "s h p e"], Float[Tensor, "s h p e"]]]
"""Of each layer of the text tower: keys and values of the two prompts' first p tokens."""


@dataclass(frozen=True)
class Prompts:
    """What is learned of b images' two prompts, [normal, anomaly], for r draws of the class tokens."""

    states: Float[Tensor, "b s m c"]
    names: Float[Tensor, "#b s r n c"]
    """The class tokens."""


class PromptLearner(nn.Module):
    """All that CoPS learns, under its published names, and the fixed bank of class noise."""

    class_noise: Tensor

    def __init__(self, config: CopsConfig, width: int) -> None:
        super().__init__()
        learned = (1, 1, config.learned_tokens, width)
        self.ctx_pos = nn.Parameter(torch.zeros(learned))  # of the normal prompt
        self.ctx_neg = nn.Parameter(torch.zeros(learned))  # of the anomaly prompt
        self.t_n = nn.Parameter(torch.zeros(config.state_tokens, width))
        self.t_a = nn.Parameter(torch.zeros(config.state_tokens, width))
        self.extractor = PrototypeExtractor(width, config.heads)
        self.vae_decoder = ClassTokenDecoder(width)
        deep = (nn.Parameter(torch.zeros(config.deep_tokens, width)) for _ in range(config.deep_layers))
        self.compound_prompts_text = nn.ParameterList(deep)
        self.register_buffer("class_noise", torch.zeros(config.samples, width))
        self.register_load_state_dict_pre_hook(_as_published)  # type: ignore[no-untyped-call]
        self.section_starts = [config.context_tokens, config.context_tokens + config.state_tokens]

    def forward(
        self,
        normal_states: Float[Tensor, "b m c"],
        anomaly_states: Float[Tensor, "b m c"],
        codes: Float[Tensor, "#b r c"] | None = None,
    ) -> Prompts:
        """The part of each image's prompts that is its own.

        Args:    normal_states, anomaly_states: what is added to the state tokens of the two prompts.
                 codes: draws of the class tokens for each image; the fixed bank for all where None.
        """
        _, state, name = self._sections()
        offsets = self.vae_decoder(self.class_noise[None] if codes is None else codes)  # (#b, r, c)
        return Prompts(
            states=state + torch.stack([normal_states, anomaly_states], dim=1),
            names=name[:, None] + offsets[:, None, :, None],
        )

    def context(self) -> Float[Tensor, "s k c"]:
        """The tokens of both prompts that no image changes."""
        return self._sections()[0]

    def _sections(self) -> tuple[Tensor, Tensor, Tensor]:
        """Context, state and class tokens of both prompts, each (2, tokens, c)."""
        learned = torch.cat([self.ctx_pos[0], self.ctx_neg[0]])  # (2, t, c)
        context, state, name = torch.tensor_split(learned, self.section_starts, dim=1)
        return context, state, name


def _as_published(learner: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state dict is loaded: a published one has the VAE's encoder, for training, and no bank of noise."""
    assert isinstance(learner, PromptLearner)
    for name in [name for name in state_dict if name.startswith(prefix + ENCODER)]:
        del state_dict[name]
    if not learner.class_noise.is_meta:
        state_dict.setdefault(f"{prefix}class_noise", learner.class_noise)


def read_openings(
    openings: Float[Tensor, "s p c"],
    *,
    transformer: nn.Module,
    positions: Float[Tensor, "l c"],
    deep_prompts: Sequence[Float[Tensor, "m c"]],
) -> KeysValues:
    """What later tokens see of the prompts' openings, start and context.

    Args:    deep_prompts: on entry to the second layer and those after it, one of these overwrites positions 1 to m.
    """
    x = openings + positions[: openings.shape[1]]
    kept = []
    for layer, block in enumerate(transformer.resblocks):  # type: ignore[arg-type]
        if 1 <= layer <= len(deep_prompts):
            deep = deep_prompts[layer - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)
        x, key, value = causal_layer(block, x)
        kept.append((key, value))
    return kept


def causal_layer(block: nn.Module, x: Float[Tensor, "n t c"]) -> tuple[Tensor, Tensor, Tensor]:
    """A layer of the text tower, each token seeing itself and those before it; with the layer's keys and values."""
    query, key, value = project_in(block.attn, block.ln_1(x))  # type: ignore[arg-type, operator]
    x = x + project_out(block.attn, attend(query, key, value, is_causal=True))  # type: ignore[arg-type]
    return x + feed_forward(block, x), key, value


def encode_prompts(
    prompts: Prompts,
    ending: Float[Tensor, "u c"],
    openings: KeysValues,
    *,
    transformer: nn.Module,
    positions: Float[Tensor, "l c"],
) -> Float[Tensor, "b s r c"]:
    """What the text tower's last layer puts out at the end of each prompt, before the final norm.

    An image's state tokens and the tails of all its draws are read as one sequence, under a mask that keeps the draws
    apart: each tail stands at the positions right after the states.

    Args:    ending: the full stop and the end of text.   openings: from `read_openings`.
    """
    images, _, count, _ = prompts.states.shape
    draws = prompts.names.shape[2]
    names = prompts.names.expand(images, -1, -1, -1, -1)
    tails = torch.cat([names, ending.expand(*names.shape[:3], -1, -1)], dim=3)  # (b, s, r, t, c)
    length = tails.shape[3]
    begin = openings[0][0].shape[2]
    tails = tails + positions[begin + count : begin + count + length]
    x = torch.cat([prompts.states + positions[begin : begin + count], tails.flatten(2, 3)], dim=2).flatten(0, 1)
    mask = _mask(begin, count, draws, length, x.device)
    last = len(openings) - 1
    for layer, (block, opening) in enumerate(zip(transformer.resblocks, openings, strict=True)):  # type: ignore[arg-type]
        query, key, value = project_in(block.attn, block.ln_1(x))
        if layer == last:  # only the ends are read
            query, x, mask = (_ends(one, count, length) for one in (query, x, mask))
        key, value = (
            torch.cat([before.repeat(images, 1, 1, 1), own], dim=2)
            for before, own in zip(opening, (key, value), strict=True)
        )
        x = x + project_out(block.attn, attend(query, key, value, mask=mask))
        x = x + feed_forward(block, x)
    return x.reshape(images, -1, draws, x.shape[-1])


def _ends(tokens: Tensor, count: int, length: int) -> Tensor:
    """The last token of each tail, of tokens in the last dimension but one."""
    return tokens[..., count + length - 1 :: length, :]


def _mask(begin: int, count: int, draws: int, length: int, device: torch.device) -> Bool[Tensor, "q k"]:
    """True where a token may see another: what opens the prompt, the states before it, and its own tail before it."""
    tails = torch.arange(draws * length, device=device)
    states = torch.arange(-begin, count, device=device)  # the opening's tokens, then the states
    draw = torch.cat([torch.full_like(states, -1), tails // length])  # −1: shared by all draws
    place = torch.cat([states, count + tails % length])
    shared_or_own = (draw == -1) | (draw == draw[begin:, None])
    return shared_or_own & (place <= place[begin:, None])
