"""CoPS: zero-shot anomaly detection with CLIP and conditional prompts (arXiv 2508.03447), inference.

Names are looked up on first use, so that `from cops.maps import anomaly_map` costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cops.assembly import build, from_checkpoint, load
    from cops.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
    from cops.config import PROFILES, CopsConfig, Profile
    from cops.errors import CheckpointError, ConfigError, CopsError, ImageError, ShapeError
    from cops.maps import anomaly_map, axis_operator
    from cops.model import CoPS, Prediction

__all__ = [
    "PROFILES",
    "Checkpoint",
    "CheckpointError",
    "CoPS",
    "ConfigError",
    "CopsConfig",
    "CopsError",
    "ImageError",
    "Prediction",
    "Profile",
    "ShapeError",
    "anomaly_map",
    "axis_operator",
    "build",
    "from_checkpoint",
    "load",
    "read_checkpoint",
    "save_checkpoint",
]

_HOMES = {
    "assembly": ("build", "from_checkpoint", "load"),
    "checkpoint": ("Checkpoint", "read_checkpoint", "save_checkpoint"),
    "config": ("PROFILES", "CopsConfig", "Profile"),
    "errors": ("CheckpointError", "ConfigError", "CopsError", "ImageError", "ShapeError"),
    "maps": ("anomaly_map", "axis_operator"),
    "model": ("CoPS", "Prediction"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cops' has no attribute {name!r}")
    return getattr(import_module(f"cops.{_HOME_OF[name]}"), name)
