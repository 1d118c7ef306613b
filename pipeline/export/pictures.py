"""Pictures of chosen images as PNG: overlays on one scale, masks, maps, or the originals as they were scored."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image

from cops.errors import ShapeError
from cops.maps import anomaly_map
from cops.overlay import OUTLINE_RGB, heat_overlay, outline, with_colour_bar
from pipeline.errors import InputError
from pipeline.export.names import picture_name
from pipeline.export.selection import Chosen, Row, Selection, choose
from pipeline.export.writing import short
from pipeline.masks import Map, Mask, decode, patch_grid
from pipeline.originals import ORIGINAL_COLUMNS, Missing, read_originals
from pipeline.storage import Root, open_root, write_atomic
from pipeline.store_errors import with_patience
from pipeline.whole_file import whole_text_file

What = Literal["overlay", "mask", "map", "original"]

INDEX_COLUMNS = ("uri", "image_id", "image_uri", "category", "pred_score", "pred_label", "problem")
NO_MASK = "no_mask"

_OF_ALL = ("image_id", "image_uri", "width", "height", "category", "pred_score", "pred_label")
_MAP = ("patch_scores", "map_size")
_OF: Mapping[What, tuple[str, ...]] = {
    "overlay": (*ORIGINAL_COLUMNS, *_MAP, "pred_mask", "pixel_threshold"),
    "mask": ("pred_mask",),
    "map": _MAP,
    "original": ORIGINAL_COLUMNS,
}
_LEAST_SCALE = 0.01
_MAP_TOP = 65535  # of 16 bits: a score of 1


@dataclass(frozen=True)
class Drawn:
    """Args:    problems: how many images have no picture; the index says why.   vmax: the score at the colours' end."""

    run_id: str
    pictures: int
    problems: int
    first_problem: str | None
    vmax: float
    folder: str
    index: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """Args:    max_side_px: larger overlays are reduced.   image_size, sigma_px: what the run's maps are rebuilt by."""

    what: What
    vmax: float
    max_side_px: int
    image_size: int
    sigma_px: float


def export_pictures(
    selection: Selection, save: str, what: What, *, vmax: float | None = None, max_side_px: int = 2048
) -> Drawn:
    """Write a PNG for each chosen image into a folder, and an index of them, which is a manifest.

    Args:    vmax: the end of the overlays' colours; the highest patch score of the whole run where None, so that all
             overlays of a run can be compared.
    Raises:  InputError: as `choose`; the folder is a file; a row is damaged.   StoreError: a store does not answer.
    """
    folder = open_root(save)
    if folder.is_local and Path(folder.path).exists() and not Path(folder.path).is_dir():
        raise InputError(f"--save: expected a folder, {folder.uri()} is a file")
    index = f"{save.rstrip('/')}/{what}s.csv"
    with choose(selection) as chosen, whole_text_file(index) as out:
        look = _look(chosen, what, vmax, max_side_px)
        if what == "mask":
            chosen.require_masks()
        tally = _write(_pictures(chosen, look), folder, what, out)
        run_id = chosen.record["run_id"]
    return Drawn(run_id, *tally, look.vmax, folder.uri(), open_root(index).uri())


def _look(chosen: Chosen, what: What, vmax: float | None, max_side_px: int) -> Look:
    if vmax is not None and not 0 < vmax <= 1:
        raise InputError(f"--vmax: scores lie in 0..1; expected the one at the end of the colours, got {vmax}")
    if max_side_px < 16:
        raise InputError(f"--max-side: expected 16 px or more, got {max_side_px}")
    model = chosen.record.get("model", {})
    size, sigma = model.get("image_size"), model.get("sigma_px")
    if what in ("overlay", "map") and not (isinstance(size, int) and isinstance(sigma, int | float)):
        raise InputError(
            f"run {chosen.record['run_id']!r} does not say what its maps are rebuilt by (model.image_size and sigma_px "
            "of its record, which runs of earlier versions lack); masks and originals can be exported"
        )
    scale = vmax if vmax is not None else max(_LEAST_SCALE, chosen.hottest or 0.0)
    return Look(what=what, vmax=scale, max_side_px=max_side_px, image_size=size or 0, sigma_px=sigma or 0.0)


def _write(
    pictures: Iterator[tuple[Row, Image.Image | Missing]], folder: Root, what: What, out: IO[str]
) -> tuple[int, int, str | None]:
    """How many pictures, how many without, and the first of these."""
    index = csv.DictWriter(out, INDEX_COLUMNS)
    index.writeheader()
    count, problems, first = 0, 0, None
    for row, picture in pictures:
        told: dict[str, Any] = {name: row[name] for name in INDEX_COLUMNS if name in row}
        told["pred_score"] = short(row["pred_score"])
        if isinstance(picture, Missing):
            problem = f"{picture.reason}: {picture.message}"
            problems, first = problems + 1, first or f"{row['image_uri']}: {problem}"
            index.writerow(told | {"problem": problem})
            continue
        name = picture_name(row, "" if what == "original" else what)
        _save(picture, folder, name)
        index.writerow(told | {"uri": name})
        count += 1
    return count, problems, first


def _save(picture: Image.Image, folder: Root, name: str) -> None:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    path = folder.join(name)
    with_patience(lambda: write_atomic(folder.fs, path, encoded.getvalue()), folder.uri(path))


def _pictures(chosen: Chosen, look: Look) -> Iterator[tuple[Row, Image.Image | Missing]]:
    rows = chosen.rows([*_OF_ALL, *_OF[look.what]])
    if look.what in ("mask", "map"):
        for row in rows:
            yield row, _guarded(row, look, None)
    else:
        for original in read_originals(rows, chosen.record):
            row, picture = dict(original.row), original.picture
            yield row, picture if isinstance(picture, Missing) else _guarded(row, look, picture)


def _guarded(row: Row, look: Look, picture: Image.Image | None) -> Image.Image | Missing:
    """Raises:  InputError: the row's map or mask is damaged."""
    try:
        return _draw(row, look, picture)
    except (ValueError, KeyError, TypeError, ShapeError) as exc:
        raise InputError(f"{row['image_uri']}: its row in the table is damaged: {exc}") from exc


def _draw(row: Row, look: Look, picture: Image.Image | None) -> Image.Image | Missing:
    if look.what == "mask":
        if row["pred_mask"] is None:
            return Missing(NO_MASK, "there was no pixel threshold for it")
        return Image.fromarray(decode(row).astype(np.uint8) * 255)
    if look.what == "map":
        heat = _map(row, look, (row["height"], row["width"]))
        return Image.fromarray(np.rint(heat * _MAP_TOP).astype(np.uint16))
    assert picture is not None
    return picture if look.what == "original" else _overlay(row, look, picture)


def _map(row: Row, look: Look, size_hw: tuple[int, int]) -> Map:
    heat: Map = anomaly_map(patch_grid(row), image_size=look.image_size, sigma_px=look.sigma_px, size_hw=size_hw)
    return np.clip(heat, 0, 1)


def _overlay(row: Row, look: Look, picture: Image.Image) -> Image.Image:
    """The picture under its map; outlined is the mask of the table."""
    picture.thumbnail((look.max_side_px, look.max_side_px))
    heat = _map(row, look, (picture.height, picture.width))
    drawn = np.array(heat_overlay(picture, heat, vmin=0.0, vmax=look.vmax))
    if row["pred_mask"] is not None:
        drawn[outline(_reduced(decode(row), picture.size))] = OUTLINE_RGB
    bar = Image.fromarray(drawn)
    return with_colour_bar(bar, vmin=0.0, vmax=look.vmax, level=row["pixel_threshold"], label="anomaly map")


def _reduced(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at a smaller size, in which no region is lost."""
    if mask.shape == (size[1], size[0]):
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    smaller: Mask = np.asarray(grey) > 0
    return smaller
