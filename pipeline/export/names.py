"""What files are called in exports: a tool finds a picture by its name."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.export.selection import Chosen
from pipeline.storage import open_root

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_STEM_LETTERS, _STEM_PARTS = 60, 3  # the names of a picture and of two folders above it
_ID = re.compile(r"[0-9a-f]{32}")
_ELSEWHERE = "SELECT count(*), min(image_uri) FROM chosen WHERE NOT starts_with(image_uri, $1)"
_ID_LETTERS = 16  # 64 bits: two of 10 million images share them with a chance of 3 in a million


def picture_name(row: Mapping[str, Any], kind: str = "") -> str:
    """The name of an image's PNG: the same in every export, safe on every disk, another for every image.

    Nothing of a name is ever a path: of hostile ones only letters, digits, - and _ are left.
    Args:    kind: what is drawn, where it is not the picture itself.
    """
    parts = re.split(r"[/#]+", posixpath.splitext(row["image_uri"])[0])[-_STEM_PARTS:]
    stem = "_".join(_UNSAFE.sub("_", part) for part in parts)[-_STEM_LETTERS:].strip("_-")
    given: str = row["image_id"]
    known = given if _ID.fullmatch(given) else hashlib.blake2b(given.encode(), digest_size=16).hexdigest()
    return f"{stem or 'image'}-{known[:_ID_LETTERS]}{kind and f'.{kind}'}.png"


@dataclass(frozen=True)
class Names:
    """Args:    folder: what names are relative to.   are_pictures: they are those of `export.py pictures`."""

    folder: str
    are_pictures: bool = False

    def of(self, row: Mapping[str, Any]) -> str:
        uri: str = row["image_uri"]
        return picture_name(row) if self.are_pictures else uri.removeprefix(self.folder)


def names_for(chosen: Chosen, *, relative_to: str | None, pictures: str | None) -> Names:
    """Args:    relative_to: a folder; the deepest that holds all of the run's images where None.
             pictures: the folder that `export.py pictures --what original` wrote; names are those of its files.
    Raises:  InputError: an image lies elsewhere, in a shard, or in another store than the others.
    """
    if pictures is not None:
        if relative_to is not None:
            raise InputError("give --relative-to or --pictures, not both: exported pictures lie in one folder")
        return Names(_folder(pictures), are_pictures=True)
    if chosen.in_shards:
        raise InputError(
            f"{chosen.in_shards:,} of the {chosen.images:,} images lie in shards, where no other tool finds them; the "
            f"first is {chosen.in_shard_uri}. Write them out by `pictures --what original --save FOLDER`, and give "
            "--pictures FOLDER"
        )
    if relative_to is None:
        return Names(_common_folder(chosen))
    folder = _folder(relative_to)
    ((count, first),) = chosen.sql.execute(_ELSEWHERE, [folder]).fetchall()
    if count:
        raise InputError(
            f"--relative-to: expected a folder that holds all images; {count:,} are not in {folder}: {first}"
        )
    return Names(folder)


def _folder(uri: str) -> str:
    return open_root(uri).uri().rstrip("/") + "/"


def _common_folder(chosen: Chosen) -> str:
    """Of texts in order, what the first and the last begin with, all begin with."""
    if chosen.first_uri is None or chosen.last_uri is None:
        return ""
    begin, slash, _ = posixpath.commonprefix([chosen.first_uri, chosen.last_uri]).rpartition("/")
    folder = begin + slash
    if not slash or folder.endswith("://"):
        raise InputError(
            f"the run's images lie in several stores ({chosen.first_uri}, {chosen.last_uri}): say which folder names "
            "are relative to by --relative-to, and choose its images by --where"
        )
    return folder
