"""The paper's figures, as copied from its tables."""

from collections import Counter

import pytest

from pipeline.datasets import DATASETS
from pipeline.paper import METHODS, figures, printed_table


def figure(dataset, category, method, metric):
    (found,) = [
        one.percent
        for one in figures()
        if (one.dataset, one.category, one.method, one.metric) == (dataset, category, method, metric)
    ]
    return found


@pytest.mark.parametrize(
    ("dataset", "category", "method", "metric", "percent"),
    [
        ("mvtec-ad", None, "CoPS", "I-AUROC", 95.0),
        ("mvtec-ad", "screw", "AdaCLIP", "P-AP", 41.6),
        ("visa", "macaroni1", "WinCLIP", "P-AP", 0.03),
        ("visa", None, "FAPrompt", "I-AP", 86.7),
        ("btad", "03", "CoPS", "I-AP", 88.2),
        ("mpdd", "metal_plate", "CoPS", "P-AP", 87.6),
        ("dtd-synthetic", "Mesh_114", "CoPS", "I-AUROC", 85.0),
        ("br35h", None, "CoPS", "I-AUROC", 98.7),
        ("cvc-colondb", None, "CoPS", "P-AUROC", 85.6),
    ],
)
def test_figures_are_the_printed_ones(dataset, category, method, metric, percent):
    """Cells of each table, read off the page."""
    assert figure(dataset, category, method, metric) == percent


def test_every_table_is_whole():
    """Rows by table: categories and the average, for each method and metric."""
    counts = Counter(one.table for one in figures())
    assert counts == {
        "S4": 13 * 4,
        "S5": 4 * 4,
        "S6": 7 * 4,
        "S7": 16 * 7 * 2,
        "S8": 16 * 7 * 2,
        "S9": 13 * 7 * 2,
        "S10": 13 * 7 * 2,
        "summary": 8,
    }
    assert {one.dataset for one in figures()} == set(DATASETS)


def test_averages_are_near_the_means_of_their_rows():
    """A slip of the pen in a row would show here; the paper's own averages are off by up to 0.52."""
    for average in figures():
        rows = [
            one.percent
            for one in figures()
            if one.category and (one.table, one.method, one.metric) == (average.table, average.method, average.metric)
        ]
        if average.category is None and rows:
            assert average.percent == pytest.approx(sum(rows) / len(rows), abs=0.53), average


def test_the_overview_agrees_with_the_tables_of_categories():
    """Table S2's accuracies are the averages of Tables S7 and S8, method by method; S3's best row is CoPS's."""
    overview, backbones = printed_table("S2"), printed_table("S3")
    assert tuple(row[0] for row in overview.rows) == METHODS
    for row in overview.rows:
        for metric, cell in zip(overview.header[1:5], row[1:5], strict=True):
            assert float(cell) == figure("mvtec-ad", None, row[0], metric)
    best = next(row for row in backbones.rows if row[:2] == ("ViT-L/14@336px", "518"))
    assert best[2:] == overview.rows[-1][1:5]
    assert len(backbones.rows) == 6 and overview.rows[-1][-1] == "168"
