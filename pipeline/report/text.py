"""The same for a terminal, in short."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cops.shown import shown
from pipeline.report.attention import all_quiet, headline
from pipeline.report.changes import Changed
from pipeline.report.drift import DRIFT_RULE
from pipeline.report.findings import GroupLine, Report
from pipeline.report.pictures import Shown
from pipeline.report.rate_change import RATE_RULE
from pipeline.report.words import NOTHING, group_name, interval, p_value, percent, score

_GROUPS, _PICTURES, _CHANGES = 20, 10, 10
_NAME, _WIDTH = 28, 100


def terminal_text(report: Report) -> str:
    """Figures, what to look at, groups, quarantine, drift, the highest scores, what changed."""
    sections = [_head(report), _attention(report), _groups(report), _drift(report), _quarantine(report), _top(report)]
    return "\n\n".join("\n".join(lines) for lines in (*sections, _changes(report)) if lines)


def _head(report: Report) -> list[str]:
    lines = [f"Report on {report.title}, model {shown(report.model)}; labels: {_labels(report)}"]
    return [*lines, *(f"  {name:<14} {figure:>12}   {below}" for name, (figure, below) in headline(report).items())]


def _labels(report: Report) -> str:
    if not report.has_labels:
        return "none"
    return "the run's own" if report.label_set == "run" else f"label set {report.label_set}"


def _attention(report: Report) -> list[str]:
    marks = {True: "!", False: "-"}
    lines = [f"  {marks[one.is_alert]} {shown(one.text)}" for one in report.attention]
    quiet = all_quiet(report)
    return [*([f"  {quiet}"] if quiet else []), *lines]


def _groups(report: Report) -> list[str]:
    name = _cell(" · ".join(report.facts.by))
    if not report.has_labels:
        rows = [
            f"  {_cell(line.name)} {line.cell.images:>10,} {score(line.cell.mean_score):>11}" for line in _first(report)
        ]
        return [f"  {name} {'images':>10} {'mean score':>11}", *rows, *_left(len(report.lines), _GROUPS)]
    head = f"  {name} {'images':>10} {'anomalies':>10} {'rate':>8}  {'95 % interval':<20} {'before':>8}"
    rows = [_group_line(line) for line in (*_first(report), report.total)]
    return [head, *rows, *_left(len(report.lines), _GROUPS), *_wrapped(RATE_RULE)]


def _first(report: Report) -> Sequence[GroupLine]:
    return report.lines[:_GROUPS]


def _group_line(line: GroupLine) -> str:
    cell = line.cell
    mark = {1: "  higher", 0: "", -1: "  lower"}[line.change]
    told = (f"{cell.anomalies:,}", percent(cell.rate.share), interval(cell.rate)) if cell.labelled else (NOTHING,) * 3
    figures = f"{told[0]:>10} {told[1]:>8}  {told[2]:<20} {percent(line.rates.before):>8}"
    return f"  {_cell(line.name)} {cell.images:>10,} {figures}{mark}"


def _cell(name: str) -> str:
    told = shown(name)
    return f"{told if len(told) <= _NAME else told[: _NAME - 1] + '…':<{_NAME}}"


def _wrapped(rule: str) -> list[str]:
    return textwrap.wrap(f"({rule})", _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _left(count: int, limit: int) -> list[str]:
    return [f"  and {count - limit:,} more on the page"] if count > limit else []


def _drift(report: Report) -> list[str]:
    lines = [line for line in (report.total, *report.lines) if line.drift.is_flagged]
    rows = [
        f"  {_cell(line.name)} PSI {line.drift.psi:.2f} (p {p_value(line.drift.psi_p)})  "
        f"KS D {line.drift.ks:.2f} (p {p_value(line.drift.ks_p)})"
        for line in lines[:_GROUPS]
    ]
    return ["Drifted", *rows, *_left(len(lines), _GROUPS), *_wrapped(DRIFT_RULE)] if lines else []


def _quarantine(report: Report) -> list[str]:
    found = report.facts.quarantine
    rows = [f"  {bad.count:>12,}  {shown(bad.stage)}: {shown(bad.reason)}" for bad in found[:_GROUPS]]
    return ["Quarantine", *rows, *_left(len(found), _GROUPS)] if found else []


def _top(report: Report) -> list[str]:
    if not report.top:
        return []
    head = "Top anomalies" if report.has_labels else "Highest scores (no thresholds: none is called an anomaly)"
    rows = [
        f"  {rank:>2}  {score(one.row['pred_score']):>6}  {_cell(group_name(_group_of(one, report), report.facts.by))} "
        f"{shown(one.row['image_uri'])}"
        for rank, one in enumerate(report.top[:_PICTURES], start=1)
    ]
    return [head, *rows, *_left(len(report.top), _PICTURES)]


def _group_of(one: Shown, report: Report) -> tuple[str | None, ...]:
    values = (one.row[name] for name in report.facts.by)
    return tuple(None if value is None else str(value) for value in values)


def _changes(report: Report) -> list[str]:
    return [line for one in report.changes if one.before for line in _changed(one)]


def _changed(one: Changed) -> list[str]:
    rows = [f"  {shown(field.name)}: {shown(field.before)} → {shown(field.now)}" for field in one.fields[:_CHANGES]]
    rows = rows or [f"  nothing{' but the inputs' if one.inputs else ''}"]
    return [f"Other in {one.run_id} than in the run before, {one.before}", *rows, *_left(len(one.fields), _CHANGES)]
