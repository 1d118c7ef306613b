"""The tiny model of the golden tensors, and jaxtyping's checks of the shapes in every box of the method."""

import json
import sys
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

CHECKER = "beartype.beartype"
# Not config, images and model: what users hand in there, the package checks itself, with errors of its own.
PARTS = ("alignment", "attention", "class_tokens", "maps", "overlay", "prompts", "state_tokens", "vision")
install_import_hook([f"cops.{part}" for part in PARTS], CHECKER)  # for the whole run

import pytest  # noqa: E402
from torch import Tensor  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))

import seeded  # noqa: E402

import cops  # noqa: E402
from cops.assembly import assemble  # noqa: E402
from cops.checkpoint import expected_shapes  # noqa: E402
from cops.published import LEARNED  # noqa: E402


@pytest.fixture(scope="session")
def arch() -> dict[str, Any]:
    return json.loads((GOLDEN / "clip_tiny.json").read_text())


@pytest.fixture(scope="session")
def clip_tensors(arch: dict[str, Any]) -> dict[str, Tensor]:
    """CLIP's seeded weights, names as in open_clip."""
    shapes = expected_shapes(cops.CopsConfig(backbone=arch, image_size=112))
    return {name: seeded.fill(name, shape, 0) for name, shape in shapes.items() if not name.startswith(LEARNED)}


@pytest.fixture(scope="session")
def prompt_tensors(arch: dict[str, Any]) -> dict[str, Tensor]:
    """CoPS's seeded weights, names as published."""
    shapes = expected_shapes(cops.CopsConfig(backbone=arch, image_size=112))
    names = [name for name in shapes if name.startswith(LEARNED) and not name.endswith("class_noise")]
    return {name.removeprefix(LEARNED): seeded.fill(name, shapes[name], 0) for name in names}


@pytest.fixture(scope="session")
def tiny_checkpoint(
    arch: dict[str, Any], clip_tensors: dict[str, Tensor], prompt_tensors: dict[str, Tensor]
) -> cops.Checkpoint:
    return assemble(
        arch,
        image_size=112,
        clip_state_dict=clip_tensors,
        prompt_state_dict=prompt_tensors,
        class_noise=seeded.noise("class_noise", (10, 192), 0),
        profile="published-visa",
    )


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: cops.Checkpoint) -> cops.CoPS:
    return cops.from_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="session")
def small_arch() -> dict[str, Any]:
    """A CLIP of a few kilobytes, for what needs a file or many models."""
    return {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": 5, "width": 48, "heads": 3, "layers": 3},
    }


@pytest.fixture(scope="session")
def small_checkpoint(small_arch: dict[str, Any]) -> cops.Checkpoint:
    return assemble(small_arch, image_size=56, sot_id=0, stop_id=1, eot_id=4)


@pytest.fixture(scope="session")
def small(small_checkpoint: cops.Checkpoint) -> cops.CoPS:
    return cops.from_checkpoint(small_checkpoint)
