"""Small drawings as inline SVG, made from numbers. Every text in them goes through markupsafe and `shown`.

Colours are classes of page.css, so that they follow the reader's light or dark page, and print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from cops.overlay import COLOURS
from cops.shown import shown
from pipeline.report.histograms import Counts, in_steps, quantile
from pipeline.report.rates import Rate
from pipeline.report.words import score

_MOST_STEPS, _LEAST_STEPS = 48, 12
_HIGHEST = 0.999  # of the scores: where a distribution's axis ends


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One run in a series; `is_now` is what is reported, `breaks` where another model ran before it."""

    label: str
    title: str
    value: float | None
    interval: tuple[float, float] | None = None
    is_now: bool = False
    breaks: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """A threshold over a distribution, and its 95 % interval where it is known."""

    at: float
    interval: tuple[float, float] | None = None


def _svg(width: float, height: float, title: str, parts: Sequence[Markup], kind: str) -> Markup:
    head = Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}"><title>{}</title>').format(
        kind, width, height, shown(title), shown(title)
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def _rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    width, height = max(0.0, width), max(0.0, height)
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>').format(
        x, y, width, height, kind
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, shown(text)
    )


def rate_bar(now: Rate, before: float | None, top: float, title: str) -> Markup:
    """A rate as a bar with its interval, and a tick where it was before; `top` is the bar's whole length."""
    width, height = 120.0, 16.0

    def at(share: float) -> float:
        return width * min(1.0, share / top)

    low, high = now.interval
    parts = [_rect(0, 3, width, 10, "ground"), _rect(0, 3, at(now.share or 0), 10, "bad-fill")]
    parts += [_stroke(at(low), 8, at(high), 8, "whisker")]
    if before is not None:
        parts += [_stroke(at(before), 0, at(before), height, "was")]
    return _svg(width, height, title, parts, "rate")


def series(title: str, bars: Sequence[Bar], top_label: str, top: float) -> Markup:
    """A bar for each run, the oldest at the left; a gap and a dashed line where another model ran between."""
    width, height, left, foot = 340.0, 150.0, 4.0, 22.0
    room = height - foot - 18
    step = (width - 2 * left) / max(1, len(bars))
    parts = [
        _stroke(left, 18, width - left, 18, "grid-line"),
        _stroke(left, height - foot, width - left, height - foot, "axis"),
    ]
    parts += [_text(left, 13, top_label, "small")]
    shown_at = {0, len(bars) - 1} | ({len(bars) // 2} if len(bars) > 4 else set())
    for at, bar in enumerate(bars):
        x = left + at * step
        if bar.breaks:
            parts += [_stroke(x, 18, x, height - foot, "break")]
        tall = room * min(1.0, (bar.value or 0) / top) if top else 0.0
        drawn = [
            _rect(x + 0.15 * step, height - foot - tall, 0.7 * step, tall, "now-fill" if bar.is_now else "was-fill")
        ]
        if bar.interval:
            low, high = (height - foot - room * min(1.0, end / top) for end in bar.interval)
            drawn += [_stroke(x + step / 2, low, x + step / 2, high, "whisker")]
        hover = Markup("<title>{}</title>").format(shown(bar.title))
        parts += [Markup("<g>") + hover + Markup("").join(drawn) + Markup("</g>")]
        if at in shown_at:
            anchor = "start" if at == 0 and len(bars) > 1 else "end" if at == len(bars) - 1 and at else "middle"
            place = x if anchor == "start" else x + step if anchor == "end" else x + step / 2
            parts += [_text(place, height - 6, bar.label, "small", anchor)]
    return _svg(width, height, title, parts, "series")


def distribution(title: str, now: Counts, reference: Counts, lines: Sequence[Line]) -> Markup:
    """This time's scores as a line over the earlier ones as an area; the height is the square root of the share, so
    that the few high scores are seen beside the many low ones.
    """
    width, height, foot = 300.0, 120.0, 18.0
    ends = [quantile(side, _HIGHEST) or 0.0 for side in (now, reference)]
    ends += [(line.interval or (0, 0))[1] for line in lines] + [line.at for line in lines]
    top = min(1.0, max(0.001, 1.08 * max(ends)))
    steps = int(
        np.clip(2 * np.sqrt(min(one.sum() for one in (now, reference) if one.sum())), _LEAST_STEPS, _MOST_STEPS)
    )
    shares = [np.sqrt(in_steps(side, top, steps)) for side in (reference, now)]
    tallest = max(0.01, *(float(one.max()) for one in shares))
    room = height - foot - 12
    parts = []
    for line in lines:
        if line.interval:
            low, high = (width * min(1.0, end / top) for end in line.interval)
            parts += [_rect(low, 12, max(1.0, high - low), room, "band")]
    parts += [
        _steps(one / tallest * room, width, height - foot, kind) for one, kind in zip(shares, _KINDS, strict=True)
    ]
    for line in lines:
        x = width * min(1.0, line.at / top)
        side, place = ("end", x - 3) if x > width / 2 else ("start", x + 3)
        parts += [_stroke(x, 2, x, height - foot, "threshold"), _text(place, 11, score(line.at), "small bad", side)]
    parts += [_stroke(0, height - foot, width, height - foot, "axis"), _text(0, height - 5, "0", "small")]
    parts += [_text(width, height - 5, score(top), "small", "end")]
    return _svg(width, height, title, parts, "distribution")


_KINDS = ("reference", "now-line")


def _steps(heights: np.ndarray, width: float, floor: float, kind: str) -> Markup:
    step = width / len(heights)
    points = " ".join(
        f"{at * step:.1f},{floor - tall:.1f} {(at + 1) * step:.1f},{floor - tall:.1f}"
        for at, tall in enumerate(heights)
    )
    return Markup('<polyline points="0,{:.1f} {} {:.1f},{:.1f}" class="{}"/>').format(floor, points, width, floor, kind)


def colour_bar(top: float, levels: Sequence[float]) -> Markup:
    """The one scale of all pictures, with the pixel thresholds marked on it."""
    width, height = 420.0, 44.0
    colours = mpl.colormaps[COLOURS](np.linspace(0, 1, 64), bytes=True)[:, :3]
    step = width / len(colours)
    parts = [
        Markup('<rect x="{:.2f}" y="14" width="{:.2f}" height="14" fill="#{}"/>').format(
            at * step, step + 0.5, bytes(rgb.tolist()).hex()
        )
        for at, rgb in enumerate(colours)
    ]
    parts += [_text(width * share, 41, score(share * top), "small", anchor) for share, anchor in _TICKS]
    for level in levels:
        if level <= top:
            x = width * level / top
            parts += [_stroke(x, 10, x, 32, "level"), _text(x, 9, f"pixel threshold {score(level)}", "small", "middle")]
    return _svg(width, height, f"colour scale of the anomaly maps, from 0 to {score(top)}", parts, "scale")


_TICKS = ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end"))


def shares_bar(title: str, parts: Sequence[tuple[str, float]]) -> Markup:
    """What several things are of one whole, side by side."""
    width, height = 340.0, 34.0
    whole = sum(value for _, value in parts) or 1.0
    drawn, x = [], 0.0
    for at, (name, value) in enumerate(parts):
        long = width * value / whole
        hover = Markup("<title>{}</title>").format(shown(f"{name}: {value:,.1f} s"))
        drawn += [Markup("<g>") + hover + _rect(x, 0, long, 16, f"share-{at % 4}") + Markup("</g>")]
        if long > 60:
            drawn += [_text(x + 2, 29, f"{name} {value / whole:.0%}", "small")]
        x += long
    return _svg(width, height, title, drawn, "shares")
