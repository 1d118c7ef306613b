"""The model in the package: that it is the one its recipe makes, and that it finds what it never saw."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import cops
from cops.checkpoint import EMBEDDED_PATH
from pipeline.embedded import heldout
from pipeline.embedded.captions import vocabulary
from pipeline.embedded.make import Making
from pipeline.embedded.pretrain import architecture
from pipeline.embedded.world import TRAINED_CATEGORIES
from pipeline.metrics import PixelCounts

PRODUCTS = ("leather", "capsule", "gear")
SEED = 11  # of pictures that nothing was chosen by


@cache
def measured(product: str) -> tuple[float, PixelCounts]:
    """I-AUROC and counted pixels of 6 good pictures and 10 with defects of unseen kinds."""
    model = cops.load()
    kinds = [None] * 6 + [*heldout.KINDS] * 2
    pictures = [
        heldout.draw(product, kind, seed=SEED, index=index, size_px=model.image_size)
        for index, kind in enumerate(kinds)
    ]
    rgb = [np.broadcast_to(np.atleast_3d(one.image), (*one.image.shape[:2], 3)) for one in pictures]
    found, counts = model.predict(np.stack(rgb)), PixelCounts()
    for picture, anomaly_map in zip(pictures, model.anomaly_map(found.patch_scores), strict=True):
        counts.add(anomaly_map, picture.mask)
    return float(roc_auc_score([kind is not None for kind in kinds], found.pred_score)), counts


def test_it_is_the_one_that_the_recipe_makes() -> None:
    """Architecture, words and every number of the recipe in the file's header are today's."""
    found = cops.read_checkpoint("embedded")
    making = Making()
    assert found.config.backbone == architecture() and tuple(found.config.vocabulary) == vocabulary()
    pretraining = dict(found.provenance["pretraining"])
    assert pretraining.pop("seconds") > 3600 and pretraining.pop("torch")
    recipe = asdict(making.pretraining)
    assert pretraining == recipe | {"phases": list(recipe["phases"])}
    assert (found.config.k, found.provenance["recipe"]["epochs"]) == (making.k, making.epochs)
    assert found.provenance["auxiliary_dataset"]["normal"] == making.auxiliary
    assert found.provenance["sample_categories_trained_on"] == list(TRAINED_CATEGORIES)
    assert EMBEDDED_PATH.stat().st_size <= 25e6


@pytest.mark.parametrize("product", PRODUCTS)
def test_it_finds_defects_that_it_never_saw(product: str) -> None:
    """Pixels well apart on an unseen product, and regions found; far below what was measured, far above chance."""
    _, counts = measured(product)
    assert counts.ranking().auroc().value > 0.9 and counts.aupro().value > 0.65


def test_damaged_pictures_rank_first() -> None:
    """In the mean of three unseen products; far below what was measured, far above chance."""
    assert np.mean([measured(product)[0] for product in PRODUCTS]) > 0.85
