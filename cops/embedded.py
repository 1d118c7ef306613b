"""The small model that comes with the package, so that everything runs with no download.

`python -m cops.embedded OUT.safetensors` writes it. Its weights are random and seeded: it shows that the software runs.
"""

from pathlib import Path
from typing import Any

import tyro

from cops.assembly import assemble
from cops.checkpoint import EMBEDDED_PATH, Checkpoint, save_checkpoint
from cops.errors import CopsError

# 28×28 patches of 8 px: about as many as the full model's 37×37, at a hundredth of its arithmetic. The MLPs are
# narrower than CLIP's (4) and the vocabulary is the three rows that prompts use, so that the file stays below 18 MB.
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 192,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 224,
        "patch_size": 8,
        "layers": 8,
        "width": 256,
        "head_width": 64,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 3,
        "layers": 10,
        "width": 192,
        "heads": 3,
        "mlp_ratio": 2.0,
    },
}
SEED = 0
K = 3  # a patch sees 8 px; a wider window would wash small defects out


def embedded_checkpoint() -> Checkpoint:
    """The embedded model with its seeded, untrained weights, rounded to float16 as its file holds them."""
    checkpoint = assemble(ARCHITECTURE, k=K, seed=SEED, sot_id=0, stop_id=1, eot_id=2)
    provenance = {
        **checkpoint.provenance,
        "trained": False,
        "source": "cops.embedded",
        "note": "untrained: random weights, which show that the software runs and say nothing of any picture",
    }
    rounded = {name: tensor.half() for name, tensor in checkpoint.tensors.items()}
    return Checkpoint(config=checkpoint.config, provenance=provenance, tensors=rounded)


def write_embedded(output: Path = EMBEDDED_PATH, /) -> None:
    """Write the embedded model.

    Args:
        output: The file to write; by default the one in the package.
    """
    checkpoint = embedded_checkpoint()
    save_checkpoint(output, config=checkpoint.config, tensors=checkpoint.tensors, provenance=checkpoint.provenance)


if __name__ == "__main__":
    try:
        tyro.cli(write_embedded)
    except CopsError as exc:
        raise SystemExit(str(exc)) from exc
