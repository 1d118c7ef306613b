"""Features of images on disk, so that the vision tower runs once for all epochs and runs.

    CACHE/<key>/about.json              what the key stands for
    CACHE/<key>/<ab>/<hash>-<label>     one image: float16 features, and its mask; safetensors with a checksum

The key changes with everything that changes features. The hash is of the image's and the mask's bytes. A file is
written whole or not at all, and its checksum is tested whenever it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch
from fsspec.implementations.local import LocalFileSystem
from jaxtyping import Float16
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cops.backbone import architecture
from cops.checkpoint import SCORING_VERSION, weights_digest
from cops.model import CoPS
from pipeline.decode import DecodeRules
from pipeline.errors import RunError
from pipeline.storage import write_atomic

VERSION = 2  # raise it when features or their files change
_SHOWN = 3  # damaged files that are named

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """What training and validation need of an image."""

    image: Float16[Tensor, " c"]
    patches: Float16[Tensor, "n c"]
    mask: npt.NDArray[np.bool_] | None
    """(S, S), True where anomalous; None where nobody marked what is anomalous."""


def describe_features(model: CoPS, rules: DecodeRules) -> dict[str, Any]:
    """Everything that changes an image's features."""
    config = model.config
    arch = architecture(config.backbone)
    return {
        "version": VERSION,
        "scoring_version": SCORING_VERSION,
        "vision": arch["vision_cfg"],
        "quick_gelu": bool(arch.get("quick_gelu")),
        "weights": weights_digest(model.visual.state_dict()),
        "image_size": config.image_size,
        "pixel_mean": config.pixel_mean,
        "pixel_std": config.pixel_std,
        "decode": asdict(rules),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }


class FeatureCache:
    """Features of one model under one set of rules."""

    def __init__(self, root: Path, about: dict[str, Any]) -> None:
        text = json.dumps(about, sort_keys=True, indent=1)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.side = int(about["image_size"])
        self.damaged = 0
        if not (self.folder / "about.json").exists():
            _write(self.folder / "about.json", text.encode())

    def path(self, content_hash: str, label: int) -> Path:
        # The label is part of the name: whether a mask is right for its image depends on it.
        return self.folder / content_hash[:2] / f"{content_hash}-{label}.safetensors"

    def find(self, content_hash: str, label: int) -> Features | None:
        """Kept features; None where there are none, or where their file is damaged, which is said."""
        path = self.path(content_hash, label)
        try:
            return _decode(path.read_bytes(), self.side)
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, ValueError) as exc:
            self.damaged += 1
            if self.damaged <= _SHOWN:
                log.warning("%s is damaged (%s) and not used; its features are computed again", path, exc)
            return None
        except OSError as exc:
            raise RunError(f"cannot read the feature cache: {exc}") from exc

    def keep(self, content_hash: str, label: int, features: Features) -> None:
        """Raises:  RunError: the file cannot be written, as on a full disk."""
        _write(self.path(content_hash, label), _encode(features))


def bytes_per_image(model: CoPS) -> int:
    """What a file of features takes, but for its header."""
    width = model.prompt_learner.t_n.shape[1]
    return int(2 * width * (1 + model.grid**2)) + model.image_size**2 // 8


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomic(LocalFileSystem(), os.fspath(path), content)
    except OSError as exc:
        raise RunError(f"cannot write to the feature cache: {exc}") from exc


def _encode(features: Features) -> bytes:
    tensors = {"image": features.image, "patches": features.patches}
    if features.mask is not None:
        tensors["mask"] = torch.from_numpy(np.packbits(features.mask))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content: bytes = save({**tensors, "crc32": torch.tensor(_checksum(tensors))})
    return content


def _decode(content: bytes, side: int) -> Features:
    """Raises:  SafetensorError, KeyError, ValueError: it is not what was written."""
    tensors = load(content)
    expected = int(tensors.pop("crc32"))
    if _checksum(tensors) != expected:
        raise ValueError("its checksum is another")
    mask = None
    if "mask" in tensors:
        bits: npt.NDArray[np.uint8] = np.unpackbits(tensors["mask"].numpy(), count=side * side)
        mask = bits.reshape(side, side).astype(bool)
    return Features(tensors["image"], tensors["patches"], mask)


def _checksum(tensors: dict[str, Tensor]) -> int:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().data, checksum)
    return checksum
