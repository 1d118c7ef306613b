"""Masks and maps in SQL: the same as `pipeline.masks` makes of them."""

from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from nights import sql_of

from pipeline import masks


@pytest.fixture(scope="module")
def sql() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(sql_of("macros"))
        yield connection


def one(sql: duckdb.DuckDBPyConnection, expression: str, *values: object) -> object:
    ((found,),) = sql.execute(f"SELECT {expression}", list(values)).fetchall()
    return found


def test_every_float16(sql: duckdb.DuckDBPyConnection) -> None:
    """All 65,536 of them, infinities, subnormal numbers and the sign of zero included."""
    codes = np.arange(65536, dtype="<u2")
    found = sql.sql(
        "SELECT code, float16(code) AS value FROM range(65536) AS codes(code) ORDER BY code"
    ).to_arrow_table()
    values = np.array(found["value"], np.float32)
    np.testing.assert_array_equal(values, codes.view("<f2").astype(np.float32))
    assert np.signbit(values[0x8000])


@given(arrays.arrays("<f2", st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(0, 1, width=16)))
def test_patch_grid(sql: duckdb.DuckDBPyConnection, grid: np.ndarray) -> None:
    """Row by row, to the last bit."""
    row = {"patch_scores": grid.tobytes(), "map_size": list(grid.shape)}
    found = one(sql, "patch_grid(?::BLOB, ?::SMALLINT[])", row["patch_scores"], row["map_size"])
    np.testing.assert_array_equal(np.array(found, np.float32), masks.patch_grid(row))
    assert one(sql, "list_max(patch_values(?::BLOB))", row["patch_scores"]) == grid.max()


@settings(max_examples=60)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))), st.data())
def test_masks(sql: duckdb.DuckDBPyConnection, mask: np.ndarray, data: st.DataObject) -> None:
    """Runs, area, and whether a pixel is in it."""
    encoded = masks.encode(mask)
    assert one(sql, "mask_runs(?)", encoded["counts"]) == masks.run_lengths(encoded["counts"]).tolist()
    assert one(sql, "mask_area_of(?)", encoded["counts"]) == mask.sum()
    y, x = (data.draw(st.integers(0, side - 1)) for side in mask.shape)
    struct = "{'size': ?::INTEGER[], 'counts': ?}"
    assert one(sql, f"in_mask({struct}, {x}, {y})", encoded["size"], encoded["counts"]) == mask[y, x]


@pytest.mark.parametrize("size", [(1, 1), (4000, 3000), (1, 70_000)])
@pytest.mark.parametrize("value", [False, True])
def test_masks_of_one_value(sql: duckdb.DuckDBPyConnection, size: tuple[int, int], value: bool) -> None:
    """Nothing and all of it, in numbers of several characters."""
    encoded = masks.encode(np.full(size, value))
    assert one(sql, "mask_area_of(?)", encoded["counts"]) == size[0] * size[1] * value
    assert sum(one(sql, "mask_runs(?)", encoded["counts"])) == size[0] * size[1]


def test_rows_of_a_table(sql: duckdb.DuckDBPyConnection) -> None:
    """Each row has its own mask's answer; a row without a mask has none."""
    rng = np.random.default_rng(0)
    made = [rng.random((30, 20)) < share for share in (0.1, 0.9, 0.5)]
    table = pa.table({"nth": range(4), "pred_mask": [*(masks.encode(mask) for mask in made), None]})
    sql.register("drawn", table)
    found = sql.execute("SELECT mask_area_of(pred_mask.counts), mask_runs(pred_mask.counts) FROM drawn ORDER BY nth")
    for mask, (area, runs) in zip(made, found.fetchall()[:3], strict=True):
        assert (area, sum(runs[1::2])) == (mask.sum(), mask.sum())
    assert one(sql, "mask_area_of(pred_mask.counts) FROM drawn WHERE nth = 3") is None
