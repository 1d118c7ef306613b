"""The report as one HTML file: no script, nothing fetched, every name escaped.

Whatever the template prints goes through `shown` and then through Jinja's escaping; only what `charts` made is markup.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import cops
from cops.shown import shown
from pipeline.progress import duration
from pipeline.report import charts, words
from pipeline.report.attention import all_quiet, headline
from pipeline.report.cells import OTHERS, Cell
from pipeline.report.drift import DRIFT_RULE
from pipeline.report.findings import GroupLine, Report, quarantined
from pipeline.report.pictures import Shown
from pipeline.report.rate_change import RATE_RULE
from pipeline.report.rates import Rate
from pipeline.report.reasons import meaning
from pipeline.report.window import Record, committed_at

_HERE = Path(__file__).resolve().parent
_FIRST = 24  # groups that are seen at once; the others are behind a fold
_SAME = 1e-6  # thresholds are float32 in the scores, and float64 in their table
_STAGES = ("read", "decode", "score", "localize")
_COUNTS = ("planned", "scored", "quarantined", "skipped", "duplicates", "unmatched")


def page(report: Report, *, at: datetime.datetime) -> str:
    """Args:    at: when it was made, as the page says at its end."""
    return _environment().get_template("page.html").render(
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 -- a file of ours
        report=report,
        facts=report.facts,
        headline=headline(report),
        made_at=words.when(at),
        version=cops.__version__,
        first=_FIRST,
        rate_rule=RATE_RULE,
        drift_rule=DRIFT_RULE,
        charts=_over_time(report),
        heat=_heat_rows(report),
        distributions=_distributions(report),
        scale=charts.colour_bar(report.scale_top, _pixel_thresholds(report)),
        top_rate=_top_rate(report),
        all_quiet=all_quiet(report),
        runs=[_run(record) for record in report.window.now],
    )  # fmt: skip


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_printed,
    )  # fmt: skip
    made.filters |= {
        "percent": words.percent, "score": words.score, "interval": words.interval, "p_value": words.p_value,
        "number": words.number, "counted": words.counted, "meaning": meaning, "listed": words.listed,
    }  # fmt: skip
    made.globals |= {
        "rate_bar": _rate_bar,
        "caption": _caption,
        "when": lambda record: words.when(committed_at(record)),
    }
    return made


def _printed(value: Any) -> Any:
    """What stands in {{ }}: markup of ours as it is, anything else as a line of plain text."""
    return value if isinstance(value, Markup) else words.NOTHING if value is None else shown(str(value))


def _rate_bar(line: GroupLine, top: float) -> Markup:
    told = f"{words.percent(line.cell.rate.share)}, 95 % interval {words.interval(line.cell.rate)}"
    was = f"; before {words.percent(line.rates.before)}" if line.rates.before is not None else ""
    return charts.rate_bar(line.cell.rate, line.rates.before, top, told + was)


def _caption(one: Shown) -> list[str]:
    """Lines below a picture: how far from the threshold, how large, where."""
    row, lines = one.row, []
    threshold, area = row["image_threshold"], row["mask_area"]
    told = []
    if threshold is not None:
        told.append(f"threshold {words.score(threshold)} ({words.difference(row['pred_score'] - threshold)})")
    if area is not None:
        pixels = (row["width"] or 0) * (row["height"] or 0)
        share = f", {words.percent(area / pixels)} of the picture" if area and pixels else ""
        told.append(f"defect area {area:,} px{share}" if area else "no pixel at or above the pixel threshold")
    if told:
        lines.append(" · ".join(told))
    boxes = [
        f"{region.number}: peak {words.score(region.peak_score)}, {region.box_xywh[2]}×{region.box_xywh[3]} px"
        for region in one.regions
    ]
    if boxes:
        more = f" and {one.more_regions:,} more" if one.more_regions else ""
        lines.append(f"regions {'; '.join(boxes)}{more}")
    return [*lines, one.flaw] if one.flaw and one.overlay else lines


def _top_rate(report: Report) -> float:
    """Where the bars of rates end: above every rate, not above every interval, which few images make wide."""
    rates = [rate for line in report.lines for rate in (line.cell.rate.share, line.rates.before) if rate is not None]
    return min(1.0, 1.25 * max([0.02, *rates]))


def _pixel_thresholds(report: Report) -> list[float]:
    """The one pixel threshold; none where the pictures have several."""
    found = {one.row["pixel_threshold"] for one in (*report.top, *report.borderline)} - {None}
    return list(found) if len(found) == 1 else []


def _over_time(report: Report) -> list[tuple[str, Markup]]:
    runs = [*report.window.before, *report.window.now]
    breaks = _breaks(report, runs)

    def bars(
        values: Sequence[float | None], told: Sequence[str], rates: Sequence[Rate] | None = None
    ) -> list[charts.Bar]:
        return [
            charts.Bar(
                label=f"{committed_at(record):%m-%d}", title=f"{record['run_id']}: {told[at]}", value=values[at],
                interval=rates[at].interval if rates and rates[at].whole else None,
                is_now=record in report.window.now, breaks=at in breaks,
            )
            for at, record in enumerate(runs)
        ]  # fmt: skip

    drawn = []
    cells = [report.facts.total([str(record["run_id"])]) for record in runs]
    if report.has_labels:
        drawn.append(_rates("Anomaly rate", [cell.rate for cell in cells], bars))
    else:
        means = [cell.mean_score for cell in cells]
        drawn.append(_values("Mean score", means, [words.score(mean) for mean in means], bars, words.score))
    drawn.append(_rates("In quarantine", [quarantined([record]) for record in runs], bars))
    images = [float(cell.images) for cell in cells]
    drawn.append(
        _values("Images scored", images, [f"{count:,.0f}" for count in images], bars, lambda top: f"{top:,.0f}")
    )
    speeds = [record.get("images_per_s") for record in runs]
    drawn.append(_values("Images/s", speeds, [words.number(speed) for speed in speeds], bars, words.number))
    return drawn


def _rates(name: str, rates: Sequence[Rate], bars: Any) -> tuple[str, Markup]:
    highest = max([0.01, *(rate.interval[1] for rate in rates if rate.whole)])
    shares = [rate.share for rate in rates]
    told = [f"{words.percent(rate.share)} of {rate.whole:,}" for rate in rates]
    return name, charts.series(f"{name} by run", bars(shares, told, rates), words.percent(highest), highest)


def _values(name: str, values: Sequence[float | None], told: Sequence[str], bars: Any, form: Any) -> tuple[str, Markup]:
    highest = max([0.0, *(value for value in values if value is not None)]) or 1.0
    return name, charts.series(f"{name} by run", bars(values, told), form(highest), highest)


def _breaks(report: Report, runs: Sequence[Record]) -> set[int]:
    """The runs before which another model ran."""
    places = [(str(record["committed_at"]), str(record["run_id"])) for record in runs]
    found = set()
    for other in report.window.others:
        later = [at for at, place in enumerate(places) if place > (other.committed_at, other.run_id)]
        found |= set(later[:1])
    return found


def _heat_rows(report: Report) -> dict[str, Any]:
    """Each group's rate in each run, the newest first, on one colour scale; mean scores where there are no labels."""
    runs = [*report.window.before, *report.window.now][::-1]
    ids = [str(record["run_id"]) for record in runs]
    rows = []
    for line in report.lines:
        cells = [report.facts.cells.get((line.group, run_id)) for run_id in ids]
        rows.append((line, [_heat_cell(cell, has_labels=report.has_labels) for cell in cells]))
    values = [cell["value"] for _, cells in rows for cell in cells if cell["value"] is not None]
    heads = [{"label": f"{committed_at(record):%m-%d}", "is_now": record in report.window.now} for record in runs]
    return {"heads": heads, "rows": rows, "top": max([0.01, *values])}


def _heat_cell(cell: Cell | None, *, has_labels: bool) -> dict[str, Any]:
    value = None if cell is None else cell.rate.share if has_labels else cell.mean_score
    text = words.NOTHING if value is None else words.percent(value)[:-1] if has_labels else words.score(value)
    return {"value": value, "text": text}


def _distributions(report: Report) -> list[tuple[str, str, Markup]]:
    drawn = []
    for line in report.lines:
        if line.group == OTHERS:
            continue
        now, reference = report.facts.now[line.group], report.reference(line.group)
        told = f"{now.sum():,} now, {reference.sum():,} {'calibrated on' if report.facts.calibration else 'before'}"
        lines = _threshold_lines(report, line)
        drawn.append((line.name, told, charts.distribution(f"{line.name}: {told}", now, reference, lines)))
    return drawn


def _threshold_lines(report: Report, line: GroupLine) -> list[charts.Line]:
    """The thresholds that the labels were made by, with the interval of the table where it has the very one; where
    nothing is labelled, those that the table has for the group.
    """
    rows = report.calibration.of(line.group, report.facts.by) if report.calibration else []
    intervals = {row.image: row.image_interval for row in reversed(rows) if row.image is not None}
    used = sorted(set(line.cell.image_threshold or [row.image for row in rows[:1] if row.image is not None]))
    return [charts.Line(at=at, interval=_interval_of(intervals, at)) for at in used]


def _interval_of(intervals: dict[float, tuple[float, float] | None], at: float) -> tuple[float, float] | None:
    same = [interval for image, interval in intervals.items() if abs(image - at) <= _SAME]
    return same[0] if same else None


def _run(record: Record) -> dict[str, Any]:
    seconds = record.get("seconds")
    told = seconds if isinstance(seconds, dict) else {}
    stages = [(stage, float(told[stage])) for stage in _STAGES if isinstance(told.get(stage), int | float)]
    wall, counts = told.get("wall"), record["counts"]
    execution = record.get("execution")
    ran = execution if isinstance(execution, dict) else {}
    return {
        "record": record,
        "images": ", ".join(f"{name} {counts[name]:,}" for name in _COUNTS if counts.get(name)),
        "attempts": record["attempts"] if isinstance(record.get("attempts"), int) else 1,
        "wall": duration(wall) if isinstance(wall, int | float) else words.NOTHING,
        "images_per_s": words.number(record.get("images_per_s")),
        "size": words.size(counts.get("bytes") or 0),
        "seconds": ", ".join(f"{stage} {words.number(value)}" for stage, value in stages),
        "bar": charts.shares_bar("seconds of work by stage", stages),
        "device": " × ".join(str(ran[key]) for key in ("max_actors", "device") if key in ran),
    }
