"""Published CoPS weights (.pth) → a checkpoint of this project."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from cops.importing import ImportOptions, import_weights
from jobs.exits import DONE, fail


def main() -> int:
    try:
        print(import_weights(tyro.cli(ImportOptions, prog="import_weights.py")))
    except CopsError as error:
        return fail(error)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
