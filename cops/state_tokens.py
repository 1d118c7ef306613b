"""ESTS: learned queries gather each image's own normal and anomalous prototypes from its patches."""

from collections import OrderedDict

from jaxtyping import Float
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from cops.attention import cross_attend
from cops.products import feed_forward


class PrototypeExtractor(nn.Module):
    """One cross-attention block that turns state queries into prototypes of an image.

    Source:  the paper's explicit state token synthesis (ESTS).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, width),
                gelu=QuickGELU(),
                c_proj=nn.Linear(width, width),
            )
        )

    def forward(self, queries: Float[Tensor, "m c"], patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """One prototype for each query and image."""
        expanded = queries.expand(len(patches), -1, -1)
        # One norm serves queries and patches alike.
        prototypes = expanded + cross_attend(self.attn, self.ln_1(expanded), self.ln_1(patches))
        return prototypes + feed_forward(self, prototypes)
