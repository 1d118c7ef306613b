"""Pictures for the page: the original beside its map, mask and regions, all on one colour scale."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cops.errors import CopsError
from cops.maps import anomaly_map
from cops.overlay import OUTLINE_RGB, heat_overlay, outline
from pipeline import masks
from pipeline.decode import DecodeRules, ImageRejected, decode_to_side
from pipeline.errors import InputError
from pipeline.originals import Missing
from pipeline.report.originals import originals
from pipeline.report.picks import Pick

SIDE_PX = 360  # of a picture's longer side, on the page
_QUALITY = 78
_MOST_BOXES = 5
_THRESHOLDS_HIGH = 2  # of the scale, at the least: the threshold is at its half
_NO_PICTURE = (128, 128, 128)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region of the mask, numbered as on the picture: the highest peak first."""

    number: int
    box_xywh: tuple[int, int, int, int]
    area: int
    peak_score: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image as the page shows it.

    Args:    original, overlay: `data:` URIs; None where there is no picture, or nothing to draw.
             missing: why there is no original.   flaw: what else could not be drawn, and why.
             regions: the first ones; `more_regions` are not among them.
    """

    row: Mapping[str, Any]
    run_id: str
    original: str | None = None
    overlay: str | None = None
    missing: str | None = None
    flaw: str | None = None
    regions: tuple[Region, ...] = ()
    more_regions: int = 0


def scale_top(picks: Sequence[Pick], pixel_threshold: tuple[float, float] | None) -> float:
    """The upper end of the one colour scale: what makes a picture without any defect dark, whatever else is shown.

    The highest patch of all that is shown, and no less than twice the pixel threshold; without one, than 1.
    Args:    pixel_threshold: the least and the greatest.
    """
    highest = [float(one.row["patch_score_max"] or 0) for one in picks]
    least = min(1.0, _THRESHOLDS_HIGH * pixel_threshold[1]) if pixel_threshold and pixel_threshold[1] > 0 else 1.0
    return max([least, *(top for top in highest if np.isfinite(top))])


def draw(picks: Sequence[Pick], *, top: float) -> list[Shown]:
    """Every pick, in its order. One original is in memory in full size at a time.

    Args:    top: the upper end of the colour scale.
    """
    shown: list[Shown | None] = [None] * len(picks)
    for rules, members in _by_rules(picks):
        for number, found in originals([picks[at] for at in members], rules):
            at = members[number]
            shown[at] = _shown(picks[at], _thumbnail(found, rules), top)
    return [one for one in shown if one is not None]


def without_pictures(picks: Sequence[Pick]) -> list[Shown]:
    return [Shown(row=one.row, run_id=one.run.run_id) for one in picks]


def _by_rules(picks: Sequence[Pick]) -> list[tuple[DecodeRules, list[int]]]:
    """The picks of one run after those of the other, with the rules that it decoded by."""
    runs: dict[str, list[int]] = {}
    for at, one in enumerate(picks):
        runs.setdefault(one.run.run_id, []).append(at)
    return [(rules_of(picks[members[0]].run.record), members) for members in runs.values()]


def rules_of(record: Mapping[str, Any]) -> DecodeRules:
    """How a run decoded; large JPEGs at a fraction, which for a small picture is all the same."""
    told = record["config"].get("decode")
    given = told if isinstance(told, Mapping) else {}
    known = {name: value for name, value in given.items() if name in DecodeRules.__dataclass_fields__}
    try:
        return DecodeRules(**known | {"scaled_jpeg": True})
    except (InputError, TypeError, AttributeError):
        log.warning(
            "run %s: its decoding rules cannot be read; pictures are decoded by the usual ones", record["run_id"]
        )
        return DecodeRules(scaled_jpeg=True)


def _thumbnail(found: bytes | Missing, rules: DecodeRules) -> Image.Image | Missing:
    if isinstance(found, Missing):
        return found
    try:
        picture = decode_to_side(found, rules, SIDE_PX)[0].rgb
    except ImageRejected as exc:
        return Missing(exc.reason, f"it cannot be decoded: {exc}")
    return picture.resize(_fitted(picture.width, picture.height), Image.Resampling.LANCZOS)


def _fitted(width: int, height: int) -> tuple[int, int]:
    """(width, height) with the longer side at `SIDE_PX`, small pictures enlarged."""
    scale = SIDE_PX / max(width, height, 1)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shown(one: Pick, picture: Image.Image | Missing, top: float) -> Shown:
    row, missing = one.row, picture.message if isinstance(picture, Missing) else None
    if isinstance(picture, Missing):
        picture = Image.new("RGB", _fitted(row["width"] or 1, row["height"] or 1), _NO_PICTURE)
    regions = _regions(row)
    told = Shown(
        row=row, run_id=one.run.run_id, missing=missing, original=None if missing else _data_uri(picture),
        regions=regions, more_regions=len(row["regions"] or ()) - len(regions),
    )  # fmt: skip
    try:
        return replace(told, overlay=_data_uri(_overlay(one, picture, regions, top)))
    except (ValueError, TypeError, AttributeError, CopsError) as exc:  # a table is data
        return replace(told, flaw=f"its map or mask cannot be drawn: {exc}")


def _regions(row: Mapping[str, Any]) -> tuple[Region, ...]:
    return tuple(
        Region(
            number=number,
            box_xywh=(one["x"], one["y"], one["width"], one["height"]),
            area=one["area"],
            peak_score=one["peak_score"],
        )
        for number, one in enumerate((row["regions"] or ())[:_MOST_BOXES], start=1)
    )


def _overlay(one: Pick, picture: Image.Image, regions: Sequence[Region], top: float) -> Image.Image:
    """Heat from 0 to `top`, the mask's outline, and the regions' boxes.

    Raises:  ValueError, CopsError: the row holds no map or mask, or the record does not say how a map is made.
    """
    row, model = one.row, one.run.record["model"]
    size, sigma = model.get("image_size"), model.get("sigma_px")
    if not isinstance(size, int) or not isinstance(sigma, int | float):
        raise InputError("the run's record does not say by which image_size and sigma_px its maps are made")
    heat = anomaly_map(
        masks.patch_grid(row), image_size=size, sigma_px=float(sigma), size_hw=(picture.height, picture.width)
    )
    drawn = heat_overlay(picture, heat, vmin=0.0, vmax=top)
    if row["pred_mask"] is not None:
        drawn = _outlined(drawn, _reduced(masks.decode(row), picture))
    scale = (picture.width / max(1, row["width"]), picture.height / max(1, row["height"]))
    _draw_boxes(drawn, regions, scale)
    return drawn


def _reduced(mask: masks.Mask, picture: Image.Image) -> npt.NDArray[np.bool_]:
    """The mask at the picture's size: a pixel is in it where any of it is, so that no region is lost."""
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BOX)
    return np.asarray(small) > 0


def _outlined(drawn: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    edge = ndimage.binary_dilation(outline(mask))
    pixels = np.array(drawn)
    pixels[edge] = OUTLINE_RGB
    return Image.fromarray(pixels)


def _draw_boxes(drawn: Image.Image, regions: Sequence[Region], scale: tuple[float, float]) -> None:
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(14)
    for region in reversed(regions):  # the first one on top
        x, y, width, height = region.box_xywh
        box = (x * scale[0] - 3, y * scale[1] - 3, (x + width) * scale[0] + 2, (y + height) * scale[1] + 2)
        box = (max(0.0, box[0]), max(0.0, box[1]), min(drawn.width - 1.0, box[2]), min(drawn.height - 1.0, box[3]))
        if box[0] >= box[2] or box[1] >= box[3]:
            continue  # a region outside of the picture, in a damaged row
        pen.rectangle(box, outline="black", width=3)
        pen.rectangle(box, outline="white", width=1)
        place = (box[0] + 4, box[1] - 17 if box[1] >= 18 else box[1] + 2)
        pen.text(place, str(region.number), fill="white", stroke_fill="black", stroke_width=2, font=font)


def _data_uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
