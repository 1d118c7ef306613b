"""The published code's own numbers, tensor by tensor."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report
from safetensors.torch import load_file, save_file

import cops
from cops.clip_weights import file_sha256
from cops.importing import ImportOptions, import_weights

GOLDEN = Path(__file__).parent.parent / "golden"
SETS = sorted(report.PROFILE_OF)
TENSORS = sorted(set(report.expected_tensors("k5")) - set(report.INPUTS))


@pytest.fixture(scope="module", params=SETS)
def found(request):
    which = request.param
    values = report.differences(which, report.golden_model(which))
    for name, value in values.items():
        print(f"{which} {name}: {value:.2e}")
    return values


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_agrees_with_the_published_code(found, name):
    """Each golden tensor is met within 1e-4, and in fact within 1e-5 in float32."""
    assert found[name] < 1e-5


@pytest.mark.parametrize("which", SETS)
def test_a_batch_of_three_is_three_batches_of_one(which):
    """What the model says of an image does not depend on its neighbours."""
    model, images = report.golden_model(which), report.expected_tensors(which)["images"].numpy()
    together, alone = model.predict(images, batch_size=3), model.predict(images, batch_size=1)
    for name, values in vars(together).items():
        np.testing.assert_allclose(values, getattr(alone, name), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("which", SETS)
def test_imported_published_file_scores_as_the_published_code(which, arch, clip_tensors, tmp_path):
    """The .pth goes through the importer and a checkpoint file, and its scores are the published ones."""
    (tmp_path / "tiny.json").write_text(json.dumps(arch))
    clip = tmp_path / "clip.safetensors"
    save_file(clip_tensors, clip)
    sha = file_sha256(clip)
    options = ImportOptions(
        weights=GOLDEN / "official_format_tiny.pth",
        profile=report.PROFILE_OF[which],
        output=tmp_path / "out.safetensors",
        backbone=str(tmp_path / "tiny.json"),
        image_size=112,
        clip_weights=clip,
        clip_sha256=sha,
    )
    checkpoint = cops.read_checkpoint(import_weights(options), clip)  # the header's checksum lets the file in
    assert checkpoint.provenance["trained"] is True
    expected = load_file(GOLDEN / f"expected_{which}.safetensors")
    noise = {"prompt_learner.class_noise": expected["class_noise"]}  # the published draws are not in the .pth
    model = cops.from_checkpoint(replace(checkpoint, tensors=checkpoint.tensors | noise))
    prediction = model.predict(expected["images"].numpy())
    np.testing.assert_allclose(prediction.pred_score, expected["score"], atol=1e-5)
    np.testing.assert_allclose(model.anomaly_map(prediction.patch_scores), expected["anomaly_map"], atol=1e-5)
