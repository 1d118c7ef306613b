"""The losses of CoPS on a batch, each as a sum and what it is the mean over.

Sums and counts are kept apart because a mean over several processes is the sum of their sums over the sum of their
counts: so many GPUs give the gradient that one gives.

Probabilities are constant within a patch (the published code upsamples them to the nearest pixel), so the pixel losses
need the share of anomalous pixels in each patch, its coverage, and not the mask: the same numbers, from a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

NAMES = (
    "classification",
    "focal",
    "dice_normal",
    "dice_anomaly",
    "normal_distance",
    "anomaly_distance",
    "kl",
    "reconstruction",
)
FOCAL_GAMMA = 2
TINY = 1e-5  # what the published focal loss clamps targets by and adds to p_t
DICE_SMOOTHING = 1.0  # pixels


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each loss counts in the total."""

    classification: float = 1.0
    focal: float = 4.0
    dice_normal: float = 4.0
    dice_anomaly: float = 4.0
    normal_distance: float = 1.0
    anomaly_distance: float = 1.0
    kl: float = 1.0
    reconstruction: float = 1.0
    """0 in the recipe for VisA, where the published code switches it off."""

    def vector(self) -> Float[Tensor, " l"]:
        return torch.tensor([getattr(self, name) for name in NAMES])


@dataclass(frozen=True)
class LossSums:
    """Sums of the losses over a batch, and over how many images or patches, in the order of NAMES."""

    sums: Float[Tensor, " l"]
    counts: Float[Tensor, " l"]

    def means(self) -> Float[Tensor, " l"]:
        """0 where there is nothing to take the mean of, such as the anomalous patches of normal images."""
        return self.sums / self.counts.clamp_min(1)


def mask_coverage(masks: Float[Tensor, "b s s"], patch_px: int) -> Float[Tensor, "b n"]:
    """The share of anomalous pixels (above 0.5) in each patch, row-major."""
    return functional.avg_pool2d((masks > 0.5).float()[:, None], patch_px).flatten(1)


def classification(
    image: Float[Tensor, "b c"], text: Float[Tensor, "b 2 c"], labels: Int[Tensor, " b"], *, temperature: float
) -> Float[Tensor, " b"]:
    """Cross entropy of each image between the two prompts."""
    similarity = (text @ functional.normalize(image, dim=-1)[..., None])[..., 0]  # (b, 2)
    return functional.cross_entropy(similarity / temperature, labels.long(), reduction="none")


def focal(probability: Float[Tensor, "b n 2"], coverage: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Focal loss of each image, the mean over its pixels."""
    shares = torch.stack([1 - coverage, coverage], dim=-1)
    # An anomalous pixel's p_t is nearly the anomaly's probability; the published code clamps its one-hot target.
    target_probability = probability * (1 - TINY) + probability.flip(-1) * TINY + TINY
    losses = -((1 - target_probability) ** FOCAL_GAMMA) * target_probability.log()
    return (shares * losses).sum(dim=-1).mean(dim=-1)


def dice(
    probability: Float[Tensor, "b n"], coverage: Float[Tensor, "b n"], *, patch_pixels: int
) -> Float[Tensor, " b"]:
    """1 − the Dice overlap of each image's pixels."""
    overlap = (probability * coverage).sum(dim=1) * patch_pixels
    sizes = (probability + coverage).sum(dim=1) * patch_pixels
    return 1 - (2 * overlap + DICE_SMOOTHING) / (sizes + DICE_SMOOTHING)


def kl_divergence(mean: Float[Tensor, "b c"], log_variance: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Of each image's posterior from the standard normal distribution."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=1)


def reconstruction(image: Float[Tensor, "b c"], decoded: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Squared distance of each image feature to what the decoder makes of its code."""
    return ((image - decoded) ** 2).sum(dim=1)
