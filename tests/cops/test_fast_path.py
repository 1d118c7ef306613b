"""The model as it runs against the published procedure, written out: the same numbers to 1e-5."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cops

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import plain


@pytest.fixture(params=["tiny", "small", "embedded"])
def model(request: pytest.FixtureRequest) -> cops.CoPS:
    return cops.load() if request.param == "embedded" else request.getfixturevalue(request.param)


def test_a_batch_scores_as_the_published_procedure_scores_each_image(model: cops.CoPS) -> None:
    """Image scores, their classification terms and every patch score."""
    images = np.random.default_rng(0).integers(0, 256, (3, model.image_size, model.image_size, 3), dtype=np.uint8)
    images[1, 8:24, 8:24] = (200, 30, 30)
    images[2] = 128
    found = model.predict(images, batch_size=3)
    for at, pixels in enumerate(model.normalise(images)):
        score, of_image, patches = plain.score(model, pixels[None])
        np.testing.assert_allclose(found.pred_score[at], score[0], atol=1e-5)
        np.testing.assert_allclose(found.class_score[at], of_image[0], atol=1e-5)
        np.testing.assert_allclose(found.patch_scores[at].ravel(), patches[0], atol=1e-5)


def test_the_image_tower_leaves_out_only_what_nobody_reads(tiny: cops.CoPS) -> None:
    """Class token and patches are those of both paths run whole."""
    pixels = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = cops.vision.encode_images(tiny.visual, pixels)
        for at in range(2):
            image, patches = plain.encode_image(tiny, pixels[at : at + 1])
            torch.testing.assert_close(seen.image[at], image[0], atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(seen.patches[at], patches[0], atol=2e-5, rtol=1e-5)
