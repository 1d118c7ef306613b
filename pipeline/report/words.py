"""Numbers and names as the page and the terminal tell them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from pipeline.report.cells import OTHERS, Group
from pipeline.report.rates import Rate

NOTHING = "–"
_NAMED = 5  # of a list of groups in a sentence


def percent(share: float | None) -> str:
    """With the digits that tell small shares apart: 12.0%, 3.4%, 0.12%, 0.003%; 0% and 100% where it is just that."""
    if share is None:
        return NOTHING
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f}%"
    if value < 0.001:
        return "< 0.001%"
    return "> 99.9%" if value >= 99.95 else f"{value:.{1 if value >= 1 else 2 if value >= 0.095 else 3}f}%"


def interval(rate: Rate) -> str:
    low, high = rate.interval
    return f"{percent(low)[:-1]}–{percent(high)}"


def score(value: float | None) -> str:
    """Three decimals; a small score with as many digits as it takes to be told from 0."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def difference(value: float) -> str:
    """With its sign, and never 0 where it is none."""
    return f"{value:+.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:+.2g}"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.01 else f"{value:.2f}"


def when(at: datetime.datetime) -> str:
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"


def group_name(group: Group, by: Sequence[str]) -> str:
    if group == OTHERS:
        return "(all others)"
    return " · ".join(f"(no {name})" if value is None else value or '""' for name, value in zip(by, group, strict=True))


def listed(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def size(num_bytes: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.1f} {name}"
    return f"{num_bytes / 1e3:,.1f} kB"
