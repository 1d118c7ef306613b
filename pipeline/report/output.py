"""A report from beginning to end: read, count, draw, write one file, say what it says."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from pipeline.errors import InputError
from pipeline.label_sets import OWN, read_label_set
from pipeline.layout import RunLayout
from pipeline.report.attention import attention
from pipeline.report.calibration import Calibration, read_calibration, table_of
from pipeline.report.changes import Changed, changed, with_labels
from pipeline.report.config import ReportConfig
from pipeline.report.facts import gather
from pipeline.report.findings import Report, group_lines, missed_groups, mix, new_groups, uncompared
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
    window = find_window(config.output, config.run_ids, config.trailing, compare_with=config.compare_with)
    place = _place(config, window)
    made = make_report(config, window)
    data = page(made, at=datetime.datetime.now(datetime.UTC)).encode()
    uri = place.uri(place.path)
    with_patience(lambda: write_atomic(place.fs, place.path, data), uri)
    return f"{terminal_text(made)}\n\nPage: {uri} ({len(data) / 1e6:.1f} MB)"


def make_report(config: ReportConfig, window: Window) -> Report:
    runs = [open_run(config.output, run_id, label_set=config.label_set or OWN) for run_id in window.run_ids]
    calibration, notes = _calibration(config, window, runs)
    window = _without_calibration_sets(config, window, calibration)
    facts = gather(config.output, window, by=config.by, label_set=config.label_set, calibration=calibration)
    lines, total = group_lines(facts, window)
    picked = pick(runs, facts, top=config.top, borderline=config.borderline, labelled=total.cell.labelled > 0)
    both = [*picked.top, *picked.borderline]
    top_of_scale = scale_top(both, total.cell.pixel_threshold)
    shown = draw(both, top=top_of_scale) if config.pictures else without_pictures(both)
    made = Report(
        window=window, facts=facts, lines=lines, total=total, missed=missed_groups(facts, window),
        new=new_groups(facts, window), attention=(), label_set=config.label_set or OWN, calibration=calibration,
        changes=_changes(window, runs), uncompared=uncompared(facts, window), mix=mix(facts, window),
        top=tuple(shown[: len(picked.top)]), borderline=tuple(shown[len(picked.top) :]), scale_top=top_of_scale,
        notes=(*notes, *(f"Left out, its record cannot be read: {told}" for told in window.unreadable)),
    )  # fmt: skip
    return replace(made, attention=attention(made))


def _without_calibration_sets(config: ReportConfig, window: Window, calibration: Calibration | None) -> Window:
    """Images that were chosen as normal are no night to compare with, unless --compare-with names them."""
    own = calibration.own_runs if calibration and config.compare_with is None else ()
    if not set(own) & {*window.before_ids, *(str(record["run_id"]) for record in window.previous if record)}:
        return window
    return find_window(config.output, window.run_ids, config.trailing, left_out=own)


def _changes(window: Window, runs: Sequence[Run]) -> tuple[Changed, ...]:
    """Each reported run beside the one before it, with what their labels of one name were made by."""
    found = []
    for run, record, before in zip(runs, window.now, window.previous, strict=True):
        labels = None
        if run.labels and before:
            with contextlib.suppress(InputError):  # damaged, or of a run that was discarded: as if there were none
                labels = read_label_set(RunLayout(run.layout.root, str(before["run_id"])), run.label_set, before)
        found.append(changed(with_labels(record, run.labels), with_labels(before, labels) if before else None))
    return tuple(found)


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
        return Root(root.fs, root.join("reports", f"{_name(window.run_ids, config.label_set or OWN)}.html"))
    place = open_root(config.save)
    if config.save.endswith("/") or with_patience(lambda: place.fs.isdir(place.path), place.uri()):
        raise InputError(f"--save: expected the name of a file, got a folder: {redact(config.save)}")
    return place


def _name(run_ids: Sequence[str], label_set: str) -> str:
    """Of the page: each choice of runs and each label set has its own."""
    name = "+".join(run_ids) + ("" if label_set == OWN else f"@{label_set}")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{run_ids[0][:_LONGEST_NAME]}+{len(run_ids) - 1}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
