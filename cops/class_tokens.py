"""ICTS: class tokens are varied by a VAE's decoder; at inference its draws are one fixed bank."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ClassTokenDecoder(nn.Module):
    """The VAE's decoder: what each draw adds to the learned class tokens.

    Source:  the paper's implicit class token sampling (ICTS). The encoder serves training alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, codes: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        decoded: Tensor = self.net(codes)
        return decoded


class ClassTokenEncoder(nn.Module):
    """The VAE's encoder, which training alone needs: an image feature's class code as a normal distribution.

    Source:  the paper's implicit class token sampling (ICTS).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.mean = nn.Linear(width, width)
        self.log_var = nn.Linear(width, width)

    def forward(self, image: Float[Tensor, "b c"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """Mean and logarithm of the variance."""
        hidden = self.net(image)
        return self.mean(hidden), self.log_var(hidden)


def draw_class_noise(samples: int, width: int, *, seed: int) -> Float[Tensor, "r c"]:
    """The bank of standard normal draws that serves every image.

    Differs: the published code draws afresh for each image, so that a score there depends on the image's place in the
    run. The bank is stored with the weights, because a generator's numbers may change from one torch to the next.
    """
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(seed))
