"""WebDataset shards: where each picture lies in a `.tar`, from one pass over its headers.

The bytes are read later by offset, so a resumed run reads only what it still needs. What is wrong with a shard
is one row about the shard; the pictures that can be found in it are planned all the same.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.decode import ENDINGS
from pipeline.schema import Reason
from pipeline.sources.items import Bad, PlanItem, index_patiently, is_hidden
from pipeline.storage import Root, open_root
from pipeline.store_errors import PARSING, WatchedFile, opened

_BLOCK = 512  # a tar is made of these; two of zeros end it
_MAX_JSON = 2**20
_MAX_READ = 2**24  # no header and no notes are longer; a damaged length may say anything
_READ_AHEAD = 2**16  # headers lie one picture apart: reading further ahead would fetch the pictures themselves


def index_tar(uri: str, *, wanted_fields: Sequence[str]) -> list[PlanItem]:
    """Every picture in a shard, in its order, with the wanted fields of the `.json` beside it.

    A key is the member's path up to the first dot of its name, as in WebDataset; masks and the like
    (`key.mask.png` beside `key.jpg`) are no pictures to score. Where no picture has that key, the dot is part of a name
    (`part.0001.png`), whose key ends at its last dot.

    Raises:  StoreError: the store failed in every try.
    """
    root = open_root(uri)
    shard = root.uri()
    return index_patiently(lambda: _opened_index(root, uri, shard, wanted_fields), uri, shard)


def _opened_index(root: Root, uri: str, shard: str, wanted_fields: Sequence[str]) -> list[PlanItem]:
    with opened(root.fs, root.path, block_size=_READ_AHEAD, max_read=_MAX_READ) as file:
        return _index(file, uri, shard, wanted_fields)


def _index(file: WatchedFile, uri: str, shard: str, wanted_fields: Sequence[str]) -> list[PlanItem]:
    found: list[tuple[str, tarfile.TarInfo]] = []
    fields: dict[str, dict[str, Any]] = {}
    verdict: Bad | None = None
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in _members(tar):
                key, dot, ending = member.name.rpartition(".")
                if dot + ending.lower() in ENDINGS and not is_hidden(member.name):
                    found.append((key, member))
                elif ending.lower() == "json" and wanted_fields and member.size <= _MAX_JSON and member.isreg():
                    fields[key] = _json_fields(tar, member)
            verdict = _unfinished(file, tar)
    except PARSING as exc:
        if file.error is not None:  # the store broke off, not the tar
            raise
        where = f"after {len(found)} pictures" if found else "at its start"
        reason = Reason.TRUNCATED_SHARD if found else Reason.UNREADABLE_SHARD
        verdict = Bad(reason=reason, message=f"the tar breaks off {where}: {exc}")
    items = list(_items(_without_companions(found), fields, uri, shard))
    return [*items, PlanItem(image_uri=shard, shard=shard, bad=verdict)] if verdict else items


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        if tar.offset <= member.offset:  # a negative length: it would lead round in a circle
            raise tarfile.ReadError("a member of negative length")
        tar.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
        yield member


def _without_companions(found: list[tuple[str, tarfile.TarInfo]]) -> list[tuple[str, tarfile.TarInfo]]:
    """Leave out `key.mask.png` where `key.jpg` is there."""
    keys = {key for key, _ in found}
    return [(key, member) for key, member in found if (first := _up_to_first_dot(key)) == key or first not in keys]


def _up_to_first_dot(key: str) -> str:
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _json_fields(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    file = tar.extractfile(member)
    try:
        loaded = json.loads(file.read()) if file else {}
    except (ValueError, RecursionError):  # a picture is scored whatever its notes look like
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _items(
    pictures: list[tuple[str, tarfile.TarInfo]], fields: dict[str, dict[str, Any]], uri: str, shard: str
) -> Iterator[PlanItem]:
    seen: set[str] = set()
    for key, member in pictures:
        bad = None
        if key in seen:
            bad = Bad(reason=Reason.DUPLICATE, message=f"a second picture under the key {key!r}: {member.name!r}")
        elif member.offset_data + member.size >= 2**63:
            bad = Bad(reason=Reason.TRUNCATED, message=f"{member.name!r} says to be longer than any file")
        elif not member.isreg():
            bad = Bad(reason=Reason.NOT_A_FILE, message=f"{member.name!r} is a link or device, not a file")
        seen.add(key)
        yield PlanItem(
            image_uri=f"{shard}#{key}",
            kind="range",
            path=uri,
            relative=str(PurePosixPath(member.name)),
            shard=shard,
            offset=member.offset_data if member.offset_data < 2**63 else None,
            num_bytes=member.size if member.size < 2**63 else None,
            fields=fields.get(key, {}),
            bad=bad,
            unique=f"@{member.offset_data}" if bad and bad.reason == Reason.DUPLICATE else "",
        )


def _unfinished(file: WatchedFile, tar: tarfile.TarFile) -> Bad | None:
    """A tar cut exactly between two members reads without an error; only its missing end mark tells."""
    file.seek(tar.offset)
    if file.read(_BLOCK) == bytes(_BLOCK):
        return None
    return Bad(reason=Reason.TRUNCATED_SHARD, message="the tar has no end mark: pictures after it may be missing")
