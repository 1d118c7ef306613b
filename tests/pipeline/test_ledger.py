"""Plan and tables compared in SQL: what is missing, twice, unplanned; what is left, in order."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ledger
from pipeline.storage import Root, open_root

HERE = open_root(".")


def ids(*names: str) -> pa.Table:
    return pa.table({"image_id": pa.array(names, pa.string())})


def balance(plan: pa.Table, scores: pa.Table, quarantine: pa.Table) -> ledger.Balance:
    with ledger.tables(HERE, plan=plan, scores=scores, quarantine=quarantine) as sql:
        return ledger.balance(sql)


def test_each_once_is_even() -> None:
    """Every planned image in one of the tables, once."""
    assert balance(ids("a", "b", "c"), ids("b", "a"), ids("c")).is_even


@pytest.mark.parametrize(
    ("scores", "quarantine", "expected"),
    [
        (("a",), (), (2, 0, 0)),
        (("a", "b"), ("b", "c"), (0, 1, 0)),
        (("a", "a", "b"), ("c",), (0, 1, 0)),
        (("a", "b", "x"), ("c", "y"), (0, 0, 2)),
        (("a", "a", "x"), (), (2, 1, 1)),
        ((), (), (3, 0, 0)),
    ],
)
def test_what_is_uneven_is_counted(
    scores: tuple[str, ...], quarantine: tuple[str, ...], expected: tuple[int, int, int]
) -> None:
    """Missing, twice and unplanned are told apart, with examples by name."""
    found = balance(ids("a", "b", "c"), ids(*scores), ids(*quarantine))
    assert (found.missing, found.twice, found.unplanned) == expected
    assert not found.is_even
    assert 0 < len(found.examples) <= 9


@settings(max_examples=25)
@given(*[st.lists(st.sampled_from("abcdef"), max_size=8) for _ in range(2)], st.sets(st.sampled_from("abcdef")))
def test_balance_agrees_with_counting(scores: list[str], quarantine: list[str], plan: set[str]) -> None:
    """Whatever the tables hold, the SQL counts as plain Python does."""
    found, written = balance(ids(*plan), ids(*scores), ids(*quarantine)), scores + quarantine
    assert found.missing == len(plan - set(written))
    assert found.twice == sum(written.count(name) > 1 for name in set(written))
    assert found.unplanned == len(set(written) - plan)


def test_what_remains_keeps_reading_order() -> None:
    """What no table holds, by position, whatever order the plan's rows come in."""
    plan = pa.table({"image_id": ["d", "a", "c", "b"], "position": [3, 0, 2, 1]})
    with ledger.tables(HERE, plan=plan, scores=ids("a"), quarantine=ids()) as sql:
        left = pa.concat_tables(ledger.batches(sql.sql(ledger.REMAINING), plan.schema))
    assert left.to_pylist() == [{"image_id": name, "position": at} for at, name in enumerate("bcd", start=1)]


def test_the_first_of_each_is_kept() -> None:
    """Of an image named twice the first mention stays; the count of the others is told."""
    plan = pa.table({"image_id": ["a", "b", "a", "a"], "position": [0, 1, 2, 3], "lot": ["x", "y", "z", "w"]})
    with ledger.tables(HERE, plan=plan) as sql:
        assert sql.execute(ledger.DUPLICATES).fetchall() == [(2,)]
        left = pa.concat_tables(ledger.batches(sql.sql(ledger.FIRST_OF_EACH), plan.schema))
    assert left["lot"].to_pylist() == ["x", "y"]


def test_skipped_images_leave_the_plan() -> None:
    """What an earlier run holds is not planned again."""
    plan = pa.table({"image_id": ["a", "b", "c"], "position": [0, 1, 2]})
    with ledger.tables(HERE, plan=plan, skipped=ids("b")) as sql:
        assert [row[0] for row in sql.execute(ledger.WITHOUT_SKIPPED).fetchall()] == ["a", "c"]


def test_files_are_read_where_they_lie(tmp_path: Path, memory_root: Root) -> None:
    """Part files on disk and in a store, several as one view; a view of no files is empty."""
    for root in (open_root(str(tmp_path)), memory_root):
        for number, name in enumerate("ab"):
            with root.fs.open(root.join(f"{number}.parquet"), "wb") as out:
                pq.write_table(ids(name), out)
        files = [root.join(f"{number}.parquet") for number in range(2)]
        with ledger.tables(root, plan=files, scores=files[:1], quarantine=[]) as sql:
            assert ledger.balance(sql).missing == 1


def test_large_results_come_in_batches() -> None:
    """A query's rows are handed on in pieces of bounded size, none lost."""
    plan = pa.table({"image_id": [str(at) for at in range(200_000)], "position": range(200_000)})
    with ledger.tables(HERE, plan=plan, scores=ids("7"), quarantine=ids()) as sql:
        sizes = [len(batch) for batch in ledger.batches(sql.sql(ledger.REMAINING), plan.schema)]
    assert sum(sizes) == 199_999
    assert max(sizes) <= 66_000


def test_ctrl_c_in_a_query_is_ctrl_c() -> None:
    """DuckDB words an error of its own over it, which would be taken for a passing one and tried again."""
    with pytest.raises(KeyboardInterrupt), ledger.tables(HERE):
        raise RuntimeError("Query interrupted")  # when it does so depends on what its threads are at
    with pytest.raises(RuntimeError, match="other"), ledger.tables(HERE):
        raise RuntimeError("other")
