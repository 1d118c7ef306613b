"""Compare the model with every golden tensor and print the largest absolute difference of each.

python tests/golden/report.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

import seeded  # noqa: E402

import cops  # noqa: E402
from cops.checkpoint import expected_shapes  # noqa: E402
from cops.published import LEARNED  # noqa: E402

PROFILE_OF = {"k5": "published-visa", "k3": "published-mvtec"}
OUR_NAME = {"patch_probability": "patch_scores", "score": "pred_score"}
INPUTS = ("images", "class_noise")
TOLERANCE = 1e-4


def golden_model(which: str) -> cops.CoPS:
    """The tiny model with the golden weights, with the constants of one of the two sets."""
    arch = json.loads((HERE / "clip_tiny.json").read_text())
    shapes = expected_shapes(cops.CopsConfig(backbone=arch, image_size=112))
    tensors = {name: seeded.fill(name, shape, 0) for name, shape in shapes.items() if not name.endswith("class_noise")}
    learned = {name: tensor for name, tensor in tensors.items() if name.startswith(LEARNED)}
    clip = {name: tensor for name, tensor in tensors.items() if name not in learned}
    return cops.build(
        arch,
        image_size=112,
        clip_state_dict=clip,
        prompt_state_dict=learned,
        class_noise=seeded.noise("class_noise", (10, 192), 0),
        profile=PROFILE_OF[which],
    )


def expected_tensors(which: str) -> dict[str, Tensor]:
    return load_file(HERE / f"expected_{which}.safetensors")


def computed_tensors(model: cops.CoPS, images: np.ndarray) -> dict[str, Tensor]:
    """The model's tensors for some images, under the golden names."""
    with torch.inference_mode():
        passed = vars(model(model.normalise(images)))
    computed = {golden: passed[ours] for golden, ours in OUR_NAME.items()} | passed
    scores = passed["patch_scores"].reshape(len(images), model.grid, model.grid)
    return computed | {"anomaly_map": torch.from_numpy(model.anomaly_map(scores.numpy()))}


def differences(which: str, model: cops.CoPS) -> dict[str, float]:
    """The largest absolute difference of every golden tensor of a set, all images in one batch."""
    expected = expected_tensors(which)
    computed = computed_tensors(model, expected["images"].numpy())
    names = [name for name in expected if name not in INPUTS]
    return {name: float((expected[name] - computed[name]).abs().max()) for name in names}


def main() -> int:
    found = {which: differences(which, golden_model(which)) for which in PROFILE_OF}
    print(f"{'tensor':<28}" + "".join(f"{which:>12}" for which in found))
    for name in found["k5"]:
        print(f"{name:<28}" + "".join(f"{found[which][name]:>12.2e}" for which in found))
    return int(max(max(values.values()) for values in found.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
