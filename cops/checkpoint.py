"""Our one file format: safetensors, with the config and where the weights come from in the header.

The header's strings: `format`, `config` (JSON of `CopsConfig`), `provenance` (JSON: trained, source, …). The tensors:
`prompt_learner.*` always; CLIP's, under open_clip's names, all or none. Where there is none, the config names the
backbone and its pretrained tag, and the provenance may carry `clip_sha256`, the checksum of their file. No pickle.
"""

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from cops.backbone import architecture, check_activation
from cops.clip_weights import all_openai_sha256, download_clip, file_sha256, published_sha256, read_clip_file
from cops.config import CopsConfig
from cops.errors import CheckpointError, ConfigError, TransferError, unreadable
from cops.model import CoPS
from cops.published import LEARNED

FORMAT = "cops-checkpoint/1"
EMBEDDED = "embedded"
EMBEDDED_PATH = Path(__file__).parent / "weights" / "embedded.safetensors"

SCORING_VERSION = 1  # raise it when a change of the code changes scores
REMARKS = ("profile", "pretrained", "noise_seed", "vocabulary")  # fields of the config that change no score
UNUSED = ("logit_scale",)  # τ takes its place
_UNBUILDABLE = (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError)  # torch's, of sizes beyond it
LISTED = 6  # names that an error message shows of each kind


@dataclass(frozen=True)
class Checkpoint:
    """A complete model at rest: float32 tensors under the model's names, CLIP's included."""

    config: CopsConfig
    provenance: dict[str, Any]
    tensors: dict[str, Tensor]
    own_clip: bool = True
    """Whether CLIP's weights belong into its file; False where they came from another one."""

    def model_id(self, precision: str = "float32") -> str:
        """32 hex digits that change with every weight and constant that changes a score, and with nothing else."""
        constants = {name: value for name, value in asdict(self.config).items() if name not in REMARKS}
        constants["backbone"] = architecture(self.config.backbone)
        constants.update(scoring_version=SCORING_VERSION, precision=precision, weights=self._weights_digest)
        return hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()[:32]

    @cached_property
    def _weights_digest(self) -> str:
        return weights_digest(_scoring_tensors(self.config, self.tensors))


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and every value."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def read_checkpoint(
    name_or_path: str | Path | bytes = EMBEDDED,
    clip_weights: str | Path | None = None,
    *,
    clip_sha256: str | None = None,
) -> Checkpoint:
    """A checkpoint from a file, its bytes, or the name `embedded`, completed with CLIP's weights.

    Args:    clip_weights: a local CLIP file for a checkpoint without CLIP; where None, open_clip downloads it.
             clip_sha256: checksum to accept for it, beside the header's and OpenAI's own.
    Raises:  CheckpointError: a file is absent, damaged or of another kind, or tensors are missing, too many, of the
             wrong shape or not finite.
    """
    label = "the checkpoint" if isinstance(name_or_path, bytes) else str(name_or_path)
    metadata, tensors = _read_file(name_or_path, label)
    config, provenance = _read_header(metadata, label)
    own_clip = not _lacks_clip(tensors)
    if clip_weights is not None and own_clip:
        raise CheckpointError(f"{label} has its own CLIP weights; do not give clip_weights with it")
    if not own_clip:
        tensors |= find_clip(config, clip_weights, accepted=clip_sha256, recorded=provenance.get("clip_sha256"))
    try:
        checked = check_tensors(config, tensors, label=label)
    except (ConfigError, *_UNBUILDABLE) as exc:
        what = str(exc).partition("\n")[0]  # torch adds its stack
        raise CheckpointError(f"{label} describes a model that cannot be built: {what}") from exc
    return Checkpoint(config=config, provenance=provenance, tensors=checked, own_clip=own_clip)


def save_checkpoint(
    path: str | Path, *, config: CopsConfig, tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all; tensors keep their precision.

    Args:    tensors: `prompt_learner.*`, and CLIP's, all or none of them.
    Raises:  TransferError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "config": config.to_json(),
        "provenance": json.dumps(dict(provenance), sort_keys=True),
    }
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as exc:
        raise TransferError(f"cannot write {path}: {exc}") from exc


def find_clip(
    config: CopsConfig, clip_weights: str | Path | None, *, accepted: str | None = None, recorded: object = None
) -> dict[str, Tensor]:
    """CLIP's weights for a config: from a local file whose checksum is known, or by open_clip's download.

    Args:    accepted: a checksum that the user gives.   recorded: one that a checkpoint names, which may be anybody's:
             it says that the file is the right one, and not that code in it may be loaded.
    Raises:  CheckpointError: they cannot be had, or are not the ones expected.
    """
    # Here too, and not only when the model is built: the wrong file should not be downloaded first.
    arch = architecture(config.backbone)
    check_activation(config, arch)
    if clip_weights is None:
        return download_clip(config.backbone, config.pretrained)
    if not arch.get("quick_gelu") and Path(clip_weights).is_file() and file_sha256(clip_weights) in all_openai_sha256():
        # Whatever it is called here: these weights need QuickGELU.
        check_activation(replace(config, pretrained="openai"), arch)
    trusted = {*all_openai_sha256(), *filter(None, [accepted])}
    fitting = [accepted, recorded, published_sha256(config.backbone, config.pretrained)]
    known = {sha256 for sha256 in fitting if isinstance(sha256, str) and sha256}
    return read_clip_file(clip_weights, sha256=known, may_be_script=trusted)


def check_tensors(config: CopsConfig, tensors: Mapping[str, Tensor], *, label: str) -> dict[str, Tensor]:
    """The tensors as float32, after a check of every name, shape and value.

    Raises:  CheckpointError: naming what is missing, unexpected, of another shape, or not finite.
    """
    expected = expected_shapes(config)
    compare_tensors(expected, tensors, label=label)
    checked = {name: tensors[name].detach().cpu().float() for name in expected}
    check_finite(checked, label=label)
    return checked


def check_finite(tensors: Mapping[str, Tensor], *, label: str) -> None:
    """Refuse weights that hold NaN or infinity."""
    if broken := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise CheckpointError(f"{label} holds values that are not finite, in {_listing(broken)}")


def expected_shapes(config: CopsConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the config's model."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in CoPS(config).state_dict().items()}


def compare_tensors(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], *, label: str) -> None:
    """Raise a CheckpointError that lists every kind of difference between names and shapes."""
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    kinds = {
        "missing": sorted(set(expected) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(expected)),
        "wrong shape": shapes,
    }
    if found := [f"{kind}: {_listing(names)}" for kind, names in kinds.items() if names]:
        raise CheckpointError(f"{label} does not fit its config; {'; '.join(found)}")


def _read_file(source: str | Path | bytes, label: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        if isinstance(source, bytes):  # loaded first: safetensors checks the header before we read it
            tensors = load(source)
            return _metadata(source[8 : 8 + _header_size(source[:8])]), tensors
        path = EMBEDDED_PATH if source == EMBEDDED else Path(source)
        tensors = load_file(path)
        with path.open("rb") as file:
            return _metadata(file.read(_header_size(file.read(8)))), tensors
    except (OSError, SafetensorError, struct.error, ValueError, MemoryError) as exc:
        what = str(exc) or type(exc).__name__
        raise unreadable(f"{label} is no readable safetensors file: {what}{_hint(source)}", exc) from exc


def _header_size(first: bytes) -> int:
    size: int = struct.unpack("<Q", first)[0]
    if size > 100_000_000:  # the format's own limit; a file of another kind says something absurd here
        raise ValueError("its first bytes are no safetensors header")
    return size


def _metadata(header: bytes) -> dict[str, str]:
    return dict(json.loads(header).get("__metadata__") or {})


def _hint(source: str | Path | bytes) -> str:
    if isinstance(source, bytes) or Path(source).suffix not in (".pth", ".pt"):
        return ""
    return ". Published weights become a checkpoint with jobs/import_weights.py"


def _read_header(metadata: Mapping[str, str], label: str) -> tuple[CopsConfig, dict[str, Any]]:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{label} is no CoPS checkpoint: expected format {FORMAT!r}, got {metadata.get('format')!r}"
        )
    try:
        config = CopsConfig.from_json(metadata.get("config", ""))
        provenance = json.loads(metadata.get("provenance", "{}"))
    except (ConfigError, ValueError, TypeError, RecursionError) as exc:
        raise CheckpointError(f"{label} has a damaged header: {exc}") from exc
    if not isinstance(provenance, dict):
        raise CheckpointError(f"{label} has a damaged header: provenance is no JSON object")
    return config, provenance


def _lacks_clip(tensors: Mapping[str, Tensor]) -> bool:
    return all(name.startswith(LEARNED) for name in tensors)


def _scoring_tensors(config: CopsConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What scores are computed from: of the token and position tables, only the rows that prompts use."""
    used = {name: tensor for name, tensor in tensors.items() if name not in UNUSED}
    anchors = [config.sot_id, config.stop_id, config.eot_id]
    used["token_embedding.weight"] = tensors["token_embedding.weight"][anchors]
    used["positional_embedding"] = tensors["positional_embedding"][: config.prompt_length]
    return used


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
