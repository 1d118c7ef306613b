"""Plain zero-shot CLIP with prompts that a person wrote: what CoPS is compared with, on the same backbone.

Nothing that CoPS learned takes part. Input, backbone, dense path, temperature and smoothing are CoPS's own, so the
difference of the two is that of the prompts, the prototypes and the spatial averaging.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from cops import alignment
from cops.backbone import architecture
from cops.checkpoint import UNUSED, Checkpoint, weights_digest
from cops.images import Images
from cops.model import CoPS, Prediction, Scores
from cops.published import LEARNED
from cops.texts import encode_texts, tokenize
from cops.vision import both_paths

# Common words alone, so that a model with a small vocabulary of its own can know them all.
NOUNS = ("object", "surface", "product")
NORMAL = (
    *(f"{state} {{}}" for state in ("normal", "good", "clean", "perfect", "flawless", "undamaged", "intact")),
    *(f"{{}} without {lack}" for lack in ("defect", "flaw", "damage")),
)
ANOMALOUS = (
    *(f"{state} {{}}" for state in ("damaged", "defective", "broken", "anomalous", "scratched", "cracked")),
    *(f"{state} {{}}" for state in ("dirty", "stained", "bent", "dented")),
    *(f"{{}} with {mark}" for mark in ("defect", "damage", "a flaw", "a hole", "a dent", "a spot", "a blob")),
    *("{} with a missing part", "{} with foreign material"),
)
TEMPLATES = ("the {}.", "a photo of the {}.")  # "the" suits every word that follows

_CONSTANTS = ("image_size", "temperature", "sigma_px", "pixel_mean", "pixel_std")  # of the config, that change a score
SCORING_VERSION = 1  # raise it when a change of the code changes scores


class ZeroShotClip:
    """A detector that reads its two classes from texts.

    The image score is the classification term alone, as CLIP classifies; the patches make the map.

    Args:    model: gives CLIP, image size, temperature and smoothing.   model_id: from `zero_shot_id`.
    Raises:  ConfigError: the model's token table does not hold the words of the prompts.
    """

    def __init__(self, model: CoPS, model_id: str) -> None:
        self.model = model
        self.model_id = model_id
        self.text_features = encode_states(model)

    @torch.inference_mode()
    def predict(self, images: Images, *, batch_size: int | None = None) -> Prediction:
        """As `CoPS.predict`."""
        return self.model.in_batches(self._scores, images, batch_size)

    def anomaly_map(
        self, patch_scores: ArrayLike, size_hw: tuple[int, int] | None = None
    ) -> Float32[np.ndarray, "*b h w"]:
        """As `CoPS.anomaly_map`."""
        return self.model.anomaly_map(patch_scores, size_hw)

    def _scores(self, pixels: Float[Tensor, "b 3 s s"]) -> Scores:
        visual = self.model.visual
        x, y = both_paths(visual, pixels)
        image = visual.ln_post(x[:, None]) @ visual.proj  # (b, 1, c): with ln_post, unlike in CoPS
        patches = visual.ln_post(y) @ visual.proj  # (b, n, c)
        probability = partial(
            alignment.anomaly_probability,
            text=self.text_features.expand(len(pixels), -1, -1),
            temperature=self.model.config.temperature,
        )
        class_score = probability(image)[:, 0]
        return class_score, class_score, probability(patches)


def prompts(phrases: Sequence[str]) -> list[str]:
    """The texts of one state: every phrase of every noun in every template."""
    return [template.format(phrase.format(noun)) for template in TEMPLATES for phrase in phrases for noun in NOUNS]


def encode_states(model: CoPS) -> Float[Tensor, "1 2 c"]:
    """Unit text features, [normal, anomaly]: each the mean of its texts' unit features.

    Raises:  ConfigError: as `tokenize`.
    """
    with torch.inference_mode():
        means = [encode_texts(model, prompts(phrases)).mean(dim=0) for phrases in (NORMAL, ANOMALOUS)]
    return functional.normalize(torch.stack(means), dim=-1)[None]


def zero_shot_id(checkpoint: Checkpoint, precision: str = "float32") -> str:
    """32 hex digits that name this detector on a checkpoint's CLIP; never those of the checkpoint's own CoPS.

    Raises:  ConfigError: the token table does not hold the words of the prompts; nothing need be built to know it.
    """
    texts = [prompts(phrases) for phrases in (NORMAL, ANOMALOUS)]
    positions = checkpoint.tensors["positional_embedding"]
    tokens = tokenize([text for state in texts for text in state], checkpoint.config, length=len(positions))
    clip = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if not name.startswith(LEARNED) and name not in UNUSED
    }
    clip["positional_embedding"] = positions[: tokens.shape[1]]
    clip["token_embedding.weight"] = checkpoint.tensors["token_embedding.weight"][tokens]  # whatever row each stands in
    config = checkpoint.config
    told = {name: getattr(config, name) for name in _CONSTANTS} | {
        "detector": "zero-shot-clip",
        "backbone": architecture(config.backbone),
        "scoring_version": SCORING_VERSION,
        "prompts": texts,
        "precision": precision,
        "weights": weights_digest(clip),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
