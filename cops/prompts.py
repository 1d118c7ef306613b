"""Prompts made per image, and CLIP's text tower reading them.

A prompt is `[SOT][context][state][class][.][EOT]`, 17 tokens. The published code pads it to 77; under the causal mask
what follows EOT changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cops.attention import feed_forward, project_in, project_out
from cops.class_tokens import ClassTokenDecoder
from cops.config import CopsConfig
from cops.published import ENCODER
from cops.state_tokens import PrototypeExtractor


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
    ) -> Float[Tensor, "b 2 r t c"]:
        """The learned tokens of each image's prompts, [normal, anomaly], for each draw of the class tokens.

        Args:    normal_states, anomaly_states: what is added to the state tokens of the two prompts.
                 codes: draws of the class tokens for each image; the fixed bank for all where None.
        """
        class_offsets = self.vae_decoder(self.class_noise[None] if codes is None else codes)
        prompts = [
            self._compose(learned[0, 0], states, class_offsets)
            for learned, states in ((self.ctx_pos, normal_states), (self.ctx_neg, anomaly_states))
        ]
        return torch.stack(prompts, dim=1)

    def _compose(
        self, learned: Float[Tensor, "t c"], states: Float[Tensor, "b m c"], class_offsets: Float[Tensor, "#b r c"]
    ) -> Float[Tensor, "b r t c"]:
        context, state, name = torch.tensor_split(learned, self.section_starts)
        images, draws = len(states), class_offsets.shape[1]
        parts = (
            context.expand(images, draws, -1, -1),
            (state + states)[:, None].expand(-1, draws, -1, -1),
            (name + class_offsets[:, :, None]).expand(images, -1, -1, -1),
        )
        return torch.cat(parts, dim=2)


def _as_published(learner: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state dict is loaded: a published one has the VAE's encoder, for training, and no bank of noise."""
    assert isinstance(learner, PromptLearner)
    for name in [name for name in state_dict if name.startswith(prefix + ENCODER)]:
        del state_dict[name]
    if not learner.class_noise.is_meta:
        state_dict.setdefault(f"{prefix}class_noise", learner.class_noise)


def enclose(prompts: Float[Tensor, "b s r t c"], anchors: Float[Tensor, "3 c"]) -> Float[Tensor, "b s r u c"]:
    """The learned tokens between start of text and full stop with end of text."""
    start, stop, end = (row.expand(*prompts.shape[:3], 1, -1) for row in anchors)
    return torch.cat([start, prompts, stop, end], dim=3)


def encode_prompts(
    prompts: Float[Tensor, "n t c"],
    *,
    transformer: nn.Module,
    positions: Float[Tensor, "l c"],
    deep_prompts: Sequence[Float[Tensor, "m c"]],
    ends: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, "n c"]:
    """What the text tower's last layer puts out at each prompt's end, before the final norm.

    Args:    deep_prompts: on entry to the second layer and those after it, one of these overwrites positions 1 to m.
             ends: where each prompt ends; the last token where None.
    """
    x = prompts + positions[: prompts.shape[1]]
    for layer, block in enumerate(transformer.resblocks):  # type: ignore[arg-type]
        if 1 <= layer <= len(deep_prompts):
            deep = deep_prompts[layer - 1].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)
        query, key, value = project_in(block.attn, block.ln_1(x))
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + project_out(block.attn, attended)
        x = x + feed_forward(block, x)
    return x[:, -1] if ends is None else x[torch.arange(len(x), device=x.device), ends]
