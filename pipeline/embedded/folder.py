"""What a working folder is for, written down when it is begun: nothing is gone on with under another recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.training.record import differences

RECIPE = "recipe.json"


def keep_to(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write the recipe into a new folder, or hold it against the one that is there.

    Raises:  InputError: the folder was begun with another, each difference named, or holds something else.
    """
    now: dict[str, Any] = json.loads(json.dumps(recipe))
    path = folder / RECIPE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        if found := sorted(one.name for one in folder.iterdir() if one != partial):
            raise InputError(f"{folder}: expected a new or empty folder, or one with a {RECIPE}; found {found[0]}")
        partial.write_text(json.dumps(now, indent=1) + "\n")
        partial.replace(path)
        return
    if differing := list(differences(json.loads(path.read_text()), now)):
        raise InputError(
            f"{folder} was begun otherwise: {'; '.join(differing)}. Give the same values, or another folder"
        )
