"""CLIP weights from files: the checksum first, then the one reader that fits, none of which unpickles objects."""

import hashlib
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import download_pretrained
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cops.errors import CheckpointError, TransferError, unreadable
from cops.torch_files import read_torch_file

# Numbers that OpenAI's archives hold beside the weights.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def read_clip_file(
    path: str | Path, *, sha256: Collection[str], may_be_script: Collection[str] = ()
) -> dict[str, Tensor]:
    """The tensors of a CLIP file as float32: safetensors, a state dict, or a TorchScript archive as OpenAI publishes.

    Args:    sha256: checksums of the files that are accepted.   may_be_script: those that may be TorchScript.
    Raises:  CheckpointError: the file is absent, damaged, or not one of those.
    """
    path = Path(path)
    found = check_file(path, sha256)
    return _weights(path, may_be_script=found in _lower(may_be_script))


def published_sha256(backbone: str | Mapping[str, Any], pretrained: str | None) -> str | None:
    """The checksum in OpenAI's own table, which is part of their file's address; None for other weights."""
    if not isinstance(backbone, str) or pretrained is None:
        return None
    return _openai_sha256(open_clip.get_pretrained_cfg(backbone, pretrained))


def all_openai_sha256() -> set[str]:
    """The checksums of every file that OpenAI published."""
    names = [name for name, tag in open_clip.list_pretrained() if tag == "openai"]
    known = (_openai_sha256(open_clip.get_pretrained_cfg(name, "openai")) for name in names)
    return {sha256 for sha256 in known if sha256}


def download_clip(backbone: str | Mapping[str, Any], pretrained: str | None) -> dict[str, Tensor]:
    """The tensors of weights that open_clip knows by tag, downloaded by it into its cache, as float32.

    Raises:  CheckpointError: it knows no such weights, or they could not be had.
    """
    known = open_clip.get_pretrained_cfg(backbone, pretrained) if isinstance(backbone, str) and pretrained else None
    if not known:
        raise CheckpointError(
            f"open_clip knows no weights {pretrained!r} for {backbone!r}; give a file: clip_weights=PATH"
        )
    try:
        path = Path(download_pretrained(known))
    except Exception as exc:  # hub, urllib and file systems share no narrower root
        raise TransferError(
            f"could not download the {pretrained!r} weights of {backbone!r} ({type(exc).__name__}: {exc}); "
            "where there is no network, give the file: clip_weights=PATH"
        ) from exc
    expected = published_sha256(backbone, pretrained)
    if expected and path.name == known["url"].rpartition("/")[2]:
        return read_clip_file(path, sha256={expected}, may_be_script={expected})
    # The hub's copy, whose checksum nobody has published: it comes over TLS and is read by what can run no code.
    return _weights(path, may_be_script=False)


def check_file(path: Path, sha256: Collection[str]) -> str:
    """Refuse a file whose checksum is not among the accepted ones, and give it back."""
    if not path.is_file():
        raise CheckpointError(f"no CLIP weights at {path}")
    found = file_sha256(path)
    if not sha256:
        raise CheckpointError(
            f"no checksum is known for CLIP weights at {path}, whose SHA-256 is {found}; if you trust the file, give "
            "that as clip_sha256 in Python, or to jobs/import_weights.py, which records it in the checkpoint"
        )
    if found not in _lower(sha256):
        expected = " or ".join(sorted(sha256))
        raise CheckpointError(f"{path} is not the expected CLIP file: expected SHA-256 {expected}, got {found}")
    return found


def _lower(sha256: Collection[str]) -> set[str]:
    return {one.lower() for one in sha256}


def file_sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _openai_sha256(known: Mapping[str, Any] | None) -> str | None:
    url = (known or {}).get("url", "")
    return str(url.split("/")[-2]) if "openaipublic" in url else None


def _weights(path: Path, *, may_be_script: bool) -> dict[str, Tensor]:
    tensors = _read_tensors(path, may_be_script=may_be_script)
    return {name: tensor.float() for name, tensor in tensors.items() if name not in NOT_WEIGHTS}


def _read_tensors(path: Path, *, may_be_script: bool) -> dict[str, Tensor]:
    try:
        if not zipfile.is_zipfile(path):
            return load_file(path)
        with zipfile.ZipFile(path) as archive:
            scripted = any("/code/" in name for name in archive.namelist())
        if scripted and not may_be_script:
            raise CheckpointError(
                f"{path} is TorchScript, which carries code. OpenAI's own files are read, and those whose SHA-256 you "
                "give yourself: as clip_sha256 in Python, or to jobs/import_weights.py with --include-backbone"
            )
        loaded = _read_torchscript(path) if scripted else read_torch_file(path)
    except (SafetensorError, RuntimeError, OSError) as exc:
        first_line = next(iter(str(exc).splitlines()), "")
        message = f"{path} is no safetensors file, state dict or TorchScript archive: {first_line}"
        raise unreadable(message, exc) from exc
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors")
    return dict(tensors)


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    """An archive's weights. TorchScript carries code, so only a file whose checksum was accepted may come here."""
    with warnings.catch_warnings():
        # torch has deprecated TorchScript; OpenAI has published CLIP in no other form.
        warnings.simplefilter("ignore")
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    tensors: dict[str, Tensor] = module.state_dict()
    return tensors
