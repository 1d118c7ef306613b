"""One training step: frozen CLIP features in, losses out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cops import alignment
from cops.class_tokens import ClassTokenEncoder
from cops.model import CoPS
from cops.training import losses
from cops.training.losses import LossSums


@dataclass(frozen=True)
class Batch:
    """Frozen features of b images and what is known of them."""

    image: Float[Tensor, "b c"]
    patches: Float[Tensor, "b n c"]
    """As the vision tower gives them, before the spatial averaging."""
    labels: Int[Tensor, " b"]
    """0 normal, 1 anomalous."""
    coverage: Float[Tensor, "b n"]
    """The share of anomalous pixels in each patch."""


class Learner(nn.Module):
    """What is learned of a model: its prompts, its queries and extractor, and the VAE with the encoder that only
    training needs. The CLIP around it is frozen.
    """

    def __init__(self, model: CoPS) -> None:
        super().__init__()
        model.requires_grad_(False)
        model.prompt_learner.requires_grad_(True)
        self.model = model
        self.encoder = ClassTokenEncoder(model.prompt_learner.t_n.shape[1])

    def forward(self, batch: Batch, noise: Float[Tensor, "b c"]) -> LossSums:
        """The losses of a batch.

        Args:    noise: standard normal, one draw for each image's class code.
        Source:  method.md, 8 (the published training loop).
        """
        model, learner, config = self.model, self.model.prompt_learner, self.model.config
        patches = alignment.spatial_average(batch.patches, config.k)
        normal, anomaly = learner.extractor(learner.t_n, patches), learner.extractor(learner.t_a, patches)
        mean, log_variance = self.encoder(batch.image)
        codes = mean + torch.exp(0.5 * log_variance) * noise
        # The prompts' losses do not reach the prototypes, which learn from the distances alone.
        text = model.text_features(normal.detach(), anomaly.detach(), codes[:, None])[:, :, 0]  # (b, 2, c)

        similarity = functional.normalize(patches, dim=-1) @ text.transpose(1, 2)
        probability = (similarity / config.temperature).softmax(dim=-1)  # (b, n, 2)
        is_anomalous = batch.coverage > 0
        patch_pixels = (config.image_size // model.grid) ** 2
        of_images = {
            "classification": losses.classification(batch.image, text, batch.labels, temperature=config.temperature),
            "focal": losses.focal(probability, batch.coverage),
            "dice_normal": losses.dice(probability[..., 0], 1 - batch.coverage, patch_pixels=patch_pixels),
            "dice_anomaly": losses.dice(probability[..., 1], batch.coverage, patch_pixels=patch_pixels),
            "kl": losses.kl_divergence(mean, log_variance),
            "reconstruction": losses.reconstruction(batch.image, learner.vae_decoder(codes)),
        }
        of_patches = {
            "normal_distance": alignment.prototype_distance(patches, normal)[~is_anomalous],
            "anomaly_distance": alignment.prototype_distance(patches, anomaly)[is_anomalous],
        }
        values = of_images | of_patches
        return LossSums(
            sums=torch.stack([values[name].sum() for name in losses.NAMES]),
            counts=torch.tensor([float(values[name].numel()) for name in losses.NAMES], device=batch.image.device),
        )
