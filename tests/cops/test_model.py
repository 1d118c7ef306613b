"""The whole model: scores depend on the image and the model alone, and odd input is refused by name."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cops

FIELDS = ("pred_score", "class_score", "patch_scores")


def pictures(count, *, size=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def assert_same(left, right, atol=1e-5):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), atol=atol, err_msg=name)


@settings(max_examples=10)
@given(order=st.permutations(range(5)), batch_size=st.integers(1, 6))
def test_neither_order_nor_batch_changes_a_score(small, order, batch_size):
    """Images in any order and batch size score as each does alone."""
    images = pictures(5)
    alone = small.predict(images, batch_size=1)
    mixed = small.predict(images[order], batch_size=batch_size)
    expected = cops.Prediction(**{name: getattr(alone, name)[order] for name in FIELDS})
    assert_same(mixed, expected)


def test_batch_padding_changes_no_score(small):
    """Blank neighbours, as padding would be, leave an image's scores as they are."""
    images = pictures(2)
    padded = small.predict(np.concatenate([images, np.zeros((3, 56, 56, 3), np.uint8)]), batch_size=5)
    assert_same(cops.Prediction(**{name: getattr(padded, name)[:2] for name in FIELDS}), small.predict(images))


def test_the_parts_make_the_score(small):
    """pred_score is β of the class part and 1 − β of the hottest patch; everything is float32 in [0, 1]."""
    prediction = small.predict(pictures(3))
    beta = small.config.beta
    np.testing.assert_allclose(
        prediction.pred_score, beta * prediction.class_score + (1 - beta) * prediction.patch_score_max, atol=1e-6
    )
    np.testing.assert_array_equal(prediction.patch_scores.max(axis=(1, 2)), prediction.patch_score_max)
    for name in FIELDS:
        values = getattr(prediction, name)
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
def test_a_blank_image_has_finite_scores(small, colour):
    """Nothing to stretch, nothing divided by 0."""
    prediction = small.predict([Image.new("RGB", (20, 30), colour)])
    assert all(np.isfinite(getattr(prediction, name)).all() for name in FIELDS)


def test_pictures_and_arrays_score_alike(small):
    """A PIL image and its pixels are one input, resized or not."""
    for size in (56, 90):
        array = pictures(2, size=size)
        assert_same(small.predict(array), small.predict([Image.fromarray(one) for one in array]), atol=0)


def test_no_images_make_an_empty_prediction(small):
    """An empty list is no error."""
    for none in ([], np.empty((0, 10, 10, 3), np.uint8)):
        prediction = small.predict(none)
        assert prediction.patch_scores.shape == (0, 4, 4)
        assert prediction.pred_score.shape == (0,)


def test_the_state_dict_is_loaded_strictly(small, small_checkpoint):
    """The names are open_clip's and the published ones, and nothing else."""
    assert set(small.state_dict()) == set(small_checkpoint.tensors)
    small.load_state_dict(small_checkpoint.tensors, strict=True)
    prefixes = {name.split(".")[0] for name in small.state_dict()}
    assert prefixes == {
        "visual", "transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection",
        "logit_scale", "prompt_learner",
    }  # fmt: skip


def test_the_swap_is_one_switch(small_arch):
    """Undoing the published swap is the same as exchanging the two sets of queries for the prompts alone."""
    options = {"image_size": 56, "sot_id": 0, "stop_id": 1, "eot_id": 4}
    published, undone = (cops.build(small_arch, swap_prototypes=swap, **options) for swap in (True, False))
    prototypes = torch.randn(2, 1, 6, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(published.text_features(*prototypes), undone.text_features(*prototypes.flip(0)))
    assert not np.allclose(published.predict(pictures(1)).pred_score, undone.predict(pictures(1)).pred_score, atol=1e-7)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_stays_near(small, small_checkpoint, precision):
    """The towers' products lose digits, the scores little; the model says so in its id."""
    lower = cops.from_checkpoint(small_checkpoint, precision=precision)
    assert lower.visual.transformer.resblocks[0].mlp[0].weight.dtype == getattr(torch, precision)
    found, expected = lower.predict(pictures(3)), small.predict(pictures(3))
    assert_same(found, expected, atol=0.05)
    assert not np.array_equal(found.patch_scores, expected.patch_scores)
    assert lower.model_id != small.model_id


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_batch_changes_no_score_in_lower_precision(tiny_checkpoint, precision):
    """Within the tolerance that docs/design.md publishes."""
    lower, images = cops.from_checkpoint(tiny_checkpoint, precision=precision), pictures(3, size=112)
    assert_same(lower.predict(images, batch_size=3), lower.predict(images, batch_size=1), atol=5e-3)


def test_a_callers_autocast_changes_nothing(small):
    """Precision is chosen when the model is built."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = small.predict(pictures(2))
    assert_same(inside, small.predict(pictures(2)), atol=0)


def test_pixels_in_any_memory_layout(small):
    """OpenCV's BGR turned by a view: negative strides, at the model's size or another."""
    for size in (56, 90):
        turned = pictures(2, size=size)[..., ::-1]
        assert_same(small.predict(turned), small.predict(turned.copy()), atol=0)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_below_one_is_refused(small, batch_size):
    """No picture goes unscored without a word."""
    with pytest.raises(cops.ConfigError, match="batch_size must be 1 or more"):
        small.predict(pictures(2), batch_size=batch_size)


def test_the_map_is_the_pipelines_map(small):
    """The model's map and the one made without a model are one."""
    scores = small.predict(pictures(2)).patch_scores
    np.testing.assert_array_equal(
        small.anomaly_map(scores, (70, 30)), cops.anomaly_map(scores, image_size=56, size_hw=(70, 30))
    )


@pytest.mark.gpu
def test_cuda_scores_as_the_cpu_does(tiny, tiny_checkpoint):
    """In float32 the device changes no score by more than 1e-4."""
    images = pictures(3, size=112)
    assert_same(cops.from_checkpoint(tiny_checkpoint, device="cuda").predict(images), tiny.predict(images), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_on_cuda_stays_near(tiny, tiny_checkpoint, precision):
    """The GPU's low precisions are near the CPU's float32."""
    images = pictures(3, size=112)
    lower = cops.from_checkpoint(tiny_checkpoint, device="cuda", precision=precision)
    assert_same(lower.predict(images), tiny.predict(images), atol=0.05)


def test_state_dicts_may_be_named_as_published(small, small_checkpoint):
    """CoPS's names with or without prefix, with the VAE's encoder, without our noise; what was there before is gone."""
    published = {
        name.removeprefix("prompt_learner."): tensor + 0.1
        for name, tensor in small_checkpoint.tensors.items()
        if name.startswith("prompt_learner.") and not name.endswith("class_noise")
    } | {"vae_encoder.net.0.weight": torch.zeros(2, 2)}
    expected = cops.build(
        small.config.backbone, prompt_state_dict=published, image_size=56, sot_id=0, stop_id=1, eot_id=4
    )
    clip = {name: tensor for name, tensor in expected.state_dict().items() if not name.startswith("prompt_learner.")}
    for prefix in ("", "prompt_learner."):
        model = cops.from_checkpoint(small_checkpoint)
        named = {prefix + name: tensor for name, tensor in published.items()}
        model.load_state_dict(clip | named)  # strict
        assert_same(model.predict(pictures(2)), expected.predict(pictures(2)))
        assert model.model_id == ""
        assert not model.warnings
    assert expected.model_id
    model = cops.from_checkpoint(small_checkpoint)
    model.prompt_learner.load_state_dict(published)
    nested = torch.nn.Sequential(cops.from_checkpoint(small_checkpoint))
    nested.load_state_dict({f"0.{name}": tensor for name, tensor in (clip | published).items()})
    for loaded in (model, nested[0]):
        assert_same(loaded.predict(pictures(2)), expected.predict(pictures(2)))


def test_missing_and_odd_weights_are_still_told(small_checkpoint):
    """Leniency about names hides no gap."""
    model = cops.from_checkpoint(small_checkpoint)
    tensors = {name: tensor for name, tensor in small_checkpoint.tensors.items() if not name.endswith("t_n")}
    with pytest.raises(RuntimeError, match=r"Missing key.*prompt_learner.t_n"):
        model.load_state_dict(tensors)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*\"odd\""):
        model.load_state_dict(small_checkpoint.tensors | {"odd": torch.zeros(1)})


def test_a_published_file_as_torch_loads_it(small_arch, small_checkpoint):
    """With its one key around the state dict; anything else than tensors is named."""
    learned = {
        name.removeprefix("prompt_learner."): tensor
        for name, tensor in small_checkpoint.tensors.items()
        if name.startswith("prompt_learner.") and not name.endswith("class_noise")
    }
    options = {"image_size": 56, "sot_id": 0, "stop_id": 1, "eot_id": 4}
    wrapped = cops.build(small_arch, prompt_state_dict={"prompt_learner": learned}, **options)
    plain = cops.build(small_arch, prompt_state_dict=learned, **options)
    assert wrapped.model_id == plain.model_id
    with pytest.raises(cops.ConfigError, match="these are none: epoch"):
        cops.build(small_arch, prompt_state_dict=learned | {"epoch": 3}, **options)


def test_openings_are_read_once_until_a_weight_changes(small_checkpoint, monkeypatch):
    """Predictions share them; training in place, a state dict and another device do not see old ones."""
    model = cops.from_checkpoint(copy.deepcopy(small_checkpoint))  # which shares its tensors with the model
    read, own = [], type(model)._read_openings
    monkeypatch.setattr(type(model), "_read_openings", lambda self: read.append(1) or own(self))
    before = model.predict(pictures(2), batch_size=1)
    model.predict(pictures(2))
    assert len(read) == 1
    with torch.no_grad():
        model.prompt_learner.ctx_pos.normal_(std=3, generator=torch.Generator().manual_seed(0))
    after = model.predict(pictures(2))
    assert len(read) == 2
    assert not np.allclose(before.pred_score, after.pred_score, atol=1e-6)
    model.load_state_dict(small_checkpoint.tensors)
    assert_same(model.predict(pictures(2)), before)
    assert len(read) == 3


COMPILED = """
import json, sys
import numpy as np
import cops
arch, options = json.loads(sys.argv[1]), {"image_size": 56, "sot_id": 0, "stop_id": 1, "eot_id": 4}
plain, model = (cops.build(arch, **options) for _ in range(2))
graphs = []
model.compile(backend=lambda graph, inputs: graphs.append(graph) or graph, dynamic=False)
pictures = np.random.default_rng(0).integers(0, 256, (5, 56, 56, 3), dtype=np.uint8)
made = []
for count in (5, 3):
    found, expected = model.predict(pictures[:count], batch_size=2), plain.predict(pictures[:count])
    np.testing.assert_allclose(found.pred_score, expected.pred_score, atol=1e-6)
    made.append(len(graphs))
assert 0 < made[0] == made[1], made
"""


def test_a_compiled_model_sees_batches_of_one_size(small_arch):
    """The last one is filled up, and what filled it is cut off. In a process where nothing checks types at run time."""
    command = [sys.executable, "-W", "ignore", "-c", COMPILED, json.dumps(small_arch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
