"""All that is measured on a GPU, in one go: the GPU tests, and the pages of model, precision and pipeline.

`python benchmarks/on_gpu.py FOLDER` writes pages and logs there. `--device cpu --quick` runs the same steps on a CPU,
small. `--steps` chooses, where no single command may take as long as all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pages import ROOT

from cops.assembly import assemble
from cops.checkpoint import save_checkpoint

STEPS = ("tests", "precision", "model", "pipeline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="few pictures, the packaged model alone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = [step for step in options.steps if not run(step, options)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def run(step: str, options: argparse.Namespace) -> bool:
    """Whether every command of a step succeeded; each one's output goes to the terminal and to a file."""
    ended_well = True
    for number, command in enumerate(commands(step, options)):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        (options.folder / f"{step}-{number}.log").write_text(done.stdout)
        seconds = time.monotonic() - began
        print(
            f"== {step}: {' '.join(command)}: exit {done.returncode} in {seconds:.0f} s\n{done.stdout[-3000:]}",
            flush=True,
        )
        ended_well &= done.returncode == 0
    return ended_well


def commands(step: str, options: argparse.Namespace) -> list[list[str]]:
    device, quick, folder = options.device, options.quick, options.folder.resolve()
    page = ["--device", device, "--results"]
    if step == "tests":
        chosen = ["tests/cops/test_precision.py", "-m", "not gpu"] if device == "cpu" else ["tests", "-m", "gpu"]
        return [["-m", "pytest", "-q", *chosen]]
    if step == "precision":
        return [["benchmarks/precision.py", *page, f"{folder}/precision-{device}.md"]]
    if step == "model":
        few = ["--models", "embedded", "--rounds", "1"] if quick else ["--rounds", "3"]
        return [["benchmarks/model.py", *few, *page, f"{folder}/model-{device}.md"]]
    size = ["--count", "40"] if quick else ["--count", "6000"]
    small = [*size, "--megapixels", "0.3", *page, f"{folder}/pipeline-{device}.md"]
    if quick:
        return [["benchmarks/pipeline_job.py", *small]]
    large = folder.parent / "vit-l-14-518.safetensors"  # not among what is brought back
    model = assemble("ViT-L-14-336-quickgelu", image_size=518, profile="published-visa")
    save_checkpoint(large, config=model.config, tensors=model.tensors, provenance=model.provenance)
    return [["benchmarks/pipeline_job.py", "--model", str(large), "--precision", "bfloat16", *small]]


if __name__ == "__main__":
    main()
