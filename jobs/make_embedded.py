"""Make the packaged model again, from nothing: `python jobs/make_embedded.py make --folder build/embedded`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.checkpoint import EMBEDDED_PATH
from cops.errors import CopsError
from jobs.exits import DONE, INTERRUPTED, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.config import Device


@dataclass(frozen=True, kw_only=True)
class Make:
    """Draw the pictures, train a small CLIP on them, and CoPS on that. Hours on two cores; the same command goes on."""

    folder: Path = Path("build/embedded")
    """What is drawn and trained on the way; 20 GB."""

    output: Path = EMBEDDED_PATH
    """The model's file. Default: the one in the package."""

    workers: int = 1
    """Processes that draw pictures while the model is trained."""

    device: Device = "auto"
    """Where it is trained. What comes out differs from device to device as rounding does."""


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """Write pictures of products and defects that the packaged model was not trained on, for jobs/evaluate.py."""

    output: Path = Path("build/unseen")
    """A folder with a manifest.csv."""

    normal: int = 30
    """Pictures without a defect of each product."""

    of_a_kind: int = 6
    """Pictures of each product with a defect of each kind."""

    products_only: bool = False
    """New products with the sample archive's kinds of defects, which training knows, instead of new ones."""

    seed: int = 0

    size: int = 288
    """Side of the pictures, px."""


Command = Annotated[Make, tyro.conf.subcommand("make")] | Annotated[Unseen, tyro.conf.subcommand("unseen")]


def main(command: Make | Unseen) -> int:
    log_to_stderr()
    stop_on_sigterm()
    try:
        return make(command) if isinstance(command, Make) else write_unseen(command)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def make(command: Make) -> int:
    from pipeline.embedded.make import Making, make_embedded  # noqa: PLC0415 -- torch and Ray take seconds

    provenance = make_embedded(Making(), command.folder, command.output, workers=command.workers, device=command.device)
    print(f"{command.output}: {command.output.stat().st_size / 1e6:.1f} MB")
    for name, value in provenance["metrics"].items():
        print(f"  {name:14} {value:.4f}")
    return DONE


def write_unseen(command: Unseen) -> int:
    from pipeline.embedded import labelled  # noqa: PLC0415 -- as above

    draw = labelled.unseen_products if command.products_only else labelled.unseen_pictures
    pictures = draw(command.seed, normal=command.normal, of_a_kind=command.of_a_kind, side=command.size)
    recipe = {name: value for name, value in vars(command).items() if name != "output"}
    recipe["pictures"] = labelled.digest_unseen()
    print(labelled.write_set(command.output, pictures, recipe))
    return DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Command)))
