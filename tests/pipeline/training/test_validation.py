"""Metrics of an epoch: those of the model's own scores, by category, whoever counts them."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from small_training import PartOf, source_of, write_images

from cops.training.fit import Team
from cops.vision import encode_images
from pipeline.errors import InputError
from pipeline.training.survey import survey
from pipeline.training.validation import check_for_metric, validate


@pytest.fixture(scope="module")
def two_categories(tmp_path_factory):
    root = tmp_path_factory.mktemp("validation") / "parts"
    write_images(root, normal=4, anomalous=4, category="one")
    return write_images(root, normal=3, anomalous=5, seed=1, category="other")


@pytest.fixture(scope="module")
def surveyed(two_categories, tmp_path_factory):
    dataset, source = source_of(two_categories, tmp_path_factory.mktemp("features"))
    return source, survey(dataset, source, Team(), masks_needed=False).usable


def test_they_are_those_of_the_models_scores(surveyed):
    """The mean over two categories of what scikit-learn says of `predict` on the pictures themselves."""
    source, usable = surveyed
    found = validate(source.model, source, usable, Team())
    pictures = [Image.open(one.item.image_uri) for one in usable]
    predicted = source.model.predict(pictures)
    labels = np.array([one.item.label for one in usable])
    masks = np.stack([one.mask for one in source.get(usable)])
    maps = source.model.anomaly_map(predicted.patch_scores)
    images, pixels = [], []
    for category in ("one", "other"):
        these = np.array([one.item.category == category for one in usable])
        images.append(roc_auc_score(labels[these], predicted.pred_score[these]))
        pixels.append(roc_auc_score(masks[these].ravel(), maps[these].ravel()))
    assert found["image_auroc"] == pytest.approx(np.mean(images), abs=0.04)  # one pair of 16 may change places
    assert found["pixel_auroc"] == pytest.approx(np.mean(pixels), abs=2e-3)
    assert set(found) == {"image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"}


def test_two_processes_count_what_one_counts(surveyed):
    """Shares of images, added up."""
    source, usable = surveyed
    given = []

    class Listening(PartOf):
        def gather(self, value):
            given.append(value)
            return super().gather(value)

    validate(source.model, source, usable, Listening(1, 2))
    both = validate(source.model, source, usable, PartOf(0, 2, others=given))
    assert both == pytest.approx(validate(source.model, source, usable, Team()), abs=1e-12)


def test_a_category_without_a_metric_is_in_no_mean(surveyed):
    """Image metrics are the other category's alone; where none has any, there is none, never 0."""
    source, usable = surveyed
    anomalous = [one for one in usable if one.item.category == "one" and one.item.label]
    other = [one for one in usable if one.item.category == "other"]
    both, alone = (validate(source.model, source, images, Team()) for images in ([*anomalous, *other], other))
    assert all(both[name] == alone[name] for name in ("image_auroc", "image_ap", "image_f1_max"))
    assert all(both[name] != alone[name] for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"))
    found = validate(source.model, source, anomalous, Team())
    assert set(found) == {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"}


def test_features_give_the_whole_forward_pass(surveyed):
    """`align` on what the tower gave is `forward`."""
    model = surveyed[0].model
    pixels = model.normalise(np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), dtype=np.uint8))
    with torch.no_grad():
        passed = model(pixels)
        again = model.align(encode_images(model.visual, pixels))
    for name, tensor in vars(passed).items():
        assert torch.equal(tensor, vars(again)[name]), name


@pytest.mark.parametrize(
    ("metric", "normal", "anomalous", "words"),
    [
        ("image_auroc", 0, 3, "a normal and an anomalous image"),
        ("pixel_auroc", 3, 0, "an anomalous image with a mask"),
    ],
)
def test_a_metric_needs_what_it_is_computed_from(metric, normal, anomalous, words, surveyed):
    """Said before the first epoch; other metrics of the same images are there."""
    usable = surveyed[1]
    some = [
        *[one for one in usable if not one.item.label][:normal],
        *[one for one in usable if one.item.label][:anomalous],
    ]
    with pytest.raises(InputError, match=words):
        check_for_metric(metric, some, "parts")
    check_for_metric("loss", some, "parts")
    check_for_metric(metric, usable, "parts")
