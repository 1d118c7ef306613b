"""Losses and validation metrics by epoch, as one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cops.training.losses import NAMES
from pipeline.training.folder import Epoch

_COLUMNS = 4
_PANEL_IN = (3.1, 2.3)
_LOSS_COLOUR, _METRIC_COLOUR, _BEST_COLOUR = "#1f5fa8", "#b3541e", "#2e7d32"


def draw_curves(epochs: Sequence[Epoch], *, weights: Mapping[str, float], best: int, title: str) -> bytes:
    """A PNG: the total, each loss as it is before its weight, each metric of the validation set; the best epoch marked.

    Args:    weights: of the losses in the total.   best: the number of the best epoch.
    """
    panels = {"total": [epoch["loss"] for epoch in epochs]}
    panels |= {f"{name}{_times(weights[name])}": [epoch["losses"][name] for epoch in epochs] for name in NAMES}
    metrics = {name: [epoch["metrics"].get(name, math.nan) for epoch in epochs] for name in epochs[-1]["metrics"]}
    rows = math.ceil((len(panels) + len(metrics)) / _COLUMNS)
    figure = Figure(figsize=(_PANEL_IN[0] * _COLUMNS, _PANEL_IN[1] * rows + 0.5), layout="constrained")
    figure.suptitle(title.replace("$", r"\$"))  # a name is no formula
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    numbers = [epoch["epoch"] for epoch in epochs]
    for at, (name, values) in enumerate((panels | metrics).items()):
        title, colour = (f"validation: {name}", _METRIC_COLOUR) if name in metrics else (name, _LOSS_COLOUR)
        _panel(axes[at], title, numbers, values, best=best, colour=colour)
    for unused in axes[len(panels) + len(metrics) :]:
        unused.set_axis_off()
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _panel(axes: Axes, name: str, numbers: Sequence[int], values: Sequence[float], *, best: int, colour: str) -> None:
    axes.plot(numbers, values, color=colour, marker="o", markersize=3, linewidth=1.6)
    axes.axvline(best, color=_BEST_COLOUR, linewidth=0.8, linestyle="--")
    axes.set_title(name, fontsize=9)
    axes.set_xlabel("epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.25)


def _times(weight: float) -> str:
    return "" if weight == 1 else f" (× {weight:g})"
