"""What somebody should look at or know, in sentences; and the few figures at the top."""

from __future__ import annotations

import statistics

from pipeline.report.cells import OTHERS
from pipeline.report.drift import MIN_IMAGES
from pipeline.report.findings import Attention, Report, images_per_s
from pipeline.report.rate_change import MIN_NOW, MIN_RUNS, RateChange
from pipeline.report.rates import Rate
from pipeline.report.window import Record, Window
from pipeline.report.words import NOTHING, counted, interval, listed, number, percent

SLOW_SHARE = 0.5  # of the trailing runs' median images/s
_LEAST_RUNS = 3


def usual_rate(window: Window) -> float | None:
    """The trailing runs' median images/s; None for fewer than three."""
    rates = [rate for record in window.before if (rate := images_per_s([record])) is not None]
    return statistics.median(rates) if len(rates) >= _LEAST_RUNS else None


def attention(report: Report) -> tuple[Attention, ...]:
    """What somebody should look at or know, alerts first."""
    found = [*_alerts(report), *_remarks(report)]
    return tuple(sorted(found, key=lambda one: not one.is_alert))


def all_quiet(report: Report) -> str | None:
    """What is said where there were runs to compare with, and no rule was met."""
    if not report.window.before or any(one.is_alert for one in report.attention):
        return None
    return "Nothing that can be told from chance: by the rules below, nothing is other than in the trailing runs."


def _alerts(report: Report) -> list[Attention]:
    window, lines = report.window, report.lines
    told = [] if report.total.cell.images else ["No image was scored."]
    if higher := [f"{line.name} ({_beside(line.rates)})" for line in lines if line.change > 0]:
        told.append(f"Anomaly rate higher than before: {listed(higher)}.")
    elif report.total.change > 0:
        told.append(f"Anomaly rate higher than before over all images: {_beside(report.total.rates)}.")
    if drifted := [line.name for line in lines if line.drift.is_flagged]:
        told.append(f"Scores have drifted: {listed(drifted)}.")
    if report.total.drift.is_flagged:
        told.append("The scores of all images together have drifted.")
    if (bad := report.quarantine_change).direction > 0:
        told.append(f"More images in quarantine than before: {_beside(bad)}.")
    if report.missed:
        told.append(f"Not seen this time: {listed(report.missed)}.")
    usual, rate = usual_rate(window), report.images_per_s
    if usual and rate and rate < SLOW_SHARE * usual:
        told.append(f"Slow: {number(rate)} images/s; the median of the trailing runs is {number(usual)}.")
    told += [f"Warning of run {record['run_id']}: {text}" for record in window.now for text in _warnings(record)]
    return [Attention(text, is_alert=True) for text in told]


def _beside(rates: RateChange) -> str:
    return f"{percent(rates.now.share)}, before {percent(rates.before)}"


def _warnings(record: Record) -> list[str]:
    told = record.get("warnings")
    return [str(one) for one in told] if isinstance(told, list) else []


def _remarks(report: Report) -> list[Attention]:
    told = [*_of_labels(report), *_of_comparing(report)]
    return [Attention(text, is_alert=False) for text in (*told, *report.notes)]


def _of_labels(report: Report) -> list[str]:
    cell, told = report.total.cell, []
    if cell.images and not cell.labelled:
        told.append("No thresholds: no image is called normal or anomalous. The scores stand for themselves.")
    elif cell.labelled < cell.images:
        told.append(f"{counted(cell.images - cell.labelled, 'image')} without a threshold, and so without a label.")
    if cell.finite < cell.images:
        told.append(f"{counted(cell.images - cell.finite, 'score')} not finite, and in no figure.")
    return told


def _of_comparing(report: Report) -> list[str]:
    window, told = report.window, []
    if lower := [f"{line.name} ({_beside(line.rates)})" for line in report.lines if line.change < 0]:
        told.append(f"Anomaly rate lower than before: {listed(lower)}.")
    if report.new:
        told.append(f"New, in no trailing run: {listed(report.new)}.")
    if report.mix:
        told.append(f"Another mix than before: {report.mix}. “all” is held against the earlier images of this mix.")
    told += report.uncompared
    if 0 < len(window.before) < MIN_RUNS and report.has_labels:
        told.append(
            f"Fewer than {MIN_RUNS} trailing runs: by how much nights differ anyway is not known, and a rate may be "
            "called higher or lower for no other reason."
        )
    told += _too_small(report)
    if window.previous[0] and window.previous[0]["model_id"] != window.model_id:
        told.append("The run before was of another model: scores are not compared with it.")
    if window.left_out:
        told.append(
            f"Not compared with evaluations and calibration sets: {listed(window.left_out)} (--compare-with would)."
        )
    if not window.before:
        told.append(f"{window.nothing_before}: nothing to compare with.")
    return told


def _too_small(report: Report) -> list[str]:
    """What was there before, and is of too few images to say anything of."""
    known = [line for line in report.lines if report.window.before and line.name not in report.new]
    of_scores = [line.name for line in known if line.group != OTHERS and line.drift.psi is None]
    of_rates = [line.name for line in known if line.rates.before is not None and line.rates.p is None]
    told = []
    if of_scores:
        told.append(f"Fewer than {MIN_IMAGES} images now or before, so not tested for drift: {listed(of_scores)}.")
    if of_rates:
        told.append(f"Fewer than {MIN_NOW} images, so their rates are not tested: {listed(of_rates)}.")
    return told


def headline(report: Report) -> dict[str, tuple[str, str]]:
    """The few figures: name → value, and what stands below it."""
    cell, rate, bad = report.total.cell, report.total.cell.rate, report.quarantined
    good = Rate(rate.whole - rate.part, rate.whole)
    told = {"images scored": (f"{cell.images:,}", counted(len(report.lines), "group"))}
    if report.has_labels:
        told["yield"] = (percent(good.share), f"interval {interval(good)}")
        told["anomalies"] = (f"{rate.part:,}", f"{percent(rate.share)} of {rate.whole:,}")
    told["in quarantine"] = (f"{bad.part:,}", f"{percent(bad.share)} of {bad.whole:,} planned")
    usual = usual_rate(report.window)
    below = f"median before: {number(usual)}" if usual else counted(len(report.window.now), "run")
    told["images/s"] = (number(report.images_per_s), below)
    told["drifted"] = _drifted(report)
    return told


def _drifted(report: Report) -> tuple[str, str]:
    tested = [line for line in report.lines if line.drift.psi is not None]
    flagged = sum(line.drift.is_flagged for line in tested)
    if report.total.drift.psi is None:
        return NOTHING, "too few images to test" if report.window.before else "nothing to compare with"
    together = "yes" if report.total.drift.is_flagged else "no"
    return f"{flagged:,}", f"of {counted(len(tested), 'group')} tested; all together: {together}"
