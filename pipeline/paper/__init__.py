"""The paper's own figures, as data: `results.csv`, `S2.csv` and `S3.csv`.

Source:  arXiv 2508.03447, appendix, Tables S2 to S10; where `table` is `summary`, the table beside its code. Some of
the printed averages are not the means of the rows printed above them (VisA's I-AUROC of APRIL-GAN: 78.0, its rows
give 77.5); they are kept as printed.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).with_name("results.csv")
METHODS = ("WinCLIP", "APRIL-GAN", "CLIP-AD", "AdaCLIP", "AnomalyCLIP", "FAPrompt", "CoPS")


@dataclass(frozen=True)
class Figure:
    """One published figure; `category` is None for a dataset's average."""

    table: str
    dataset: str
    category: str | None
    method: str
    metric: str
    percent: float


@dataclass(frozen=True)
class PrintedTable:
    """A table as it stands on the page."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


CAPTIONS = {
    "S2": "Accuracy (%) and cost of seven methods on MVTec-AD (one RTX 3090)",
    "S3": "CoPS on other backbones and image sizes (%)",
}


@cache
def printed_table(name: str) -> PrintedTable:
    """Table S2 or S3."""
    with RESULTS.with_name(f"{name}.csv").open(newline="") as file:
        header, *rows = (tuple(row) for row in csv.reader(file))
    return PrintedTable(CAPTIONS[name], header, tuple(rows))


@cache
def figures() -> tuple[Figure, ...]:
    with RESULTS.open(newline="") as file:
        return tuple(
            Figure(
                row["table"],
                row["dataset"],
                row["category"] or None,
                row["method"],
                row["metric"],
                float(row["percent"]),
            )
            for row in csv.DictReader(file)
        )
