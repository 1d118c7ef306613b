"""ROC, precision-recall and PRO curves as pictures: one for images, one for pixels; a line for each category."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cops.terminal import printable
from pipeline.evaluation.measures import CategoryMeasures
from pipeline.metrics import AUPRO, PRO_LIMIT, Curve

_MOST_NAMED = 20  # categories that can be told apart by colour
_PANEL_INCHES, _LEGEND_INCHES, _DPI = 3.6, 2.4, 120
_NO_CURVE = Curve(np.zeros(0), np.zeros(0))
_PANELS = {
    "I-ROC": ("I-AUROC", "ROC of images", "false positive rate", "true positive rate"),
    "I-PR": ("I-AP", "Precision and recall of images", "recall", "precision"),
    "P-ROC": ("P-AUROC", "ROC of pixels", "false positive rate", "true positive rate"),
    "P-PR": ("P-AP", "Precision and recall of pixels", "recall", "precision"),
    "P-PRO": (AUPRO, f"PRO; shaded: up to {PRO_LIMIT:g}, {AUPRO}", "false positive rate of pixels", "region overlap"),
}


def draw_curves(categories: Sequence[CategoryMeasures], *, thing: str, title: str) -> bytes | None:
    """A PNG of all curves of images (`I`) or of pixels (`P`); None where no category has one."""
    names = [name for name in _PANELS if name.startswith(f"{thing}-") and any(name in one.curves for one in categories)]
    if not names:
        return None
    named = len(categories) <= _MOST_NAMED
    size = (len(names) * _PANEL_INCHES + _LEGEND_INCHES * named, _PANEL_INCHES + 0.6)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    figure.suptitle(_literal(title), fontsize=10)
    for panel, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw(panel, name, categories, named=named)
    if named:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
    encoded = io.BytesIO()
    FigureCanvasAgg(figure).print_png(encoded)
    return encoded.getvalue()


def _draw(panel: Axes, name: str, categories: Sequence[CategoryMeasures], *, named: bool) -> None:
    metric, title, x, y = _PANELS[name]
    colours = mpl.colormaps["tab20"]
    for at, one in enumerate(categories):
        colour, width = (colours(at), 1.2) if named else ((0.2, 0.4, 0.7, 0.25), 0.7)
        curve = one.curves.get(name, _NO_CURVE)  # which still has its place in the legend
        panel.plot(curve.x, curve.y, color=colour, linewidth=width, label=_literal(one.category))
    if name.endswith("ROC"):
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    if name == "P-PRO":
        panel.axvspan(0, PRO_LIMIT, color="0.93", zorder=0)
    values = [value for one in categories if (value := one.metrics[metric].value) is not None]
    panel.set_title(f"{title}\nmean {metric} {100 * sum(values) / len(values):.1f} %", fontsize=8)
    panel.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    panel.set_xlabel(x, fontsize=8)
    panel.set_ylabel(y, fontsize=8)
    panel.tick_params(labelsize=7)


def _literal(text: str) -> str:
    """A name as it is: matplotlib sets dollars as formulas and hides labels that begin with an underscore."""
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
