"""Checkpoints from anybody: nothing in them runs, reads or writes anything beside them."""

import json
import pickle
import struct
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cops
from cops import clip_weights
from cops.checkpoint import FORMAT
from cops.clip_weights import file_sha256
from cops.errors import CheckpointError
from cops.importing import ImportOptions, import_weights
from cops.published import LEARNED


class Malicious:
    """Touches a file when unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def by_torch(value: object, path: Path) -> None:
    torch.save(value, path)


def by_old_torch(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def by_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [by_torch, by_old_torch, by_pickle])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_no_pickle_runs_by_any_way_in(write, ending, tmp_path):
    """As a checkpoint by path and by bytes, and as published weights; whatever it is called."""
    target, path = tmp_path / "touched", tmp_path / f"model{ending}"
    write({"prompt_learner": {"t_n": Malicious(target)}}, path)
    for source in (path, path.read_bytes()):
        with pytest.raises(CheckpointError):
            cops.read_checkpoint(source)
    with pytest.raises(CheckpointError):
        cops.load(str(path))
    with pytest.raises(CheckpointError):
        import_weights(ImportOptions(weights=path, profile="paper", output=tmp_path / "out.safetensors"))
    assert list(tmp_path.iterdir()) == [path]
    pickle.loads(pickle.dumps(Malicious(target)))
    assert target.exists()  # it would have shown


def safetensors(header: object, data: bytes = b"", *, size: int | None = None) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(start: int, stop: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop]}


NAMED = {"__metadata__": {"format": FORMAT, "config": "{}", "provenance": "{}"}}


@pytest.mark.parametrize(
    "content",
    [
        safetensors(NAMED | {"../../../tmp/x": tensor(0, 4)}, bytes(4)),
        safetensors(NAMED | {"/etc/x": tensor(0, 4)}, bytes(4)),
        safetensors(NAMED | {"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)),  # on top of one another
        safetensors(NAMED | {"a": tensor(0, 2**40)}, bytes(8)),  # longer than the file
        safetensors(NAMED | {"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors(NAMED | {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}, bytes(4)),
        safetensors(NAMED, size=2**63),
        safetensors(NAMED, size=99_999_999),
        safetensors(b"[" * 100_000),
        safetensors({"__metadata__": {"format": 1, "config": ["x"]}}),
        safetensors({"__metadata__": {"format": FORMAT, "config": "[" * 100_000}}),
        safetensors({"__metadata__": {"format": FORMAT, "config": "{}", "provenance": "[" * 100_000}}),
    ],
)
def test_a_damaged_or_hostile_header_is_an_error(content, tmp_path):
    """Names that are paths, lengths and places that lie, nesting without end: refused, and nothing is made of it."""
    (tmp_path / "x.safetensors").write_bytes(content)
    for source in (tmp_path / "x.safetensors", content):
        with pytest.raises(CheckpointError):
            cops.read_checkpoint(source)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "backbone",
    ["../../etc/passwd", "/etc/passwd", "local-dir:/etc", "hf-hub:somebody/model", "__import__('os')", "", "x" * 10**5],
)
def test_a_backbone_is_a_name_that_is_known(backbone, small_checkpoint, tmp_path, monkeypatch):
    """Neither a path nor an address of a hub; nothing is asked for."""
    monkeypatch.setattr(clip_weights, "download_pretrained", lambda *_: pytest.fail("asked for"))
    learned = {name: value for name, value in small_checkpoint.tensors.items() if name.startswith(LEARNED)}
    config = replace(small_checkpoint.config, backbone=backbone, pretrained="openai")
    cops.save_checkpoint(tmp_path / "x.safetensors", config=config, tensors=learned, provenance={})
    with pytest.raises(cops.CopsError):
        cops.read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("pretrained", ["/etc/passwd", "../x.pt", "https://host/x.pt", "hf-hub:a/b"])
def test_a_tag_is_one_that_is_known(pretrained, small_checkpoint, tmp_path, monkeypatch):
    """A checkpoint says which of open_clip's weights it needs, and not where to get others."""
    monkeypatch.setattr(clip_weights, "download_pretrained", lambda *_: pytest.fail("asked for"))
    learned = {name: value for name, value in small_checkpoint.tensors.items() if name.startswith(LEARNED)}
    config = replace(small_checkpoint.config, backbone="ViT-B-32", pretrained=pretrained)
    cops.save_checkpoint(tmp_path / "x.safetensors", config=config, tensors=learned, provenance={})
    with pytest.raises(CheckpointError, match="open_clip knows no weights"):
        cops.read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("part", ["vision_cfg", "text_cfg"])
def test_a_model_of_endless_layers_is_refused_at_once(part, small_checkpoint, tmp_path):
    """Building it would take all time and memory."""
    arch = small_checkpoint.config.backbone
    config = replace(small_checkpoint.config, backbone=arch | {part: arch[part] | {"layers": 10**9}})
    cops.save_checkpoint(tmp_path / "x.safetensors", config=config, tensors=small_checkpoint.tensors, provenance={})
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="layers"):
        cops.read_checkpoint(tmp_path / "x.safetensors")
    assert time.monotonic() - began < 10


class Holder(torch.nn.Module):
    def forward(self, x):
        return x


def test_a_checkpoint_vouches_for_no_code(small_checkpoint, tmp_path):
    """TorchScript carries code: the checksum that a checkpoint names lets none in, the one that the user gives does."""
    script, path = tmp_path / "clip.pt", tmp_path / "x.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Holder()).save(script)
    learned = {name: value for name, value in small_checkpoint.tensors.items() if name.startswith(LEARNED)}
    recorded = {"clip_sha256": file_sha256(script)}
    cops.save_checkpoint(path, config=small_checkpoint.config, tensors=learned, provenance=recorded)
    with pytest.raises(CheckpointError, match="TorchScript, which carries code"):
        cops.read_checkpoint(path, script)
    with pytest.raises(CheckpointError, match="missing: "):  # it was read
        cops.read_checkpoint(path, script, clip_sha256=file_sha256(script))
