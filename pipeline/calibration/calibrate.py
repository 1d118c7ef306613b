"""One calibration: choose committed scores → thresholds of images → thresholds of pixels."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.calibration.config import CalibrateConfig
from pipeline.calibration.images import Group, choose, groups
from pipeline.calibration.levels import Level, Levels, from_pooled, image_levels
from pipeline.calibration.pixels import pixel_levels, pixel_rule
from pipeline.errors import InputError
from pipeline.failures import as_run_errors
from pipeline.layout import RunLayout, check_run_id
from pipeline.runs import latest_record, record_of
from pipeline.thresholds import scoring_rules
from pipeline.views import open_views


@dataclass(frozen=True, kw_only=True)
class GroupLevels:
    """A group's two thresholds; the pooled ones have no group. Images of no category are a group like any other."""

    group: Group | None
    image: Level
    pixel: Level


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What came of it: the pooled thresholds first.

    Args:    model: what the runs' records say of their model.   decode: as of `scoring_rules`.
             masks: what there is to be told of masks that could not be used.
    """

    config: CalibrateConfig
    run_ids: tuple[str, ...]
    model_id: str
    model: Mapping[str, Any]
    decode: str
    pixel_rule: str
    levels: Sequence[GroupLevels]
    at: datetime.datetime
    warnings: Sequence[str] = field(default_factory=list)
    masks: Sequence[str] = ()


def calibrate(config: CalibrateConfig) -> Calibration:
    """Thresholds for the model of some committed runs, from their scores; nothing is written.

    Raises:  InputError: there are no such runs, they are of several models or decoded by several rules, no image is
             chosen, or too few for the rates; masks cannot be read.
             RunError: a store or Ray failed; it may be tried again.
    """
    with as_run_errors("Nothing is written; the same command may be given again", what="the calibration stopped"):
        records = _records(config)
        first, run_ids = records[0], tuple(str(record["run_id"]) for record in records)
        with open_views(config.output, run_ids) as sql:
            choose(sql, by=config.by, where=config.where, labels=config.labels)
            several = groups(sql, config.by, labelled=config.labels is not None)
            if not several:
                raise InputError(
                    f"no image of {', '.join(run_ids)}" + (" fits --where" if config.where else " is scored")
                )
            of_images = image_levels(config, several)
            rule = pixel_rule(config, frozenset(row[0] for row in sql.execute("DESCRIBE scores").fetchall()))
            of_pixels: Levels = {None: Level()}
            masks: Sequence[str] = ()
            if rule != "none":
                of_pixels, masks = pixel_levels(config, sql, records, rule)
    keys: list[Group | None] = [None, *(one.group for one in several)]
    others = from_pooled(of_pixels[None], Level())
    return Calibration(
        config=config,
        run_ids=run_ids,
        model_id=first["model_id"],
        model=first["model"],
        decode=scoring_rules(first["config"]["decode"]),
        pixel_rule=rule,
        levels=[GroupLevels(group=key, image=of_images[key], pixel=of_pixels.get(key, others)) for key in keys],
        at=datetime.datetime.now(datetime.UTC),
        warnings=list(dict.fromkeys(text for record in records for text in record.get("warnings", []))),
        masks=masks,
    )


def _records(config: CalibrateConfig) -> list[dict[str, Any]]:
    """Of the runs that are asked for, the last one where none is.

    Raises:  InputError: they are of several models or rules; the scores of one mean nothing beside those of another.
    """
    run_ids = config.run_ids or (str(latest_record(config.output)["run_id"]),)
    layouts = [RunLayout.at(config.output, check_run_id(run_id)) for run_id in dict.fromkeys(run_ids)]
    records = [record_of(layout) for layout in layouts]
    told_apart: tuple[tuple[str, Callable[[dict[str, Any]], Any]], ...] = (
        ("model", lambda record: record["model_id"]),
        ("rules of decoding", lambda record: scoring_rules(record["config"]["decode"])),
    )
    for what, of in told_apart:
        if other := next((record for record in records if of(record) != of(records[0])), None):
            raise InputError(
                f"expected runs with the same {what}, got {of(records[0])} in {records[0]['run_id']} and "
                f"{of(other)} in {other['run_id']}: their scores mean nothing beside each other"
            )
    return records
