"""The long table: what a program reads with pandas or SQL."""

import csv
import io
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from making import counted, evaluation, flawed, image, method_result, two_categories

from pipeline.evaluation.measures import measure
from pipeline.evaluation.tables import flaws_table, metrics_table
from pipeline.metrics import METRICS
from pipeline.table_text import as_csv, as_parquet


@pytest.fixture
def metrics(tmp_path: Path) -> pd.DataFrame:
    found = evaluation(tmp_path, *(method_result(method, two_categories(), tmp_path) for method in ("CoPS", "CLIP")))
    return pd.read_parquet(io.BytesIO(as_parquet(metrics_table(found))))


def cell(metrics, **wanted):
    chosen = metrics
    for name, value in wanted.items():
        chosen = chosen[chosen[name].isna() if value is None else chosen[name] == value]
    (row,) = chosen.to_dict("records")
    return row


def test_one_row_for_each_method_category_and_metric(metrics):
    """Ours and the paper's; the mean's category is null."""
    own = metrics[metrics["source"] == "run"]
    assert len(own) == 2 * 3 * 7
    assert set(own["metric"]) == set(METRICS)
    paper = metrics[metrics["source"] == "paper"]
    assert len(paper) == 2 * 16 * 7 * 2
    assert paper["value"].between(0, 1).all()
    assert set(paper["paper_table"]) == {"S7", "S8"}
    assert set(own["model_id"]) == {"id-of-CoPS", "id-of-CLIP"}


def test_the_difference_is_to_the_papers_figure_of_the_same_method(metrics):
    """For a category and for the mean; the paper has none of plain CLIP."""
    for category in ("bottle", None):
        row = cell(metrics, source="run", method="CoPS", category=category, metric="I-AUROC")
        printed = cell(metrics, source="paper", method="CoPS", category=category, metric="I-AUROC")["value"]
        assert row["paper_value"] == printed
        assert row["difference"] == pytest.approx(row["value"] - printed)
    assert cell(metrics, source="run", method="CoPS", category=None, metric="I-AUROC")["paper_value"] == 0.95
    assert pd.isna(cell(metrics, source="run", method="CLIP", category=None, metric="I-AUROC")["paper_value"])
    assert pd.isna(cell(metrics, source="run", method="CoPS", category=None, metric="AUPRO@0.3")["difference"])


def test_undefined_is_null_with_the_reason(metrics):
    """And the mean says how many categories it is of."""
    row = cell(metrics, source="run", method="CoPS", category="screw", metric="I-AUROC")
    assert pd.isna(row["value"]) and pd.isna(row["difference"]) and row["reason"] == "no normal image"
    mean = cell(metrics, source="run", method="CoPS", category=None, metric="I-AUROC")
    assert (mean["n_categories"], mean["n_normal"], mean["n_anomalous"]) == (1, 3, 6)
    bottle = cell(metrics, source="run", method="CoPS", category="bottle", metric="I-AUROC")
    assert mean["value"] == bottle["value"]


def test_sql_and_csv_read_the_same(tmp_path: Path, metrics):
    """DuckDB on the Parquet, pandas on the CSV, number by number."""
    found = metrics_table(evaluation(tmp_path, method_result("CoPS", two_categories(), tmp_path)))
    (tmp_path / "m.parquet").write_bytes(as_parquet(found))
    query = f"SELECT value FROM '{tmp_path}/m.parquet' WHERE source = 'run' AND category IS NULL AND metric = 'P-AP'"
    ((by_sql,),) = duckdb.sql(query).fetchall()
    by_csv = pd.read_csv(io.BytesIO(as_csv(found)))
    assert by_csv.columns.tolist() == found.column_names
    assert cell(by_csv, source="run", category=None, metric="P-AP")["value"] == by_sql
    assert by_csv["value"].isna().sum() == 3


def test_flaws_are_listed_once_with_what_is_known(tmp_path: Path):
    """Both methods see the same masks; an image that could not be scored keeps its label and category."""
    category = counted()
    category.flaws.append(flawed("y", "bottle"))
    bad = [{"image_uri": "/d/x.png", "stage": "decode", "reason": "truncated", "message": "it ends too early"}]
    results = [method_result(method, [measure("bottle", category)], tmp_path, bad=bad) for method in ("CoPS", "CLIP")]
    rows = flaws_table(evaluation(tmp_path, *results, images=(image("x", "bottle", 1),))).to_pylist()
    assert [(row["image_uri"], row["problem"], row["category"], row["label"], row["defect"]) for row in rows] == [
        ("/d/x.png", "not_scored", "bottle", 1, "crack"),
        ("/d/y.png", "empty_mask", "bottle", 1, "crack"),
    ]
    assert rows[0]["message"] == "decode, truncated: it ends too early"


@pytest.mark.parametrize("name", ["=1+2", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "＝1"])
def test_no_name_is_a_formula(name: str):
    """A spreadsheet shows what begins like one as text; numbers, other text and nulls stay as they are."""
    table = pa.table({"category": [name, "a=b", "", None], "value": [-0.5, 1.0, None, 2.0]})
    found = csv.reader(io.StringIO(as_csv(table).decode(), newline=""))
    assert list(found) == [
        ["category", "value"], ["'" + name, "-0.5"], ["a=b", "1"], ["", ""], ["", "2"],
    ]  # fmt: skip
