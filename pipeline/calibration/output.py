"""A calibration as the table that `--thresholds` takes, and as what its starter reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cops.shown import shown
from pipeline.calibration.calibrate import Calibration, GroupLevels, calibrate
from pipeline.calibration.columns import AFTER, BEFORE
from pipeline.calibration.config import CalibrateConfig
from pipeline.calibration.levels import Level
from pipeline.errors import InputError
from pipeline.failures import as_run_errors
from pipeline.storage import Root, open_root, write_atomic
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

    Raises:  InputError: `save` cannot be a file of Parquet, which is told of before the work; and what `calibrate`
             raises.
    """
    place = _place(save) if save is not None else None
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


def _place(save: str) -> Root:
    root = open_root(save)
    if save.endswith("/") or (root.is_local and Path(root.path).is_dir()):
        raise InputError(f"--save: expected the name of a file, got the folder {root.uri()}")
    if not root.path.endswith(".parquet") or root.path.endswith("/.parquet"):
        raise InputError(f"--save: expected the name of a file that ends in .parquet, got {root.uri()}")
    return root


def as_table(found: Calibration) -> pa.Table:
    """A row for each group, and the pooled one, which is for every other."""
    config = found.config
    constant = {
        "version": VERSION,
        "model_id": found.model_id,
        "decode": found.decode,
        "group_by": list(config.by),
        "run_ids": list(found.run_ids),
        "chosen": config.where,
        "labels": config.labels,
        "calibrated_at": found.at,
    }
    rows = [constant | _row(found, one) for one in found.levels]
    return pa.Table.from_pylist(rows, _schema(found))


def _row(found: Calibration, one: GroupLevels) -> dict[str, Any]:
    config = found.config
    group = one.group if one.group is not None else (None,) * len(config.by)
    row = dict(zip(config.by, group, strict=True)) | {"is_pooled": one.group is None}
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


def _schema(found: Calibration) -> pa.Schema:
    by = found.config.by
    groups = [one.group for one in found.levels if one.group is not None]
    keys = {name: pa.array([group[at] for group in groups]).type for at, name in enumerate(by)}
    keys["category"] = pa.string()
    return pa.schema([*BEFORE, *((name, keys[name]) for name in dict.fromkeys(("category", *by))), *AFTER])


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
    lines += [*_levels(found), "", *_fallen(found)]
    if none := [one for one in found.levels if one.image.found.value is None]:
        lines += [f"WARNING: no threshold holds the rate in {len(none):,} groups: too many normal images score 1."]
    lines += [f"WARNING: {text}" for text in (*_of_low_f1(found), *map(shown, found.masks), *found.warnings)]
    return "\n".join(
        [
            *lines,
            f"Written: {uri}",
            f"Use it: jobs/score.py --thresholds {uri}, or jobs/label.py for a run that is committed",
        ]
    )


def _fallen(found: Calibration) -> Iterator[str]:
    """Which thresholds are the pooled ones; the table marks them with a star."""
    if any(level.source == "pooled" for one in found.levels for level in (one.image, one.pixel)):
        yield "* the pooled threshold: that of all chosen images together, each picture once"
    for what in ("image", "pixel"):
        fallen = [one for one in found.levels[1:] if getattr(one, what).source == "pooled"]
        if fallen:
            images = "images" if what == "image" else "maps"
            yield (
                f"{len(fallen):,} of {len(found.levels) - 1:,} groups have too few {images} for {what} thresholds of "
                "their own: they take the pooled one."
            )


def _of_low_f1(found: Calibration) -> Iterator[str]:
    """Pixels, of which few are anomalous, have a lower F1 in any case."""
    for what, least in (("image", 0.5), ("pixel", 0.2)):
        own = [(one, getattr(one, what)) for one in found.levels]
        low = [(level.f1, _group(one)) for one, level in own if level.f1 is not None and level.f1 < least]
        if low:
            f1, group = min(low)
            yield (
                f"F1 of the {what} threshold is below {least:g} in {len(low):,} groups, {f1:.2f} in {group}: scores "
                "and labels hardly agree"
            )


def _levels(found: Calibration) -> Iterator[str]:
    names = [_group(one) for one in found.levels]
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


def _group(one: GroupLevels) -> str:
    return "pooled" if one.group is None else " / ".join(_name(value) for value in one.group)


def _name(value: Any) -> str:
    return "(none)" if value is None else shown(str(value))
