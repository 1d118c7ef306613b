"""The paper's own figures, as data: `results.csv`.

Source:  arXiv 2508.03447, appendix, Tables S4 to S10; where `table` is `summary`, the table beside its code. Some of
the printed averages are not the means of the rows printed above them (VisA's I-AUROC of APRIL-GAN: 78.0, its rows
give 77.5); they are kept as printed.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).with_name("results.csv")


@dataclass(frozen=True)
class Figure:
    """One published figure; `category` is None for a dataset's average."""

    table: str
    dataset: str
    category: str | None
    method: str
    metric: str
    percent: float


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
