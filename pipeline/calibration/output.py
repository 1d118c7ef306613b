"""A calibration as the table that `--thresholds` takes, and as what its starter reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cops.shown import shown
from pipeline.calibration.calibrate import Calibration, GroupLevels, calibrate
from pipeline.calibration.config import CalibrateConfig
from pipeline.calibration.levels import Level
from pipeline.failures import as_run_errors
from pipeline.storage import open_root, write_atomic
from pipeline.store_errors import with_patience
from pipeline.thresholds import VERSION

_MOST_SHOWN = 40


@dataclass(frozen=True)
class Written:
    """The summary, and where the table is."""

    text: str
    uri: str


def calibrate_and_write(config: CalibrateConfig, *, save: str | None) -> Written:
    """Calibrate, write the table (by default into `thresholds/` of the output), and say what it holds.

    Raises what `calibrate` raises.
    """
    place = open_root(save) if save else None  # a place that cannot be is told of before the work
    found = calibrate(config)
    if place is None:
        output = open_root(config.output)
        at = found.at.strftime("%Y-%m-%dT%H-%M-%SZ")
        place = type(output)(output.fs, output.join("thresholds", f"thresholds-{at}.parquet"))
    data = io.BytesIO()
    pq.write_table(as_table(found), data, compression="zstd")
    with as_run_errors("The same command may be given again", what="the thresholds are not written"):
        with_patience(lambda: write_atomic(place.fs, place.path, data.getvalue()), place.uri())
    return Written(as_text(found, place.uri()), place.uri())


def as_table(found: Calibration) -> pa.Table:
    """A row for each group, and one with no group for every other: the pooled thresholds."""
    config = found.config
    keys = [name for name in config.by if name != "category"]
    constant = {
        "version": VERSION,
        "model_id": found.model_id,
        "group_by": list(config.by),
        "run_ids": list(found.run_ids),
        "chosen": config.where,
        "labels": config.labels,
        "calibrated_at": found.at,
    }
    rows = [constant | _row(found, one) for one in found.levels]
    return pa.Table.from_pylist(rows, _schema(found, keys))


def _row(found: Calibration, one: GroupLevels) -> dict[str, Any]:
    config = found.config
    group = one.group if one.group is not None else (None,) * len(config.by)
    row = dict(zip(config.by, group, strict=True))
    for what, level, rate in (("image", one.image, config.image_rate), ("pixel", one.pixel, config.pixel_rate)):
        by_f1 = level.f1 is not None or (config.labels is not None and what == "image")
        row |= {
            f"{what}_threshold": level.found.value,
            f"{what}_threshold_low": level.found.low,
            f"{what}_threshold_high": level.found.high,
            f"{what}_source": level.source,
            f"{what}_rate_target": None if by_f1 or level.source == "none" else rate,
            f"{what}_rate_low": level.found.rate_low,
            f"{what}_rate_high": level.found.rate_high,
            f"{what}_f1": level.f1,
        }
    return row | {
        "num_images": one.image.images,
        "num_flagged": one.image.flagged,
        "image_rule": "images" if config.labels is None else "f1_max",
        "pixel_rule": found.pixel_rule,
        "num_map_images": one.pixel.images,
        "num_map_flagged": one.pixel.flagged,
    }


def _schema(found: Calibration, keys: list[str]) -> pa.Schema:
    groups = [one.group for one in found.levels if one.group is not None]
    of_keys = [
        (name, pa.array([group[found.config.by.index(name)] for group in groups]).type if groups else pa.string())
        for name in keys
    ]
    fields: list[tuple[str, pa.DataType]] = [
        ("version", pa.int32()),
        ("model_id", pa.string()),
        ("group_by", pa.list_(pa.string())),
        ("category", pa.string()),
        *of_keys,
    ]
    for what, count, flagged in (
        ("image", "num_images", "num_flagged"),
        ("pixel", "num_map_images", "num_map_flagged"),
    ):
        fields += [(f"{what}_threshold{end}", pa.float64()) for end in ("", "_low", "_high")]
        fields += [(f"{what}_rule", pa.string()), (f"{what}_source", pa.string())]
        fields += [(f"{what}_rate_{end}", pa.float64()) for end in ("target", "low", "high")]
        fields += [(f"{what}_f1", pa.float64()), (count, pa.int64()), (flagged, pa.int64())]
    fields += [("run_ids", pa.list_(pa.string())), ("chosen", pa.string()), ("labels", pa.string())]
    return pa.schema([*fields, ("calibrated_at", pa.timestamp("us", tz="UTC"))])


def as_text(found: Calibration, uri: str) -> str:
    """What was found, group by group, and what to do with it."""
    config, pooled = found.config, found.levels[0]
    taken = f"labelled by {shown(config.labels)}" if config.labels else "taken as normal"
    runs = ", ".join(found.run_ids)
    lines = [
        f"{pooled.image.images:,} images of {runs}, {taken}"
        + (f", where {shown(config.where)}" if config.where else "")
    ]
    lines += [f"Model {shown(str(found.model.get('name')))}, {found.model_id}", ""]
    lines += [*_levels(found), ""]
    fallen = [one for one in found.levels[1:] if one.image.source == "pooled"]
    if fallen:
        lines += [
            f"{len(fallen):,} of {len(found.levels) - 1:,} groups have too few images: they take the pooled threshold."
        ]
    if none := [one for one in found.levels if one.image.found.value is None]:
        lines += [f"WARNING: no threshold holds the rate in {len(none):,} groups: too many normal images score 1."]
    lines += [f"WARNING: {text}" for text in found.warnings]
    return "\n".join(
        [
            *lines,
            f"Written: {uri}",
            f"Use it: jobs/score.py --thresholds {uri}, or jobs/label.py for a run that is committed",
        ]
    )


def _levels(found: Calibration) -> Iterator[str]:
    names = ["pooled" if one.group is None else " / ".join(_name(value) for value in one.group) for one in found.levels]
    width = min(32, max(map(len, ["group", *names])))
    header = f"{'image threshold':<29}{'false alarms':<16}{'images':>8}  {'pixel threshold':<29}{'maps':>8}"
    yield f"  {'group':<{width}}  {header}"
    for name, one in list(zip(names, found.levels, strict=True))[:_MOST_SHOWN]:
        image, pixel = one.image, one.pixel
        share = "" if image.found.rate_low is None else f"{image.found.rate_low:.2%} – {image.found.rate_high:.2%}"
        told = f"{_interval(image):<29}{share:<16}{image.images:>8,}  {_interval(pixel):<29}{pixel.images:>8,}"
        yield f"  {name[:width]:<{width}}  {told}"
    if len(names) > _MOST_SHOWN:
        yield f"  … and {len(names) - _MOST_SHOWN:,} more: all are in the table"


def _interval(level: Level) -> str:
    if level.found.value is None:
        return "none"
    low, high = ("?" if end is None else _digits(end) for end in (level.found.low, level.found.high))
    return f"{_digits(level.found.value)} ({low} – {high})" + ("*" if level.source == "pooled" else "")


def _digits(value: float) -> str:
    """Four decimals; of a small number its first digits."""
    return f"{value:.4f}" if value >= 0.001 or value == 0 else f"{value:.2g}"


def _name(value: Any) -> str:
    return "(none)" if value is None else shown(str(value))
