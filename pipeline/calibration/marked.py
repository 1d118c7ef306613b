"""Labelled images' pixels by the masks that somebody drew; what is wrong with a mask is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.evaluation.counting import CountMaps
from pipeline.metrics import PixelCounts
from pipeline.sources.items import PlanItem
from pipeline.sources.manifest import Resolver
from pipeline.storage import open_root

_MANIFESTS = (".parquet", ".csv", ".jsonl")
_NONE = ("", "nan")  # as CSV and pandas write it
_UNREADABLE = "unreadable_mask"
_MOST_UNREADABLE = 0.01  # of the masks; with more of them something is wrong with all


@dataclass
class Marked:
    """What some labelled images come to.

    Args:    normal, anomalous: images whose pixels are counted.   flaws: of the others, by what is wrong with the mask.
             examples: the first image of each flaw.
    """

    pixels: PixelCounts | None = None
    normal: int = 0
    anomalous: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def __iadd__(self, other: Marked) -> Marked:
        if other.pixels is not None:
            self.pixels = other.pixels if self.pixels is None else self.pixels + other.pixels
        self.normal += other.normal
        self.anomalous += other.anomalous
        self.flaws += other.flaws
        self.examples = other.examples | self.examples
        return self

    def told(self) -> list[str]:
        """A line for each flaw."""
        return [
            f"{count:,} images count for no pixel threshold: {name}, the first {self.examples[name]}"
            for name, count in self.flaws.most_common()
        ]

    def check(self) -> None:
        """Raises:  InputError: too many masks cannot be read for this to be the fault of single files."""
        unreadable = self.flaws[_UNREADABLE]
        if unreadable > _MOST_UNREADABLE * (self.anomalous + unreadable):
            raise InputError(
                f"mask_uri: {unreadable:,} of {self.anomalous + unreadable:,} masks cannot be read, the first of "
                f"{self.examples[_UNREADABLE]}; --pixel-rule none leaves them out"
            )


@dataclass(frozen=True, kw_only=True)
class CountMarked:
    """A task's work on a few labelled images.

    Args:    manifests: of each run, what a relative `mask_uri` is relative to; None where it cannot be told.
    """

    count: CountMaps
    manifests: Mapping[str, str | None]

    def __call__(self, table: pa.Table) -> Marked:
        masks = [self._mask(row["run_id"], row["mask_uri"]) for row in table.select(["run_id", "mask_uri"]).to_pylist()]
        uris, paths = ([getattr(mask, name, None) for mask in masks] for name in ("image_uri", "path"))
        placed = table.drop_columns("mask_uri")
        placed = placed.append_column("mask_uri", pa.array(uris, pa.string()))
        placed = placed.append_column("mask_path", pa.array(paths, pa.string()))
        bad = [mask is not None and mask.bad is not None for mask in masks]
        counted = self.count(placed.filter(pa.array([not one for one in bad])))
        marked = Marked(pixels=counted.pixels, normal=counted.marked[0], anomalous=counted.marked[1])
        for flaw in counted.flaws:
            marked += _flaw(
                flaw.problem, flaw.item.image_uri, f"{flaw.item.mask_uri or ''}: {flaw.message}".lstrip(": ")
            )
        for uri, mask in zip(table["image_uri"].to_pylist(), masks, strict=True):
            if mask is not None and mask.bad is not None:
                marked += _flaw(_UNREADABLE, uri, f"{mask.image_uri}: {mask.bad.message}")
        return marked

    def _mask(self, run_id: str, uri: Any) -> PlanItem | None:
        """The file that a row names: a local path, or what a manifest may name. Tables are data."""
        if uri is None or str(uri).strip() in _NONE:
            return None
        manifest = self.manifests[run_id]
        root = open_root("/" if manifest is None or str(uri).startswith("/") else manifest)
        return Resolver(root, root.path).item({"uri": uri}, str(uri))


def _flaw(problem: str, image_uri: str, message: str) -> Marked:
    return Marked(flaws=Counter([problem]), examples={problem: f"{image_uri}: {message}"})


def manifests(records: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """The one manifest that a run read its images from, by run id; None where there are several, or none."""
    found = {}
    for record in records:
        inputs = record["config"].get("inputs", [])
        is_one = len(inputs) == 1 and str(inputs[0]).lower().endswith(_MANIFESTS)
        found[record["run_id"]] = str(inputs[0]) if is_one else None
    return found
