"""What the counts come to: a line for each group, and what somebody should look at."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.calibration import Calibration
from pipeline.report.changes import Change
from pipeline.report.drift import Drift, compare, judge
from pipeline.report.facts import OTHERS, Cell, Facts, Group
from pipeline.report.histograms import Counts
from pipeline.report.pictures import Shown
from pipeline.report.rates import Rate
from pipeline.report.window import Record, Window
from pipeline.report.words import counted, group_name, interval, listed, number, percent

SLOW_SHARE = 0.5  # of the trailing runs' median images/s
_SEEN_SHARE = 0.5  # of the trailing runs, that a group was in which is missed now
_LEAST_RUNS = 3
_LONGEST = 60  # letters of a group's name in a table


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """One group now and before.

    Args:    before: anomalies in the trailing runs that had the same threshold; of no images where none had.
             change: 1 where the rate is higher than that, -1 where lower, 0 where nothing can be said.
             drift: of its scores against those of all trailing runs.
    """

    group: Group
    name: str
    cell: Cell
    before: Rate
    change: int
    drift: Drift

    @property
    def short(self) -> str:
        """For a cell of a table; below its distribution it stands in full."""
        return self.name if len(self.name) <= _LONGEST else f"{self.name[:_LONGEST]}…"


@dataclass(frozen=True)
class Attention:
    """One sentence; an alert is something to act on, the rest is to be known."""

    text: str
    is_alert: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page and the terminal tell.

    Args:    lines: the groups of what is reported, the largest first.   total: all of them.
             missed: groups that the trailing runs had, and these have not.
             top, borderline: the pictures; colours go from 0 to `scale_top`.
    """

    window: Window
    facts: Facts
    lines: tuple[GroupLine, ...]
    total: GroupLine
    missed: tuple[str, ...]
    new: tuple[str, ...]
    changes: tuple[Change, ...]
    attention: tuple[Attention, ...]
    label_set: str
    calibration: Calibration | None = None
    top: tuple[Shown, ...] = ()
    borderline: tuple[Shown, ...] = ()
    scale_top: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def before_ids(self) -> tuple[str, ...]:
        return tuple(str(record["run_id"]) for record in self.window.before)

    @property
    def title(self) -> str:
        return ", ".join(self.window.run_ids)

    @property
    def model(self) -> str:
        return str(self.window.now[0]["model"].get("name"))

    @property
    def has_labels(self) -> bool:
        return self.total.cell.labelled > 0

    @property
    def quarantined(self) -> Rate:
        return quarantined(self.window.now)

    @property
    def images_per_s(self) -> float | None:
        return images_per_s(self.window.now)

    def reference(self, group: Group) -> Counts:
        """The scores that a group's are drawn against: those of the calibration, else of the trailing runs."""
        return (self.facts.calibration or self.facts.before)[group]


def group_lines(facts: Facts, window: Window) -> tuple[tuple[GroupLine, ...], GroupLine]:
    """A line for each group that is there now, and one for all of them together."""
    before = [str(record["run_id"]) for record in window.before]
    found: dict[Group | None, Drift] = {
        group: compare(facts.now[group], facts.before[group]) for group in facts.groups if group != OTHERS
    }
    found[None] = compare(sum(facts.now.values(), start=_none(facts)), sum(facts.before.values(), start=_none(facts)))
    judged = judge(found) | {OTHERS: Drift(images=0, before=0)}
    lines = tuple(
        _line(group, group_name(group, facts.by), facts, window.run_ids, before, judged[group])
        for group in facts.groups
        if facts.cell(group, window.run_ids).images
    )
    rate = sum((line.before for line in lines), Rate(0, 0))
    cell = facts.total(window.run_ids)
    comparable = all(line.before.whole for line in lines)
    total = GroupLine(
        group=OTHERS, name="all", cell=cell, before=rate if comparable else Rate(0, 0),
        change=_change(cell.rate, rate) if comparable else 0, drift=judged[None],
    )  # fmt: skip
    return lines, total


def _none(facts: Facts) -> Counts:
    first: Counts = next(iter(facts.now.values())) * 0
    return first


def _line(group: Group, name: str, facts: Facts, now: Sequence[str], before: Sequence[str], drift: Drift) -> GroupLine:
    cell = facts.cell(group, now)
    alike = [
        found.rate
        for run_id in before
        if (found := facts.cells.get((group, run_id))) and found.image_threshold == cell.image_threshold
    ]
    rate = sum(alike, Rate(0, 0)) if cell.labelled and group != OTHERS else Rate(0, 0)
    return GroupLine(group=group, name=name, cell=cell, before=rate, change=_change(cell.rate, rate), drift=drift)


def _change(now: Rate, before: Rate) -> int:
    return now.changed_from(before) if now.whole and before.whole else 0


def missed_groups(facts: Facts, window: Window) -> tuple[str, ...]:
    """Groups that at least half of the trailing runs had, and none of these has."""
    before = [str(record["run_id"]) for record in window.before]
    missed = []
    for group in facts.groups:
        runs = sum((group, run_id) in facts.cells for run_id in before)
        if group != OTHERS and not facts.cell(group, window.run_ids).images and runs >= _SEEN_SHARE * len(before):
            missed.append(group_name(group, facts.by))
    return tuple(missed)


def new_groups(facts: Facts, window: Window) -> tuple[str, ...]:
    """Groups that no trailing run had; none where there are no trailing runs."""
    before = [str(record["run_id"]) for record in window.before]
    return tuple(
        group_name(group, facts.by)
        for group in facts.groups
        if before and group != OTHERS and not facts.cell(group, before).images
    )


def quarantined(records: Sequence[Record]) -> Rate:
    """Of what was planned."""
    counts = [record["counts"] for record in records]
    return Rate(sum(one.get("quarantined", 0) for one in counts), sum(one.get("planned", 0) for one in counts))


def images_per_s(records: Sequence[Record]) -> float | None:
    """Of several runs one after another; None where nothing was scored, or the record does not tell."""
    told = [(record["counts"].get("scored") or 0, record.get("images_per_s")) for record in records]
    seconds = sum(scored / rate for scored, rate in told if rate)
    return sum(scored for scored, rate in told if rate) / seconds if seconds else None


def usual_rate(window: Window) -> float | None:
    """The trailing runs' median images/s; None for fewer than three."""
    rates = [rate for record in window.before if (rate := images_per_s([record])) is not None]
    return statistics.median(rates) if len(rates) >= _LEAST_RUNS else None


def attention(report: Report) -> tuple[Attention, ...]:
    """What somebody should look at or know, alerts first."""
    found = [*_alerts(report), *_remarks(report)]
    return tuple(sorted(found, key=lambda one: not one.is_alert))


def _alerts(report: Report) -> list[Attention]:
    window, lines = report.window, report.lines
    told = []
    if higher := [line for line in lines if line.change > 0]:
        names = [
            f"{line.name} ({percent(line.cell.rate.share)}, before {percent(line.before.share)})" for line in higher
        ]
        told.append(f"Anomaly rate higher than before: {listed(names)}.")
    elif report.total.change > 0:
        shares = [percent(rate.share) for rate in (report.total.cell.rate, report.total.before)]
        told.append(f"Anomaly rate higher than before over all images: {shares[0]}, before {shares[1]}.")
    if drifted := [line.name for line in lines if line.drift.is_flagged]:
        told.append(f"Scores have drifted: {listed(drifted)}.")
    if report.total.drift.is_flagged:
        told.append("The scores of all images together have drifted.")
    bad, before = report.quarantined, quarantined(window.before)
    if before.whole and bad.whole and bad.changed_from(before) > 0:
        told.append(f"More images in quarantine than before: {percent(bad.share)}, before {percent(before.share)}.")
    if report.missed:
        told.append(f"Not seen this time: {listed(report.missed)}.")
    usual, rate = usual_rate(window), report.images_per_s
    if usual and rate and rate < SLOW_SHARE * usual:
        told.append(f"Slow: {number(rate)} images/s; the median of the trailing runs is {number(usual)}.")
    told += [f"Warning of run {record['run_id']}: {text}" for record in window.now for text in _warnings(record)]
    return [Attention(text, is_alert=True) for text in told]


def _warnings(record: Record) -> list[str]:
    told = record.get("warnings")
    return [str(one) for one in told] if isinstance(told, list) else []


def _remarks(report: Report) -> list[Attention]:
    window, cell = report.window, report.total.cell
    told = []
    if cell.images and not cell.labelled:
        told.append("No thresholds: no image is called normal or anomalous. The scores stand for themselves.")
    elif cell.labelled < cell.images:
        told.append(f"{counted(cell.images - cell.labelled, 'image')} without a threshold, and so without a label.")
    if cell.finite < cell.images:
        told.append(f"{counted(cell.images - cell.finite, 'score')} not finite, and in no figure.")
    if lower := [f"{line.name} ({percent(line.cell.rate.share)})" for line in report.lines if line.change < 0]:
        told.append(f"Anomaly rate lower than before: {listed(lower)}.")
    if report.new:
        told.append(f"New, in no trailing run: {listed(report.new)}.")
    if report.has_labels and window.before and any(not line.before.whole for line in report.lines):
        told.append("Some groups had no image or another threshold before: their rates are not compared.")
    if window.previous and window.previous["model_id"] != window.model_id:
        told.append("The run before was of another model: scores are not compared with it.")
    if not window.before:
        told.append("No earlier run of this model: nothing to compare with.")
    return [Attention(text, is_alert=False) for text in (*told, *report.notes)]


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
    flagged = sum(line.drift.is_flagged for line in report.lines)
    tested = sum(line.drift.psi is not None for line in report.lines)
    told["drifted"] = (f"{flagged:,}" if tested else "–", f"of {counted(tested, 'group')} tested")
    return told
