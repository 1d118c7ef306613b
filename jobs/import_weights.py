"""Published CoPS weights (.pth) → a checkpoint of this project."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python jobs/import_weights.py` runs as it is

import tyro

from cops.errors import ConfigError, CopsError
from cops.importing import ImportOptions, import_weights


def main() -> int:
    try:
        options = tyro.cli(ImportOptions, prog="import_weights.py")
        print(import_weights(options))
    except ConfigError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except CopsError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
