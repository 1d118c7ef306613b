"""A report from beginning to end: read, count, draw, write one file, say what it says."""

from __future__ import annotations

import datetime
import logging
from dataclasses import replace

from pipeline.errors import InputError
from pipeline.label_sets import OWN
from pipeline.report.calibration import Calibration, read_calibration, table_of
from pipeline.report.changes import changes
from pipeline.report.config import ReportConfig
from pipeline.report.facts import gather
from pipeline.report.findings import Report, attention, group_lines, missed_groups, new_groups
from pipeline.report.page import page
from pipeline.report.picks import pick
from pipeline.report.pictures import draw, scale_top, without_pictures
from pipeline.report.text import terminal_text
from pipeline.report.window import Window, find_window
from pipeline.runs import Run, open_run
from pipeline.storage import Root, open_root, redact, write_atomic
from pipeline.store_errors import with_patience
from pipeline.thresholds import read_thresholds

_LONGEST_NAME = 120  # of a file

log = logging.getLogger(__name__)


def report_and_write(config: ReportConfig) -> str:
    """Make the page and write it; what the terminal says, and where the page is.

    Raises:  InputError: there is no such run, label set or column, or the thresholds are another model's.
    """
    window = find_window(config.output, config.run_ids, config.trailing)
    place = _place(config, window)
    made = make_report(config, window)
    data = page(made, at=datetime.datetime.now(datetime.UTC)).encode()
    uri = place.uri(place.path)
    with_patience(lambda: write_atomic(place.fs, place.path, data), uri)
    return f"{terminal_text(made)}\n\nPage: {uri} ({len(data) / 1e6:.1f} MB)"


def make_report(config: ReportConfig, window: Window) -> Report:
    label_set = config.label_set or OWN
    runs = [open_run(config.output, run_id, label_set=label_set) for run_id in window.run_ids]
    calibration, notes = _calibration(config, window, runs)
    facts = gather(config.output, window, by=config.by, label_set=config.label_set, calibration=calibration)
    lines, total = group_lines(facts, window)
    picked = pick(runs, top=config.top, borderline=config.borderline, labelled=total.cell.labelled > 0, by=config.by)
    both = [*picked.top, *picked.borderline]
    top_of_scale = scale_top(both)
    shown = draw(both, top=top_of_scale) if config.pictures else without_pictures(both)
    made = Report(
        window=window, facts=facts, lines=lines, total=total, missed=missed_groups(facts, window),
        new=new_groups(facts, window), attention=(), label_set=label_set, calibration=calibration,
        changes=changes(window.now[-1], window.previous) if window.previous else (),
        top=tuple(shown[: len(picked.top)]), borderline=tuple(shown[len(picked.top) :]), scale_top=top_of_scale,
        notes=(*notes, *(f"Left out, its record cannot be read: {told}" for told in window.unreadable)),
    )  # fmt: skip
    return replace(made, attention=attention(made))


def _calibration(config: ReportConfig, window: Window, runs: list[Run]) -> tuple[Calibration | None, list[str]]:
    """The table that is given; else that which the labels were made by, where it is there and still the same."""
    if config.thresholds is not None:
        given = read_calibration(config.thresholds, window, config.output)
        return given, list(given.notes)
    tables = {table_of(run.labels or run.record["config"]) for run in runs}
    (own,) = tables if len(tables) == 1 else (None,)
    if own is None:
        return None, []
    uri, digest = own
    try:
        if read_thresholds(uri, window.model_id).digest != digest:
            return None, [f"The thresholds of these labels, {redact(uri)}, are others by now: no calibration is shown."]
        found = read_calibration(uri, window, config.output)
    except (InputError, OSError) as exc:
        return None, [f"The thresholds of these labels cannot be read, so no calibration is shown: {exc}"]
    return found, list(found.notes)


def _place(config: ReportConfig, window: Window) -> Root:
    """Where the page goes.

    Raises:  InputError: --save names a folder.
    """
    if config.save is None:
        root = open_root(config.output)
        name = "+".join(window.run_ids)
        name = name if len(name) <= _LONGEST_NAME else f"{window.run_ids[0][:_LONGEST_NAME]}+{len(window.run_ids) - 1}"
        return Root(root.fs, root.join("reports", f"{name}.html"))
    place = open_root(config.save)
    if config.save.endswith("/") or with_patience(lambda: place.fs.isdir(place.path), place.uri()):
        raise InputError(f"--save: expected the name of a file, got a folder: {redact(config.save)}")
    return place
