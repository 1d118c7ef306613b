"""Thresholds by labels: where F1 is highest, of how many, and what is refused."""

import pytest
from calibrating import HUNDRED, config, levels, make, rows_of

from pipeline.calibration import calibrate
from pipeline.calibration.output import as_table, as_text
from pipeline.errors import InputError
from pipeline.layout import RunLayout


def test_labels(layout: RunLayout) -> None:
    """F1 is highest half way between 0.3 and 0.7; the text of the column is read as numbers."""
    high = [0.7 + at / 100 for at in range(10)]
    rows = rows_of("screw", [at / 100 for at in range(31)], truth="0") + rows_of("screw", high, truth="1.0")
    make(layout, rows + rows_of("nut", [0.1] * 30, truth="0"))
    found = calibrate(config(layout, labels="truth"))
    assert levels(found) == pytest.approx({None: 0.5, ("nut",): 0.5, ("screw",): 0.5})
    rows = {row["category"]: row for row in as_table(found).to_pylist()}
    assert rows["screw"]["image_f1"] == 1
    assert (rows["screw"]["image_rule"], rows["screw"]["image_source"]) == ("f1_max", "group")
    assert rows["nut"]["image_source"] == "pooled"  # it has no anomalous images


def test_a_few_defects_are_an_accident(layout: RunLayout) -> None:
    """Nine anomalous images make no threshold of a group's own; nor of all."""
    few, many = [0.9 + at / 100 for at in range(9)], [0.8 + at / 100 for at in range(10)]
    normal = [at / 200 for at in range(30)]
    rows = rows_of("nut", normal, truth="0") + rows_of("nut", few, truth="1")
    make(layout, [*rows, *rows_of("screw", normal, truth="0"), *rows_of("screw", many, truth="1")])
    rows = {row["category"]: row for row in as_table(calibrate(config(layout, labels="truth"))).to_pylist()}
    assert [rows[name]["image_source"] for name in ("nut", "screw")] == ["pooled", "group"]
    with pytest.raises(InputError, match=r"expected 10 normal and 10 anomalous .* got 30 and 9"):
        calibrate(config(layout, labels="truth", where="category = 'nut'"))


def test_labels_that_say_nothing(layout: RunLayout) -> None:
    """Scores that do not know normal from anomalous: the summary warns."""
    normal = rows_of("screw", [at / 200 for at in range(100)], truth="0")
    make(layout, normal + rows_of("screw", [at / 21 / 2 for at in range(20)], truth="1"))
    text = as_text(calibrate(config(layout, labels="truth")), "t")
    assert "WARNING: F1 of the image threshold is below 0.5 in 2 groups, 0.2" in text


@pytest.mark.parametrize(("truth", "message"), [("good", "expected 0"), (None, "expected 0"), ("0", "got 99 and 0")])
def test_labels_that_are_none(layout: RunLayout, truth: str | None, message: str) -> None:
    """A row without a label is not taken for normal."""
    make(layout, rows_of("screw", HUNDRED, truth=truth))
    with pytest.raises(InputError, match=message):
        calibrate(config(layout, labels="truth"))


def test_labels_of_a_column_that_is_not_there(layout: RunLayout) -> None:
    """The message names those that are."""
    make(layout, rows_of("screw", HUNDRED))
    with pytest.raises(InputError, match="--labels: there is no column 'label'"):
        calibrate(config(layout, labels="label"))
