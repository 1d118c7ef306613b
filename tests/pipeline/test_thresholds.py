"""Thresholds per category, of this very model, from a Parquet table."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.storage import open_root
from pipeline.thresholds import COLUMNS, Threshold, Thresholds, read_thresholds, warn_of_other_groups


def table(folder: Path, *rows: tuple[Any, ...], columns: tuple[str, ...] = COLUMNS) -> str:
    path = folder / "thresholds.parquet"
    pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), path)
    return str(path)


def test_categories_and_the_pooled_row(tmp_path: Path) -> None:
    """A row per category; the one without a category holds for all others and for images without one."""
    found = read_thresholds(table(tmp_path, ("m", "screw", 0.5, 0.25), ("m", None, 0.75, None)), "m")
    assert found.of({"category": "screw"}) == Threshold(0.5, 0.25)
    assert found.of({"category": "nut"}) == found.of({"category": None}) == Threshold(0.75, None)


def test_without_a_pooled_row_others_have_none(tmp_path: Path) -> None:
    """Nothing is guessed for a category that was not calibrated."""
    found = read_thresholds(table(tmp_path, ("m", "screw", 0.5, None)), "m")
    assert found.of({"category": "nut"}) == found.of({"category": None}) == Threshold(None, None)


def test_a_table_written_anew_has_another_digest(tmp_path: Path) -> None:
    """A run that goes on under other thresholds is another run, though the table's name is the same."""
    digests = {read_thresholds(table(tmp_path, ("m", "screw", level, None)), "m").digest for level in (0.1, 0.9, 0.1)}
    assert len(digests) == 2


def test_nan_is_no_threshold(tmp_path: Path) -> None:
    """Polars and NumPy write it for what is missing."""
    assert read_thresholds(table(tmp_path, ("m", "screw", float("nan"), 0.5)), "m").of(
        {"category": "screw"}
    ) == Threshold(None, 0.5)


def test_decimals_are_numbers(tmp_path: Path) -> None:
    """DuckDB writes a literal 0.5 as one."""
    assert read_thresholds(table(tmp_path, ("m", "screw", Decimal("0.5"), None)), "m").of(
        {"category": "screw"}
    ) == Threshold(0.5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("m", "screw", "x", 0.5), "expected numbers in image_threshold, got string"),
        (("m", "screw", 0.5, True), "expected numbers in pixel_threshold, got bool"),
        (("m", "screw", 0.5, 7.0), "pixel_threshold of 'screw': scores lie in 0..1, so a threshold does; got 7.0"),
        (("m", "screw", -1, 0.5), "image_threshold of 'screw'"),
    ],
)
def test_values_that_are_no_thresholds(tmp_path: Path, row: tuple[Any, ...], message: str) -> None:
    """Found before anything is scored; the message names table, column and category."""
    with pytest.raises(InputError, match=message):
        read_thresholds(table(tmp_path, row), "m")


def test_no_thresholds_at_all() -> None:
    """The default has neither labels nor masks."""
    assert Thresholds().of({"category": "screw"}) == Threshold()


def test_another_models_thresholds_are_refused(tmp_path: Path) -> None:
    """They mean nothing here, even where only one row is of another model; the message names both."""
    with pytest.raises(InputError, match="model other, this run uses mine"):
        read_thresholds(table(tmp_path, ("mine", "a", 0.5, 0.5), ("other", "b", 0.5, 0.5)), "mine")


def test_wrong_columns_are_refused(tmp_path: Path) -> None:
    """The message says which are missing."""
    with pytest.raises(InputError, match=r"missing: \['pixel_threshold'\]"):
        read_thresholds(table(tmp_path, ("m", "a", 0.5), columns=COLUMNS[:3]), "m")


def test_two_rows_for_a_category_are_refused(tmp_path: Path) -> None:
    """Which of them holds would be chance."""
    with pytest.raises(InputError, match="more than one row"):
        read_thresholds(table(tmp_path, ("m", "a", 0.5, 0.5), ("m", "a", 0.6, 0.5)), "m")


@pytest.mark.parametrize("content", [None, b"", b"image_threshold\n0.5\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Absent, empty or of another format: wrong use, told with its name."""
    path = tmp_path / "t.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"--thresholds: .*t\.parquet"):
        read_thresholds(str(path), "m")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    """A table without rows was calibrated for nothing."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in COLUMNS}), path)
    with pytest.raises(InputError, match="calibrate again"):
        read_thresholds(str(path), "m")


def test_a_damaged_table_is_refused_in_words(tmp_path: Path) -> None:
    """Text that is no UTF-8, a category that is no text, a file cut short: wrong use, never a traceback."""
    names = pa.Array.from_buffers(pa.utf8(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xfe\xff")])
    path = str(tmp_path / "t.parquet")
    for category in (names, pa.array([["screw"]]), pa.array([7])):
        columns = [pa.array(["m"]), category, pa.array([0.5]), pa.array([0.5])]
        pq.write_table(pa.table(columns, names=COLUMNS), path)
        with pytest.raises(InputError, match=r"cannot be read|expected text in category"):
            read_thresholds(path, "m")
    Path(path).write_bytes(Path(path).read_bytes()[:-50])
    with pytest.raises(InputError, match="cannot be read"):
        read_thresholds(path, "m")


def grouped(folder: Path, *rows: dict[str, Any], by: Any = ("category", "line")) -> str:
    """A table by several columns."""
    path = folder / "thresholds.parquet"
    whole = [
        {"model_id": "m", "image_threshold": 0.5, "pixel_threshold": None, "group_by": list(by), **row} for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(whole), path)
    return str(path)


ROWS = (
    {"category": None, "line": None, "image_threshold": 0.9},
    {"category": "screw", "line": "a", "image_threshold": 0.1},
    {"category": "screw", "line": None, "image_threshold": 0.2},
)


def test_groups_of_several_columns(tmp_path: Path) -> None:
    """Each row's group by all of them; images that lack one are a group, too; every other takes the pooled one."""
    found = read_thresholds(grouped(tmp_path, *ROWS), "m")
    of = [
        found.of({"category": category, "line": line}).image
        for category in ("screw", "nut")
        for line in ("a", "b", None)
    ]
    assert of == [0.1, 0.9, 0.2, 0.9, 0.9, 0.9]


def test_a_group_without_a_value_beside_the_pooled_row(tmp_path: Path) -> None:
    """`is_pooled` tells which of two rows of nulls is for every other group."""
    rows = [{"category": None, "line": None, "image_threshold": 0.2, "is_pooled": False}]
    found = read_thresholds(
        grouped(tmp_path, *rows, *(row | {"is_pooled": not at} for at, row in enumerate(ROWS))), "m"
    )
    assert found.of({"category": None, "line": None}).image == 0.2
    assert found.of({"category": "nut", "line": "a"}).image == 0.9
    with pytest.raises(InputError, match="more than one row for one category and line"):
        read_thresholds(grouped(tmp_path, *(rows * 2)), "m")


def test_a_table_of_another_version(tmp_path: Path) -> None:
    """A later version's table is not misread."""
    with pytest.raises(InputError, match="expected a table of version 1, got 2"):
        read_thresholds(grouped(tmp_path, ROWS[0] | {"version": 2}), "m")


@pytest.mark.parametrize("by", [["nope"], [], [None]])
def test_groups_by_columns_that_it_has_not(tmp_path: Path, by: list[Any]) -> None:
    """A damaged table is told of, not taken for one by category."""
    with pytest.raises(InputError, match="expected in group_by the same names"):
        read_thresholds(grouped(tmp_path, *ROWS, by=by), "m")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"category": pa.string()}, r"by category, line, and this run has no column 'line' \(its own are: category\)"),
        ({"category": pa.string(), "line": pa.int64()}, "their line 'a' is no int64, which this run has"),
    ],
)
def test_columns_that_the_run_has_not(tmp_path: Path, there: dict[str, pa.DataType], message: str) -> None:
    """Every image would silently take the pooled threshold."""
    found = read_thresholds(grouped(tmp_path, *ROWS), "m")
    with pytest.raises(InputError, match=message):
        found.require_columns(there, where="this run")
    found.require_columns({"category": pa.string(), "line": pa.string()}, where="this run")


BOLT = {("bolt",): Threshold(0.5, 0.5)}


@pytest.mark.parametrize(
    ("thresholds", "parts", "said"),
    [
        (
            Thresholds(by_group=BOLT),
            [["nut", None], [None]],
            "of any of their 1 groups (by category, such as bolt), so none has a",
        ),
        (Thresholds(Threshold(0.7), BOLT), [[None]], "so all are labelled by the pooled threshold; --path-fields"),
        (Thresholds(by_group=BOLT), [["nut"], [None, "bolt"]], None),
        (Thresholds(Threshold(0.7)), [[None]], None),  # given as numbers: there are no groups to miss
        (Thresholds(by_group=BOLT), [], None),  # a night on which nothing was new
    ],
)
def test_thresholds_of_other_groups_are_told(
    thresholds: Thresholds, parts: list[list[str | None]], said: str | None, tmp_path: Path
) -> None:
    """Where not one image is of a group that they are for: else labels are silently null, or the pooled one's."""
    paths = [str(tmp_path / f"{at}.parquet") for at in range(len(parts))]
    for path, categories in zip(paths, parts, strict=True):
        pq.write_table(
            pa.table({"category": pa.array(categories, pa.string()), "pred_score": [0.1] * len(categories)}), path
        )
    told = warn_of_other_groups(thresholds, open_root(str(tmp_path)), paths)
    assert len(told) == bool(said)
    assert all((said or "") in one for one in told)
