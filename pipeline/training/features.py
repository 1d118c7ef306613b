"""Features of labelled images: from the cache, or by the vision tower, with the same result to the bit.

Each image goes through the tower alone and its features are rounded to float16, kept or not: so they depend on nothing
but the image and the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float16
from torch import Tensor

from cops.model import CoPS
from cops.training.losses import mask_coverage
from cops.training.objective import Batch
from cops.vision import encode_images
from pipeline.datasets import LabelledImage
from pipeline.datasets.pixels import Encoded, Example, Flawed, decode_example, read_encoded
from pipeline.decode import DecodeRules
from pipeline.errors import RunError
from pipeline.training.cache import FeatureCache, Features
from pipeline.training.progress import Pace


@dataclass(frozen=True)
class Usable:
    """An image that was read and found right, with its mask where it has one."""

    item: LabelledImage
    content_hash: str
    has_mask: bool


class FeatureSource:
    """Where features come from. Without a cache they are computed whenever they are asked for."""

    def __init__(self, model: CoPS, rules: DecodeRules, cache: FeatureCache | None) -> None:
        self.model = model
        self.rules = rules
        self.cache = cache

    def look(self, encoded: Encoded) -> Usable | Flawed | Example:
        """An image's verdict: usable where its features are kept, an example where they are still to be computed."""
        item, content_hash = encoded.item, encoded.content_hash
        kept = self.cache.find(content_hash, item.label) if self.cache and content_hash else None
        if kept and content_hash:
            return Usable(item, content_hash, kept.mask is not None)
        return decode_example(encoded, self.rules, self.model.image_size)

    def take(self, example: Example) -> Usable:
        """The example as usable; its features are in the cache afterwards, where there is one."""
        if self.cache:
            self.cache.keep(example.content_hash, example.item.label, self._compute(example))
        return Usable(example.item, example.content_hash, example.mask is not None)

    def get(self, images: Sequence[Usable]) -> list[Features]:
        """Features of some images.

        What the cache lacks (it may not be shared between machines, or a file may be damaged) is computed here.
        Raises:  RunError: an image has changed since it was checked.
        """
        found = [self.cache.find(one.content_hash, one.item.label) if self.cache else None for one in images]
        lacking = [at for at, features in enumerate(found) if features is None]
        for at, encoded in zip(lacking, read_encoded([images[at].item for at in lacking], self.rules), strict=True):
            found[at] = self._again(images[at], encoded)
        return [features for features in found if features is not None]

    def batch(self, images: Sequence[Usable]) -> Batch:
        """Features in float32 on the model's device, with labels and coverage.

        Args:    images: that have a mask.
        """
        features, device = self.get(images), self.model.device
        masks = torch.from_numpy(np.stack([_mask(one) for one in features])).to(device)
        return Batch(
            image=torch.stack([one.image for one in features]).to(device).float(),
            patches=torch.stack([one.patches for one in features]).to(device).float(),
            labels=torch.tensor([one.item.label for one in images], device=device),
            coverage=mask_coverage(masks, self.model.image_size // self.model.grid),
        )

    def _again(self, one: Usable, encoded: Encoded) -> Features:
        example = decode_example(encoded, self.rules, self.model.image_size)
        if isinstance(example, Flawed) or example.content_hash != one.content_hash:
            raise RunError(f"{one.item.image_uri} or its mask has changed since training began")
        features = self._compute(example)
        if self.cache:
            self.cache.keep(one.content_hash, one.item.label, features)
        return features

    @torch.no_grad()
    def _compute(self, example: Example) -> Features:
        seen = encode_images(self.model.visual, self.model.normalise(example.pixels[None]))
        uri = example.item.image_uri
        return Features(_rounded(seen.image[0], uri), _rounded(seen.patches[0], uri), example.mask)


class TrainingExamples:
    """The images of a training, as `cops.training.fit` asks for them."""

    def __init__(self, source: FeatureSource, images: Sequence[Usable]) -> None:
        self.source = source
        self.images = images
        self.pace: Pace | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: list[int]) -> Batch:
        if self.pace:
            self.pace.step(len(rows))
        return self.source.batch([self.images[row] for row in rows])


def _rounded(values: Tensor, uri: str) -> Float16[Tensor, "*n c"]:
    halves = values.half().cpu()
    if not bool(torch.isfinite(halves).all()):
        raise RunError(f"{uri}: the vision tower's features are not finite in float16; are its weights right?")
    return halves


def _mask(features: Features) -> npt.NDArray[np.bool_]:
    assert features.mask is not None, "an anomalous image that nobody marked is no example"
    return features.mask
