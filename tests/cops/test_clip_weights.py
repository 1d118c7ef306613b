"""CLIP files: the checksum first, and no pickle."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import cops
from cops import checkpoint, clip_weights
from cops.clip_weights import file_sha256, published_sha256, read_clip_file
from cops.errors import CheckpointError
from cops.published import LEARNED


class Malicious:
    """Touches a file when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


class Holder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, x):
        return x * self.proj


@pytest.fixture
def clip(small_checkpoint):
    return {name: tensor for name, tensor in small_checkpoint.tensors.items() if not name.startswith(LEARNED)}


@pytest.fixture
def bare(small_checkpoint, tmp_path):
    """A checkpoint without CLIP."""
    learned = {name: tensor for name, tensor in small_checkpoint.tensors.items() if name.startswith(LEARNED)}
    path = tmp_path / "bare.safetensors"
    cops.save_checkpoint(path, config=small_checkpoint.config, tensors=learned, provenance={})
    return path


def save(tensors, path):
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return file_sha256(path)


@pytest.mark.parametrize("name", ["clip.safetensors", "clip.pt"])
def test_a_local_file_completes_a_checkpoint(name, bare, clip, small_checkpoint, tmp_path):
    """Safetensors and a state dict alike, once their checksum is given."""
    sha = save(clip, tmp_path / name)
    read = cops.read_checkpoint(bare, tmp_path / name, clip_sha256=sha)
    assert read.model_id() == small_checkpoint.model_id()


def test_openais_archive_is_read(tmp_path):
    """TorchScript in float16 with numbers beside the weights, as OpenAI publishes."""
    path = tmp_path / "openai.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Holder()).save(path)
    sha = file_sha256(path)
    tensors = read_clip_file(path, sha256={sha}, may_be_script={sha})
    assert list(tensors) == ["proj"]
    assert tensors["proj"].dtype == torch.float32


def test_an_unknown_file_is_refused(bare, clip, tmp_path):
    """Without any known checksum, the message gives the file's own."""
    sha = save(clip, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=f"no checksum is known .* {sha}"):
        cops.read_checkpoint(bare, tmp_path / "clip.pt")


def test_a_wrong_file_is_refused(bare, clip, tmp_path):
    """The message names the checksum expected and the one found."""
    sha = save(clip, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=f"expected SHA-256 {'0' * 64}, got {sha}"):
        cops.read_checkpoint(bare, tmp_path / "clip.pt", clip_sha256="0" * 64)


def test_openais_own_table_is_used(tmp_path):
    """The checksum is part of the address that open_clip knows, and a file of that name must meet it."""
    expected = published_sha256("ViT-L-14-336-quickgelu", "openai")
    assert expected == "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
    assert published_sha256("ViT-L-14-336-quickgelu", "laion2b_s32b_b82k") is None
    (tmp_path / "ViT-L-14-336px.pt").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=f"expected SHA-256 {expected}"):
        cops.build("ViT-L-14-336-quickgelu", pretrained="openai", clip_weights=tmp_path / "ViT-L-14-336px.pt")


def test_absent_weights_name_the_way_out(bare, tmp_path, monkeypatch):
    """No file, no such weights, no network: each says what to give."""
    with pytest.raises(CheckpointError, match="no CLIP weights at"):
        cops.read_checkpoint(bare, tmp_path / "none.pt", clip_sha256="0")
    with pytest.raises(CheckpointError, match="clip_weights=PATH"):
        cops.read_checkpoint(bare)

    def unreachable(cfg):
        raise ConnectionError("no route")

    monkeypatch.setattr(clip_weights, "download_pretrained", unreachable)
    with pytest.raises(CheckpointError, match=r"could not download .*no route.*clip_weights=PATH"):
        cops.build("ViT-B-32-quickgelu", pretrained="openai")


def downloaded(monkeypatch, path):
    monkeypatch.setattr(clip_weights, "download_pretrained", lambda cfg: str(path))
    return clip_weights.download_clip("ViT-B-32-quickgelu", "openai")


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_the_hubs_copies_are_read(name, clip, tmp_path, monkeypatch):
    """Whichever the hub has; neither is in OpenAI's own table."""
    path = tmp_path / name
    save(clip, path)
    found = downloaded(monkeypatch, path)
    assert found.keys() == clip.keys()
    assert all(found[key].equal(clip[key]) for key in clip)


def test_openais_own_file_must_meet_its_checksum(tmp_path, monkeypatch):
    """What comes under the name of OpenAI's file is held to OpenAI's table."""
    path = tmp_path / "ViT-B-32.pt"
    path.write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="not the expected CLIP file"):
        downloaded(monkeypatch, path)


def test_a_downloaded_script_is_refused(tmp_path, monkeypatch):
    """TorchScript carries code: without a known checksum it is not loaded."""
    path = tmp_path / "open_clip_pytorch_model.bin"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Holder()).save(path)
    with pytest.raises(CheckpointError, match="TorchScript, which carries code"):
        downloaded(monkeypatch, path)


def test_openais_file_needs_quickgelu_whatever_it_is_called(small_arch, clip, tmp_path, monkeypatch):
    """A given config without QuickGELU and no tag: the file itself tells."""
    sha = save(clip, tmp_path / "renamed.safetensors")
    monkeypatch.setattr(checkpoint, "all_openai_sha256", lambda: {sha})
    plain = small_arch | {"quick_gelu": False}
    with pytest.raises(cops.ConfigError, match="QuickGELU"):
        cops.build(plain, clip_weights=tmp_path / "renamed.safetensors", clip_sha256=sha, image_size=56)
    assert len(clip_weights.all_openai_sha256()) == 9  # five ResNets, four transformers


def test_a_pickle_is_never_run(tmp_path):
    """Even with the right checksum, a file with more than tensors is refused and nothing in it runs."""
    target = tmp_path / "touched"
    for path, write in ((tmp_path / "new.pt", torch.save), (tmp_path / "old.pt", dump)):
        write({"proj": Malicious(target)}, path)
        with pytest.raises(CheckpointError, match=r"holds more than tensors|no safetensors file"):
            read_clip_file(path, sha256={file_sha256(path)})
    assert not target.exists()


def dump(value, path):
    path.write_bytes(pickle.dumps(value))


def test_a_complete_checkpoint_takes_no_clip(small_checkpoint, tmp_path):
    """Two sets of CLIP weights would leave open which counts."""
    path = tmp_path / "whole.safetensors"
    cops.save_checkpoint(path, config=small_checkpoint.config, tensors=small_checkpoint.tensors, provenance={})
    with pytest.raises(CheckpointError, match="its own CLIP weights"):
        cops.read_checkpoint(path, tmp_path / "clip.pt")
