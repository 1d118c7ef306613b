"""WebDataset shards: where each picture lies in a `.tar`, from one pass over its headers.

The bytes are read later by offset, so a resumed run reads only what it still needs. What is wrong with a shard
is one row about the shard; the pictures that can be found in it are planned all the same.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Picture:
    """A picture by its key, and why it cannot be scored, if so."""

    key: str
    member: tarfile.TarInfo
    bad: Bad | None = None


def index_tar(uri: str, *, wanted_fields: Sequence[str]) -> list[PlanItem]:
    """Every picture in a shard, in its order, with the wanted fields of the `.json` beside it.

    A key is the member's path up to the first dot of its name, as in WebDataset; masks and the like
    (`key.mask.png` beside `key.jpg`) are no pictures to score. Dots before numbers are part of a name
    (`part.0001.png`), whose key ends at its last dot. `_choose` tells the rest.

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
    others: set[str] = set()
    fields: dict[str, dict[str, Any]] = {}
    verdict: Bad | None = None
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in _members(tar):
                key, dot, ending = member.name.rpartition(".")
                if dot + ending.lower() in ENDINGS and not is_hidden(member.name):
                    found.append((key, member))
                    continue
                if member.isreg() and _own_key(key) == key:
                    others.add(key)
                if ending.lower() == "json" and wanted_fields and member.size <= _MAX_JSON and member.isreg():
                    fields[key] = _json_fields(tar, member, wanted_fields)
            verdict = _unfinished(file, tar)
    except PARSING as exc:
        if file.error is not None:  # the store broke off, not the tar
            raise
        where = f"after {len(found)} pictures" if found else "at its start"
        reason = Reason.TRUNCATED_SHARD if found else Reason.UNREADABLE_SHARD
        verdict = Bad(reason=reason, message=f"the tar breaks off {where}: {exc}")
    items = list(_items(_choose(found, others), fields, uri, shard))
    return [*items, PlanItem(image_uri=shard, shard=shard, bad=verdict)] if verdict else items


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        if tar.offset <= member.offset:  # a negative length: it would lead round in a circle
            raise tarfile.ReadError("a member of negative length")
        tar.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
        yield member


def _first_key(name: str) -> str:
    """`a/b/key.mask` → `a/b/key`."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _own_key(name: str) -> str:
    """The key of a member's name without its last ending: up to the first dot that letters follow.

    `key.mask` → `key`; `part.0001` and `cam1_2024.05.01` stay as they are.
    """
    first = _first_key(name)
    return first if any(char.isalpha() for char in name[len(first) :]) else name


def _choose(found: list[tuple[str, tarfile.TarInfo]], others: set[str]) -> list[_Picture]:
    """Which of a shard's pictures are scored, by which key, and which are not though nobody else stands for them.

    Args:    found: each picture with its name up to the last dot.   others: keys of members that are no pictures.
    """
    plain = {name for name, _ in found if _own_key(name) == name}
    count = Counter(_own_key(name) for name, _ in found)
    chosen = []
    for name, member in found:
        key = _own_key(name)
        if name == key:
            chosen.append(_Picture(name, member))
        elif key not in plain and key not in others and count[key] == 1:
            chosen.append(_Picture(name, member))  # `k.v.png` and nothing else that begins so
        elif key not in plain:
            told = (
                f"none of the pictures that begin with {key!r} is named {key!r} and an ending: name the one to score so"
            )
            chosen.append(_Picture(name, member, Bad(reason=Reason.BAD_NAME, message=told)))
    return chosen


def _json_fields(tar: tarfile.TarFile, member: tarfile.TarInfo, wanted: Sequence[str]) -> dict[str, Any]:
    file = tar.extractfile(member)
    try:
        loaded = json.loads(file.read()) if file else {}
    except (ValueError, RecursionError):  # a picture is scored whatever its notes look like
        return {}
    return {name: loaded[name] for name in wanted if name in loaded} if isinstance(loaded, dict) else {}


def _items(pictures: list[_Picture], fields: dict[str, dict[str, Any]], uri: str, shard: str) -> Iterator[PlanItem]:
    seen: set[str] = set()
    for picture in pictures:
        key, member, bad = picture.key, picture.member, picture.bad
        if key in seen:
            bad = Bad(reason=Reason.DUPLICATE, message=f"a second picture under the key {key!r}: {member.name!r}")
        elif member.offset_data + member.size >= 2**63:
            bad = Bad(reason=Reason.TRUNCATED, message=f"{member.name!r} says to be longer than any file")
        elif not member.isreg():
            bad = Bad(reason=Reason.NOT_A_FILE, message=f"{member.name!r} is a link or device, not a file")
        elif member.issparse():  # its bytes lie in pieces, and others' bytes behind them
            told = f"{member.name!r} is stored as a sparse file; write the tar without `tar --sparse`"
            bad = Bad(reason=Reason.UNSUPPORTED, message=told)
        seen.add(key)
        yield PlanItem(
            image_uri=f"{shard}#{key}",
            kind="range",
            path=uri,
            relative=str(PurePosixPath(member.name)),
            shard=shard,
            offset=member.offset_data if member.offset_data < 2**63 else None,
            num_bytes=member.size if member.size < 2**63 else None,
            fields=fields.get(key) or fields.get(_first_key(key), {}),
            bad=bad,
            unique=f"@{member.offset_data}" if bad and bad.reason == Reason.DUPLICATE else "",
        )


def _unfinished(file: WatchedFile, tar: tarfile.TarFile) -> Bad | None:
    """A tar cut exactly between two members reads without an error; only its missing end mark tells."""
    file.seek(tar.offset)
    if file.read(_BLOCK) == bytes(_BLOCK):
        return None
    return Bad(reason=Reason.TRUNCATED_SHARD, message="the tar has no end mark: pictures after it may be missing")
