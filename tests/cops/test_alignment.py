"""SAGA by hand."""

import torch

from cops import alignment


def test_spatial_average_counts_the_padding():
    """In a corner of a constant grid, 4 of 9 patches are there and the other 5 count as 0."""
    averaged = alignment.spatial_average(torch.ones(1, 9, 1), 3)[0, :, 0]
    torch.testing.assert_close(averaged, torch.tensor([4, 6, 4, 6, 9, 6, 4, 6, 4]) / 9)


def test_k_1_changes_nothing():
    """A window of one patch is the patch."""
    patches = torch.randn(2, 16, 3)
    torch.testing.assert_close(alignment.spatial_average(patches, 1), patches)


def test_distance_is_to_the_nearest_prototype():
    """1 − cos to the nearer of two directions; lengths do not count."""
    patches = torch.tensor([[[2.0, 0.0], [-3.0, 0.0], [1.0, 1.0]]])
    prototypes = torch.tensor([[[5.0, 0.0], [0.0, 0.1]]])
    expected = torch.tensor([[0.0, 1.0, 1 - 0.5**0.5]])
    torch.testing.assert_close(alignment.prototype_distance(patches, prototypes), expected)


def test_stretch_is_per_image_and_0_where_constant():
    """Each image's distances run from 0 to 1; a constant image, or one of rounding alone, is 0 and not NaN."""
    distance = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5], [0.1, 0.1 + 2e-7, 0.1], [10.0, 30.0, 10.0]])
    expected = torch.tensor([[0.0, 0.5, 1.0], [0, 0, 0], [0, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(alignment.stretch(distance), expected)


def test_probability_is_the_anomalys_share():
    """A feature along the anomaly's text at τ 1: e / (1 + e)."""
    text = torch.eye(2)[None]
    probability = alignment.anomaly_probability(torch.tensor([[[0.0, 7.0], [1.0, 1.0]]]), text, temperature=1.0)
    torch.testing.assert_close(probability, torch.tensor([[2.718282 / 3.718282, 0.5]]))


def test_patch_and_image_scores():
    """S = p · (α · d_n + (1 − α)(1 − d_a)); score = β · class + (1 − β) · max."""
    scores = alignment.score_patches(
        torch.tensor([[0.5, 1.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 4.0]]), alpha=0.25
    )
    torch.testing.assert_close(scores, torch.tensor([[0.5 * 0.75, 0.25]]))
    score = alignment.score_images(torch.tensor([0.5]), torch.tensor([1.0]), beta=0.9)
    torch.testing.assert_close(score, torch.tensor([0.55]))
