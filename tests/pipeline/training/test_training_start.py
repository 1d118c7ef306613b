"""What training starts from: CLIP as given, prompts as published from the seed."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file
from small_training import ARCH, request, small_checkpoint, write_checkpoint

import cops
from cops.assembly import assemble
from cops.errors import CheckpointError, ConfigError
from cops.published import LEARNED
from cops.training.initial import initial_tensors
from pipeline.errors import InputError
from pipeline.training.config import Start
from pipeline.training.start import make_learner, read_base, tensors_to_save

CPU = torch.device("cpu")


def base_of(model_file, tmp_path, **changes):
    return read_base(request(tmp_path, tmp_path / "out", model_file, **changes))


def clip_of(tensors):
    return {name: one for name, one in tensors.items() if not name.startswith(LEARNED)}


def test_initial_weights_are_the_published_ones():
    """0.02 wide; norms 1 and 0; biases 0; attention's input as torch makes it, Xavier's uniform."""
    width = 64
    shapes = {
        "extractor.attn.in_proj_weight": (3 * width, width),
        "extractor.attn.in_proj_bias": (3 * width,),
        "extractor.ln_1.weight": (width,),
        "extractor.ln_1.bias": (width,),
        "vae_decoder.net.0.weight": (width, width),
        "ctx_pos": (1, 1, 14, width),
    }
    found = initial_tensors(shapes, seed=0)
    bound = (6 / (4 * width)) ** 0.5
    assert 0.98 * bound < found["extractor.attn.in_proj_weight"].abs().max() <= bound
    assert found["extractor.ln_1.weight"].eq(1).all()
    assert not found["extractor.ln_1.bias"].any()
    assert not found["extractor.attn.in_proj_bias"].any()
    assert found["vae_decoder.net.0.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert found["ctx_pos"].std().item() == pytest.approx(0.02, rel=0.1)


def test_the_seed_decides(model_file, tmp_path):
    """All that is learned, and the bank of noise, is drawn from it; CLIP and what the base learned are not touched."""
    base = base_of(model_file, tmp_path)
    one, again, other = (make_learner(base, seed, CPU) for seed in (0, 0, 1))
    states = [learner.model.prompt_learner.state_dict() for learner in (one, again, other)]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
        assert ".weight" not in name or "ln_" in name or not torch.equal(tensor, states[2][name])
    assert not torch.equal(states[0]["class_noise"], states[2]["class_noise"])
    assert not torch.equal(states[0]["t_n"], base.checkpoint.tensors["prompt_learner.t_n"])
    assert torch.equal(one.encoder.mean.weight, again.encoder.mean.weight)
    assert one.encoder.mean.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for name, tensor in clip_of(base.checkpoint.tensors).items():
        assert torch.equal(one.model.state_dict()[name], tensor)


def test_constants_are_the_recipes_or_those_given(model_file, tmp_path):
    """k, α and β of the profile; any given makes it custom; the image size is the checkpoint's unless given."""
    config = base_of(model_file, tmp_path, recipe="mvtec-ad").checkpoint.config
    assert (config.profile, config.k, config.alpha, config.beta) == ("published-mvtec", 3, 0.35, 1.0)
    assert config.image_size == 56
    given = {"constants": {"k": 7}, "start": Start(model=str(model_file), image_size=70)}
    config = base_of(model_file, tmp_path, **given).checkpoint.config
    assert (config.profile, config.k, config.alpha, config.image_size) == ("custom", 7, 0.26, 70)


def test_own_clip_goes_into_the_checkpoints(model_file, tmp_path):
    """All of it, as it was."""
    base = base_of(model_file, tmp_path)
    saved = tensors_to_save(base, make_learner(base, 0, CPU))
    for name, tensor in clip_of(base.checkpoint.tensors).items():
        assert torch.equal(saved[name].float(), tensor)
    assert base.record == {}


def write_clip(path, checkpoint):
    """CLIP's weights in a file of their own; its checksum."""
    save_file(clip_of(checkpoint.tensors), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_clip_of_a_backbone_stays_in_its_file(tmp_path):
    """A file whose checksum is given; the trained checkpoint records that, and is complete with that file alone."""
    whole = ARCH | {"text_cfg": ARCH["text_cfg"] | {"vocab_size": 49408}}  # CLIP's own token table
    backbone, clip = tmp_path / "tiny.json", tmp_path / "clip.safetensors"
    backbone.write_text(json.dumps(whole))
    sha256 = write_clip(clip, assemble(whole, image_size=56))
    given = {"backbone": str(backbone), "clip_weights": str(clip), "image_size": 56}
    with pytest.raises(CheckpointError, match=sha256):
        base_of(tmp_path, tmp_path, start=Start(**given))
    base = base_of(tmp_path, tmp_path, start=Start(**given, clip_sha256=sha256))
    assert (base.name, base.record, base.random_clip) == ("tiny.json", {"clip_sha256": sha256}, False)
    saved = tensors_to_save(base, make_learner(base, 0, CPU))
    assert clip_of(saved) == {}


def test_a_checkpoint_without_clip_stays_without(tmp_path):
    """And what is trained from it loads with the same file alone."""
    checkpoint, path = small_checkpoint(), tmp_path / "clip.safetensors"
    checkpoint.provenance["clip_sha256"] = sha256 = write_clip(path, checkpoint)
    model = write_checkpoint(tmp_path / "model.safetensors", checkpoint, clip=False)
    base = base_of(model, tmp_path, start=Start(model=str(model), clip_weights=str(path)))
    assert base.record == {"clip_sha256": sha256}
    saved = tensors_to_save(base, make_learner(base, 0, CPU))
    assert clip_of(saved) == {}
    cops.save_checkpoint(
        tmp_path / "out.safetensors", config=base.checkpoint.config, tensors=saved, provenance=base.record
    )
    loaded = cops.load(tmp_path / "out.safetensors", clip_weights=path)
    assert torch.equal(loaded.visual.proj, checkpoint.tensors["visual.proj"])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"model": "m.safetensors", "backbone": "ViT-B-32"}, "--model or --backbone, not both"),
        ({"pretrained": "openai"}, "--pretrained goes with --backbone"),
        ({"clip_sha256": "0"}, "--clip-sha256 goes with --backbone"),
        ({"model": " "}, "--model: expected a path"),
        ({"model": "s3://key:secret@b/m"}, "carries credentials"),
    ],
)
def test_what_does_not_go_together(start, words):
    """Said before anything is read."""
    with pytest.raises(InputError, match=words):
        Start(**start)


def test_a_size_that_no_model_has(model_file, tmp_path):
    """The nearest ones are named; no dataset is looked at."""
    with pytest.raises(ConfigError, match=r"60 is not a multiple of the patch, 14 px; nearest: 56 or 70"):
        base_of(model_file, tmp_path, start=Start(model=str(model_file), image_size=60))


def test_a_backbone_file_needs_its_weights(tmp_path):
    """There is nothing to download for it."""
    (tmp_path / "tiny.json").write_text(json.dumps(ARCH))
    with pytest.raises(InputError, match=r"tiny.json: give its weights by --clip-weights"):
        base_of(tmp_path, tmp_path, start=Start(backbone=str(tmp_path / "tiny.json")))
