"""Features on disk: the same to the bit, never half, never those of another model."""

import logging

import numpy as np
import pytest
import torch
from small_training import RULES, small_checkpoint, source_of, write_images

import cops
from cops.training.fit import Team
from pipeline.decode import DecodeRules
from pipeline.errors import RunError
from pipeline.training.cache import FeatureCache, bytes_per_image, describe_features
from pipeline.training.survey import survey


def batch_of(source, usable):
    return vars(source.batch(usable))


def test_kept_features_are_those_that_are_computed(images, tmp_path):
    """With a cache, by another process from the cache, and without one: the same batch to the bit."""
    batches = []
    for cache in (tmp_path, tmp_path, None):
        dataset, source = source_of(images, cache)
        batches.append(batch_of(source, survey(dataset, source, Team(), masks_needed=True).usable))
    for name, values in batches[0].items():
        assert all(torch.equal(values, other[name]) for other in batches[1:]), name
    assert batches[0]["patches"].shape == (11, 16, 48)
    assert torch.equal(batches[0]["patches"], batches[0]["patches"].half().float())
    assert (batches[0]["coverage"].amax(dim=1) > 0).tolist() == batches[0]["labels"].bool().tolist()


def test_the_tower_runs_once_for_all_that_ask(images, tmp_path, monkeypatch):
    """A second survey and its batches need no vision tower."""
    dataset, source = source_of(images, tmp_path)
    survey(dataset, source, Team(), masks_needed=True)
    monkeypatch.setattr(FeatureCache, "keep", lambda *_: pytest.fail("computed again"))
    dataset, source = source_of(images, tmp_path)
    batch_of(source, survey(dataset, source, Team(), masks_needed=True).usable)


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "a bit":
        content[-5] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[:-10])
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["a bit", "cut", "empty"])
def test_a_damaged_file_is_said_and_computed_again(images, tmp_path, caplog, how):
    """Its features are those of before, and its file is whole again."""
    dataset, source = source_of(images, tmp_path)
    usable = survey(dataset, source, Team(), masks_needed=True).usable
    expected = batch_of(source, usable)
    path = source.cache.path(usable[3].content_hash, usable[3].item.label)
    whole = path.read_bytes()
    spoil(path, how)
    with caplog.at_level(logging.WARNING):
        found = batch_of(source, usable)
    assert "is damaged" in caplog.text
    assert path.name in caplog.text
    for name, values in expected.items():
        assert torch.equal(values, found[name])
    assert path.read_bytes() == whole


def test_a_damaged_file_is_found_by_the_survey(images, tmp_path):
    """Before any epoch."""
    dataset, source = source_of(images, tmp_path)
    usable = survey(dataset, source, Team(), masks_needed=True).usable
    path = source.cache.path(usable[0].content_hash, usable[0].item.label)
    whole = path.read_bytes()
    spoil(path, "cut")
    assert survey(dataset, source, Team(), masks_needed=True).usable == usable
    assert path.read_bytes() == whole


def key(checkpoint=None, rules=RULES, tmp_path=None):
    model = cops.from_checkpoint(checkpoint or small_checkpoint())
    return FeatureCache(tmp_path, describe_features(model, rules)).folder.name


def test_the_key_changes_with_what_changes_features(tmp_path):
    """Weights of the vision tower, image size, decoding; and not with what is learned behind it."""
    first = key(tmp_path=tmp_path)
    other_clip = small_checkpoint()
    other_clip.tensors["visual.proj"] = other_clip.tensors["visual.proj"] + 1e-3
    other_prompts = small_checkpoint(k=3)
    other_prompts.tensors["prompt_learner.t_n"] += 1
    other_prompts.tensors["text_projection"] += 1
    others = [
        key(other_clip, tmp_path=tmp_path),
        key(small_checkpoint(image_size=70), tmp_path=tmp_path),
        key(rules=DecodeRules(alpha_background="#000000"), tmp_path=tmp_path),
    ]
    assert len({first, *others}) == 4
    assert key(other_prompts, tmp_path=tmp_path) == first


def test_size_is_told_beforehand(images, tmp_path):
    """But for some hundred bytes of each file's header."""
    dataset, source = source_of(images, tmp_path)
    survey(dataset, source, Team(), masks_needed=True)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    assert len(sizes) == 11
    np.testing.assert_allclose(sizes, bytes_per_image(source.model), atol=512)


def test_a_cache_that_cannot_be_written_stops_the_run(images, tmp_path):
    """Said as what it is, not as an image's fault."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write to the feature cache"):
        source_of(images, tmp_path / "file")


def test_an_image_that_changes_meanwhile_stops_the_run(tmp_path):
    """Its old features are gone and the new ones are of another picture."""
    root = write_images(tmp_path / "images")
    dataset, source = source_of(root, None)
    usable = survey(dataset, source, Team(), masks_needed=True).usable
    other = write_images(tmp_path / "others", seed=1)
    changed = next(root.rglob("spot/6.png"))
    changed.write_bytes((other / changed.relative_to(root)).read_bytes())
    with pytest.raises(RunError, match=r"6.png or its mask has changed"):
        source.batch(usable)


def test_features_beyond_float16_are_refused(images):
    """Infinity would spoil every weight."""
    checkpoint = small_checkpoint()
    checkpoint.tensors["visual.proj"] = checkpoint.tensors["visual.proj"] * 1e6
    dataset, source = source_of(images, None, cops.from_checkpoint(checkpoint))
    with pytest.raises(RunError, match="not finite in float16"):
        source.batch(survey(dataset, source, Team(), masks_needed=True).usable)
