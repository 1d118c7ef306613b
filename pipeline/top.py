"""The highest scores of a run: a small table, and a contact sheet on one colour scale."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from cops.maps import anomaly_map
from cops.overlay import heat_overlay, with_colour_bar
from cops.shown import shown
from pipeline import ledger
from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.masks import patch_grid
from pipeline.model import ModelCard
from pipeline.read import fetch
from pipeline.request import Request, requests_of
from pipeline.storage import Root

_CELL_PX, _GAP_PX, _LINE_PX = 224, 12, 18
_LETTERS = 30  # of a caption's line, at this cell width
_COLUMNS = 4
_OUTLINE_SHARE = 0.5  # of the scale's top: what is outlined where the run has no pixel threshold

_HIGHEST = "SELECT image_id, __filename AS file FROM highest ORDER BY pred_score DESC, image_id LIMIT {count}"
_ROWS = "SELECT scores.* FROM scores SEMI JOIN top USING (image_id) ORDER BY pred_score DESC, image_id"
_PLANNED = "SELECT * FROM plan WHERE image_id IN (SELECT image_id FROM top)"


@dataclass(frozen=True)
class TopImage:
    """One row of the scores table and its picture, made small; None where it cannot be read any more."""

    row: dict[str, Any]
    thumbnail: Image.Image | None


def read_top(
    root: Root, parts: Sequence[str], plan_files: Sequence[str], rules: DecodeRules, count: int
) -> list[TopImage]:
    """The `count` highest scores in the parts of a scores table, with their pictures."""
    if not parts or not count:
        return []
    highest = ledger.with_files(root, parts, "image_id", "pred_score")
    with ledger.tables(root, highest=highest) as sql:
        found = sql.sql(_HIGHEST.format(count=int(count))).to_arrow_table()
    few = sorted(set(found["file"].to_pylist()))  # only these are read whole
    top = found.select(["image_id"])
    with ledger.tables(root, scores=few, plan=list(plan_files), top=top) as sql:
        rows = sql.sql(_ROWS).to_arrow_table()
        planned = sql.sql(_PLANNED).to_arrow_table()
    requests = dict(zip(planned["image_id"].to_pylist(), requests_of(planned), strict=True))
    return [TopImage(row, _thumbnail(requests[row["image_id"]], rules)) for row in rows.to_pylist()]


def _thumbnail(request: Request, rules: DecodeRules) -> Image.Image | None:
    (data,) = fetch([request], max_bytes=rules.max_bytes)
    if isinstance(data, ImageRejected):
        return None
    try:
        picture = decode_image(data, rules).rgb
    except ImageRejected:  # it was replaced since it was scored
        return None
    picture.thumbnail((_CELL_PX, _CELL_PX))
    return picture


def top_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rank, score and its two parts, category, image."""
    lines = [f"{'#':>3}  {'score':>6}  {'class':>6}  {'patch':>6}  {'category':<14}  image"]
    for rank, row in enumerate(rows, start=1):
        scores = "  ".join(f"{row[name]:6.3f}" for name in ("pred_score", "class_score", "patch_score_max"))
        lines.append(f"{rank:>3}  {scores}  {shown(row['category'] or '-'):<14.14}  {shown(row['image_uri'])}")
    return "\n".join(lines)


def contact_sheet(top: Sequence[TopImage], card: ModelCard, *, title: str) -> bytes:
    """The pictures under their maps, highest score first, all on one scale from 0 to the highest patch; a PNG."""
    vmax = max(0.01, *(item.row["patch_score_max"] for item in top))
    thresholds = {item.row["pixel_threshold"] for item in top}
    given = next(iter(thresholds)) if len(thresholds) == 1 else None
    level = given or _OUTLINE_SHARE * vmax
    meaning = "the pixel threshold" if given else "half of the scale; the run has no single pixel threshold"
    cells = [_cell(item, rank, card, vmax=vmax, level=level) for rank, item in enumerate(top, start=1)]
    header = [title, f"outline: anomaly map at or above {level:.3g} ({meaning})"]
    sheet = with_colour_bar(_grid(cells, header), vmin=0.0, vmax=vmax, level=level, label="anomaly map")
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue()


def _cell(item: TopImage, rank: int, card: ModelCard, *, vmax: float, level: float) -> Image.Image:
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX + 2 * _LINE_PX), "white")
    if item.thumbnail is not None:
        size_hw = (item.thumbnail.height, item.thumbnail.width)
        heat = anomaly_map(patch_grid(item.row), image_size=card.image_size, size_hw=size_hw, sigma_px=card.sigma_px)
        drawn = heat_overlay(item.thumbnail, heat, vmin=0.0, vmax=vmax, level=level)
        cell.paste(drawn, ((_CELL_PX - drawn.width) // 2, (_CELL_PX - drawn.height) // 2))
    where = shown(item.row["image_uri"])
    line = where if len(where) <= _LETTERS else "…" + where[1 - _LETTERS :]
    _write(cell, (0, _CELL_PX), f"{rank}.  {item.row['pred_score']:.3f}")
    _write(cell, (0, _CELL_PX + _LINE_PX), line)
    return cell


def _grid(cells: Sequence[Image.Image], header: Sequence[str]) -> Image.Image:
    columns = min(_COLUMNS, len(cells))
    width, height = cells[0].width + _GAP_PX, cells[0].height + _GAP_PX
    top = _GAP_PX + len(header) * _LINE_PX
    size = (max(2, columns) * width + _GAP_PX, top + math.ceil(len(cells) / columns) * height)
    sheet = Image.new("RGB", size, "white")
    for at, line in enumerate(header):
        _write(sheet, (_GAP_PX, _GAP_PX // 2 + at * _LINE_PX), line)
    for at, cell in enumerate(cells):
        sheet.paste(cell, (_GAP_PX + at % columns * width, top + at // columns * height))
    return sheet


def _write(image: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(image).text(place, text, fill="black", font=ImageFont.load_default(13))
