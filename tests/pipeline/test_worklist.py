"""The plan cut into tasks: every row once, rows of one Parquet row group together."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import FlakyFileSystem

from pipeline import plan as planning
from pipeline import worklist
from pipeline.plan import PlanWriter
from pipeline.schema import PLAN
from pipeline.sources import PlanItem, PlanRows
from pipeline.storage import Root, open_root
from pipeline.worklist import make_worklist, rows_per_part

ROWS = PlanRows(category=None, template=None, metadata={})
# Runs of rows: (kind, shard, row group, how many).
RUNS = st.lists(
    st.tuples(st.sampled_from(["file", "range", "cell"]), st.integers(0, 2), st.integers(0, 2), st.integers(1, 60)),
    min_size=1, max_size=8,
)  # fmt: skip


def write(root: Root, runs: list[tuple[str, int, int, int]]) -> tuple[list[str], pa.Table]:
    writer = PlanWriter(root, root.join("plan"), PLAN)
    items = [
        PlanItem(image_uri=f"{at}-{row}", kind=kind, path=f"shard{shard}", row_group=group if kind == "cell" else None)
        for at, (kind, shard, group, count) in enumerate(runs)
        for row in range(count)
    ]
    table = ROWS.table(items)
    writer.add(table)
    return writer.close(), table


@settings(max_examples=60)
@given(RUNS, st.integers(20, 100))
def test_tasks_cover_every_row_once(runs: list[tuple[str, int, int, int]], rows_per_file: int) -> None:
    """Read one after the other, the tasks give the plan back; no task has more rows than it may."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(planning, "ROWS_PER_FILE", rows_per_file)
        root = open_root(folder)
        files, table = write(root, runs)
        tasks = make_worklist(root, files, len(table), tasks=500)
        read = [tasks.read(task, root) for task in range(len(tasks))]
    assert pa.concat_tables(read)["image_uri"].to_pylist() == table["image_uri"].to_pylist()
    assert tasks.rows == len(table)
    for rows in read:
        assert len(rows) > 0
        is_cell = rows["kind"][0].as_py() == "cell"
        assert is_cell or len(rows) <= worklist._MIN_ROWS
        groups = set(zip(rows["path"].to_pylist(), rows["row_group"].to_pylist(), strict=True))
        assert not is_cell or (len(groups) == 1 and set(rows["kind"].to_pylist()) == {"cell"})


def test_a_row_group_is_one_task(tmp_path: Path) -> None:
    """Its pages are read from their beginning once, not once for each few rows."""
    root = open_root(str(tmp_path))
    files, _ = write(root, [("cell", 0, 0, 300), ("cell", 0, 1, 300), ("cell", 1, 1, 5)])
    tasks = make_worklist(root, files, 605, tasks=500)
    assert (tasks.stop - tasks.start).tolist() == [300, 300, 5]


def test_reading_across_row_groups_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose rows lie in two row groups of the plan's file gets them all, in order."""
    monkeypatch.setattr(planning, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr(worklist, "ROWS_PER_GROUP", 10)
    root = open_root(str(tmp_path))
    files, table = write(root, [("file", 0, 0, 45)])
    tasks = make_worklist(root, files, 45, tasks=500)
    assert [len(tasks.read(task, root)) for task in range(len(tasks))] == [16, 16, 13]
    assert tasks.read(1, root)["image_uri"].to_pylist() == table["image_uri"].to_pylist()[16:32]


@pytest.mark.parametrize(("tasks", "expected"), [(1, 512), (3, 200), (6, 100), (500, 16)])
def test_tasks_as_many_as_wanted(tmp_path: Path, tasks: int, expected: int) -> None:
    """But none too large for one machine to lose, or so small that starting it costs more than its work."""
    root = open_root(str(tmp_path))
    files, _ = write(root, [("file", 0, 0, 600)])
    cut = make_worklist(root, files, 600, tasks=tasks)
    assert (cut.stop - cut.start).max() == expected


def test_a_store_serves_tasks_too(memory_root: Root) -> None:
    """The plan may lie in an object store."""
    files, table = write(memory_root, [("range", 0, 0, 20)])
    tasks = make_worklist(memory_root, files, 20, tasks=500)
    read = [tasks.read(task, memory_root) for task in range(len(tasks))]
    assert pa.concat_tables(read)["image_id"].to_pylist() == table["image_id"].to_pylist()


def test_a_store_that_hiccups_serves_tasks(flaky: type[FlakyFileSystem]) -> None:
    """A moment's failure is no reason to end a night's run."""
    root = open_root("flaky://run")
    files, table = write(root, [("range", 0, 0, 20)])
    flaky.failures = 3
    tasks = make_worklist(root, files, 20, tasks=1)
    assert flaky.failures == 0
    flaky.failures = 3
    read = [tasks.read(task, root) for task in range(len(tasks))]
    assert flaky.failures == 0
    assert pa.concat_tables(read)["image_id"].to_pylist() == table["image_id"].to_pylist()


def test_no_files_no_tasks(tmp_path: Path) -> None:
    """Nothing left to do is no task, and no error."""
    tasks = make_worklist(open_root(str(tmp_path)), [], 0, tasks=500)
    assert (len(tasks), tasks.rows) == (0, 0)


@pytest.mark.parametrize(
    ("planned", "expected"), [(1, 32), (8_192, 32), (25_600, 100), (2_097_152, 8_192), (10**7, 8_192)]
)
def test_parts_are_neither_many_nor_huge(planned: int, expected: int) -> None:
    """About 256 parts a run, of 32 rows at least and 8,192 at most: 10⁷ images are some 1,200 files."""
    assert rows_per_part(planned) == expected
