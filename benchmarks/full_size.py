"""ViT-L/14 at 518 px with seeded random weights, on real photographs: seconds per image and peak memory.

python benchmarks/full_size.py PICTURE…
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from PIL import Image

import cops
from cops.images import to_rgb

T = TypeVar("T")


def timed(work: Callable[[], T], device: str) -> tuple[T, float]:
    """A result and the seconds it took, the GPU's queue included."""
    start = time.perf_counter()
    result = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--backbone", default="ViT-L-14-336-quickgelu")
    parser.add_argument("--image-size", type=int, default=518)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch-size", type=int, default=1)
    options = parser.parse_args()

    model, seconds = timed(
        lambda: cops.build(
            options.backbone,
            image_size=options.image_size,
            profile="published-visa",
            device=options.device,
            precision=options.precision,
        ),
        options.device,
    )
    print(f"built in {seconds:.1f} s: grid {model.grid}, {options.precision} on {options.device}, id {model.model_id}")
    images = [to_rgb(Image.open(path)) for path in options.pictures]
    for start in range(0, len(images), options.batch_size):
        batch = images[start : start + options.batch_size]
        prediction, seconds = timed(lambda batch=batch: model.predict(batch, batch_size=len(batch)), options.device)
        for path, score in zip(options.pictures[start:], prediction.pred_score, strict=False):
            print(f"{score:.5f}  {seconds / len(batch):.3f} s/image  {path}")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak resident memory {peak_gib:.2f} GiB, {torch.get_num_threads()} threads")
    if options.device.startswith("cuda"):
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
