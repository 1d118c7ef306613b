"""SAGA: spatially averaged patches, their distances to the prototypes, and the scores that come of both."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# Distances are 1 − cos in float32, with rounding near 1e-7. A map that varies less than this is constant, and
# stretching it to [0, 1] would show rounding.
CONSTANT_BELOW = 1e-6


def spatial_average(patches: Float[Tensor, "b n c"], k: int) -> Float[Tensor, "b n c"]:
    """Each patch feature averaged with its neighbours in a k×k window; the zeros beyond the border count."""
    grid = int(patches.shape[1] ** 0.5)
    square = patches.transpose(1, 2).reshape(-1, patches.shape[2], grid, grid)  # (b, c, g, g)
    averaged = functional.avg_pool2d(square, k, stride=1, padding=k // 2)
    return averaged.flatten(2).transpose(1, 2)


def prototype_distance(patches: Float[Tensor, "b n c"], prototypes: Float[Tensor, "b m c"]) -> Float[Tensor, "b n"]:
    """Cosine distance of each patch to the nearest prototype of its image, in [0, 2].

    In float64, because `stretch` blows rounding up where an image's distances are much alike.
    """
    directions = functional.normalize(prototypes.double(), dim=-1)
    cosine = functional.normalize(patches.double(), dim=-1) @ directions.transpose(1, 2)  # (b, n, m)
    return (1 - cosine.amax(dim=-1)).float()


def stretch(distance: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Each image's distances stretched to [0, 1]; 0 everywhere where they are constant, as on a blank image.

    Differs: the published code takes the extremes over the whole batch, which it only ever runs at size 1.
    """
    low, high = distance.amin(dim=1, keepdim=True), distance.amax(dim=1, keepdim=True)
    span = high - low
    return torch.where(span > CONSTANT_BELOW, (distance - low) / span.clamp_min(CONSTANT_BELOW), 0.0)


def anomaly_probability(
    features: Float[Tensor, "b n c"], text: Float[Tensor, "b 2 c"], *, temperature: float
) -> Float[Tensor, "b n"]:
    """Softmax over [normal, anomaly] of the cosine similarities: the anomaly's share, in [0, 1].

    Args:    features: of any length.   text: of unit length.
    """
    similarity = functional.normalize(features, dim=-1) @ text.transpose(1, 2)  # (b, n, 2)
    return (similarity / temperature).softmax(dim=-1)[..., 1]


def score_patches(
    probability: Float[Tensor, "b n"],
    distance_normal: Float[Tensor, "b n"],
    distance_anomaly: Float[Tensor, "b n"],
    *,
    alpha: float,
) -> Float[Tensor, "b n"]:
    """The patch scores s = p · D, in [0, 1]: far from what is normal and near to what is not.

    Source:  the paper's spatially-aware glocal alignment (SAGA).
    """
    distance = alpha * stretch(distance_normal) + (1 - alpha) * (1 - stretch(distance_anomaly))
    return probability * distance


def score_images(
    class_score: Float[Tensor, " b"], patch_score_max: Float[Tensor, " b"], *, beta: float
) -> Float[Tensor, " b"]:
    """The image scores: the classification term, weighted by β, with the hottest patch."""
    return beta * class_score + (1 - beta) * patch_score_max
