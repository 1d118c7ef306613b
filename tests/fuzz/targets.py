"""One input through the pipeline's own code, and what came of it: the reason that a table would hold, or `scored`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from checks import check_image, check_tar, check_whole
from corpus import MODEL_ID
from mutate import Mutant

from cops.checkpoint import read_checkpoint
from cops.errors import CopsError
from pipeline import store_errors
from pipeline.decode import RGB, DecodeRules, ImageRejected
from pipeline.decode_stage import ReadAndDecode
from pipeline.errors import InputError
from pipeline.read import fetch
from pipeline.request import requests_of
from pipeline.runs import open_run, records
from pipeline.schema import QUARANTINE_FILE
from pipeline.sources import PlanItem, PlanRows
from pipeline.sources.manifest import manifest_items
from pipeline.sources.parquet import choose_image_column, index_parquet, read_schema
from pipeline.sources.webdataset import index_tar
from pipeline.storage import open_root
from pipeline.thresholds import read_thresholds

RULES = DecodeRules(max_pixels=4_000_000, max_bytes=16 * 2**20)
SIDE = 56
KEPT = {"label": pa.int64(), "note": pa.string()}
PLAN_ROWS = PlanRows(category=None, template=None, metadata=KEPT)
STAGE = ReadAndDecode(worklist=None, output="", side=SIDE, rules=RULES, metadata=KEPT)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Read:
    """What came of an input: of all of it, and of the pictures in it."""

    outcome: str
    pictures: Counter[str] = field(default_factory=Counter)


def read(mutant: Mutant, folder: Path) -> Read:
    """The input read as a run would read it; its promises are checked.

    Raises:  BrokenPromiseError: an outcome that cannot be right.   Exception: whatever else should not come out.
    """
    with mock.patch.object(store_errors, "RETRY_AFTER_S", (0.0,)):  # a local file is not waited for
        return _TARGETS[mutant.seed.target](mutant, folder)


def _image(mutant: Mutant, folder: Path) -> Read:
    outcome, pixels = _decoded(mutant.data)
    check_image(mutant, outcome, pixels, whole=_whole_pixels(mutant.seed.data))
    return Read(outcome)


@cache
def _whole_pixels(data: bytes) -> RGB | None:
    return _decoded(data)[1]


def _decoded(data: bytes | ImageRejected) -> tuple[str, RGB | None]:
    """By the decode stage, as a row of its table."""
    known, pixels = STAGE._decoded(data)
    row = {"image_id": "0", "image_uri": "x", "label": None, "note": None} | known
    table = STAGE._table([row], [pixels])
    return table["reason"][0].as_py() or "scored", pixels


def _tar(mutant: Mutant, folder: Path) -> Read:
    path = _put(folder, "shard.tar", mutant.data)
    items = index_tar(path, wanted_fields=PLAN_ROWS.wanted_fields)
    found = _shard(items)
    check_tar(mutant, found.outcome, found.pictures)
    return found


def _parquet(mutant: Mutant, folder: Path) -> Read:
    path = _put(folder, "shard.parquet", mutant.data)
    schema = read_schema(open_root(str(folder)), path)
    if schema is None:
        return Read("unreadable_shard")
    try:
        column = choose_image_column(schema, path, None)
    except InputError:
        return Read("refused")
    found = _shard(index_parquet(path, wanted_fields=PLAN_ROWS.wanted_fields, image_column=column))
    check_whole(mutant, found.outcome, found.pictures)
    return found


def _shard(items: Sequence[PlanItem]) -> Read:
    """A shard's items as rows of a plan, read and decoded; a row about the shard itself is its outcome."""
    about = [str(item.bad.reason) for item in items if item.bad and item.image_uri == item.shard]
    pictures = [item for item in items if item.image_uri != item.shard]
    return Read(about[0] if about else "read", _pictures(PLAN_ROWS.table(pictures)))


def _pictures(rows: pa.Table) -> Counter[str]:
    """Outcomes of a plan's rows, each of which has one."""
    outcomes = Counter(reason for reason in rows["reason"].to_pylist() if reason)
    readable = rows.filter(pc.is_null(rows["stage"]))
    found = fetch(requests_of(readable), max_bytes=RULES.max_bytes)
    outcomes.update(_decoded(data)[0] for data in found)
    assert outcomes.total() == len(rows)
    return outcomes


def _manifest(mutant: Mutant, folder: Path) -> Read:
    path = _put(folder, f"m.{mutant.seed.name}", mutant.data)
    try:
        items = list(manifest_items(open_root(str(folder)), path, wanted_fields=PLAN_ROWS.wanted_fields))
    except InputError:
        return Read("refused")
    rows = PLAN_ROWS.table(items)
    is_here = [
        str(name).startswith(f"{folder}/") or stage is not None for name, stage in _columns(rows, "path", "stage")
    ]
    found = _pictures(rows.filter(pa.array(is_here, pa.bool_())))
    check_whole(mutant, "read", found)
    return Read("read", found)


def _columns(rows: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _checkpoint(mutant: Mutant, folder: Path) -> Read:
    return _accepted(mutant, CopsError, lambda: read_checkpoint(mutant.data))


def _thresholds(mutant: Mutant, folder: Path) -> Read:
    path = _put(folder, "thresholds.parquet", mutant.data)
    return _accepted(mutant, InputError, lambda: read_thresholds(path, MODEL_ID))


def _record(mutant: Mutant, folder: Path) -> Read:
    for name in ("runs", "quarantine/run_id=r"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pq.write_table(QUARANTINE_FILE.empty_table(), folder / "quarantine/run_id=r/part-0.parquet")
    _put(folder, "runs/r.json", mutant.data)
    return _accepted(mutant, InputError, lambda: (list(records(str(folder))), open_run(str(folder), "r")))


def _accepted(mutant: Mutant, refusal: type[Exception], use: Callable[[], object]) -> Read:
    try:
        use()
    except refusal:
        outcome = "refused"
    else:
        outcome = "accepted"
    check_whole(mutant, outcome, Counter())
    return Read(outcome)


def _put(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


_TARGETS: dict[str, Callable[[Mutant, Path], Read]] = {
    "image": _image, "tar": _tar, "shard": _parquet, "manifest": _manifest, "checkpoint": _checkpoint,
    "thresholds": _thresholds, "record": _record,
}  # fmt: skip
