"""A committed run in Iceberg tables: whole or not at all, once, whatever is given again or ended in between."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pyiceberg.catalog
import pyiceberg.exceptions
import pyiceberg.types
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from run_making import MODEL_ID, NOW, commit_run, put, score_row

import pipeline
from jobs import runs
from jobs.exits import DONE, FAILED
from pipeline import publication, store_errors
from pipeline.claim import take_claim
from pipeline.errors import InputError, RunError
from pipeline.iceberg import data_files
from pipeline.layout import RunLayout
from pipeline.upkeep.discard import find_removal, remove

ROOT = Path(__file__).resolve().parents[3]


def publish(output: str, run_id: str, lake: Any) -> list[tuple[int, bool]]:
    """Rows of the quarantine and of the scores, and whether they came just now."""
    return [(one.rows, one.is_new) for one in publication.publish(output, run_id, lake.uri)]


def discard(layout: RunLayout, run_id: str) -> None:
    remove(find_removal(layout.root.path, run_id))


def test_every_row_of_both_tables(lake: Any, run: Callable[..., str]) -> None:
    """As the run committed them, `run_id` beside them; a table partitioned by it, a file of many parts."""
    output = run("r1", "a", "b", bad=("x",))
    assert publish(output, "r1", lake) == [(1, True), (2, True)]
    known = pipeline.open_run(output, "r1")
    for name, dataset in (("scores", known.scores), ("scores_quarantine", known.quarantine)):
        expected = sorted(dataset.to_table().to_pylist(), key=lambda row: row["image_id"])
        assert lake.rows(name) == [row | {"run_id": "r1"} for row in expected]
        assert [field.name for field in lake.table(name).spec().fields] == ["run_id"]
    assert lake.rows()[0]["scored_at"] == NOW
    assert lake.rows()[0]["model_id"] == MODEL_ID
    assert len(lake.data_files()) == 2
    assert lake.data_files() == lake.named_files()


def test_polars_reads_the_same_rows(lake: Any, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own reader, nested columns among them; of a run alone by the table's partitions."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # its own is a package of its own, of which it warns
    regions = [{"x": 2, "y": 0, "width": 1, "height": 4, "area": 4, "peak_score": 0.5}]
    output = run("r1", "a", "b")
    run("r2", "c")
    put(RunLayout.at(output, "r2"), "scores", [score_row("d", regions=regions)])
    commit_run(RunLayout.at(output, "r2"))
    for run_id in ("r1", "r2"):
        publish(output, run_id, lake)
    night = polars.scan_iceberg(lake.table(), reader_override="native").filter(polars.col("run_id") == "r2")
    assert night.collect().sort("image_id").to_dicts() == lake.rows()[2:]
    assert lake.rows()[3]["regions"] == regions


def test_the_same_run_again_changes_nothing(lake: Any, run: Callable[..., str]) -> None:
    """No snapshot, no file; other runs beside it stay, too."""
    output = run("r1", "a", bad=("x",))
    run("r2", "b")
    publish(output, "r1", lake)
    publish(output, "r2", lake)
    before = lake.rows(), lake.data_files(), lake.table().metadata_location
    assert publish(output, "r1", lake) == [(1, False), (1, False)]
    assert publish(output, "r2", lake) == [(0, False), (1, False)]
    assert (lake.rows(), lake.data_files(), lake.table().metadata_location) == before


def test_a_run_done_anew_replaces_its_rows_in_one_snapshot(
    lake: Any, layout: RunLayout, run: Callable[..., str]
) -> None:
    """Also where it has nothing in quarantine any more. Older snapshots show what was; the others' rows stay."""
    output = run("r1", "a", "b", bad=("x",))
    run("r2", "a", bad=("y",))
    publish(output, "r1", lake)
    publish(output, "r2", lake)
    discard(layout, "r1")
    run("r1", "b", "c", "x")
    assert publish(output, "r1", lake) == [(0, True), (3, True)]
    assert lake.ids() == [("r1", "b"), ("r1", "c"), ("r1", "x"), ("r2", "a")]
    assert lake.ids("scores_quarantine") == [("r2", "y")]
    snapshots = lake.table().snapshots()
    assert [str(one.summary.operation.value) for one in snapshots] == ["append", "append", "overwrite"]
    before = lake.table().scan(snapshot_id=snapshots[1].snapshot_id).to_arrow()["image_id"].to_pylist()
    assert sorted(before) == ["a", "a", "b"]


def test_a_reader_sees_the_old_run_until_it_sees_the_new_one(
    lake: Any, layout: RunLayout, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at when all is written and at the one moment that changes the table."""
    output = run("r1", "a", "b")
    publish(output, "r1", lake)
    discard(layout, "r1")
    run("r1", "c", "d", "e")
    seen = []
    really = SqlCatalog.commit_table

    def watched(self: SqlCatalog, *arguments: Any) -> Any:
        seen.append(lake.ids())
        done = really(self, *arguments)
        seen.append(lake.ids())
        return done

    monkeypatch.setattr(SqlCatalog, "commit_table", watched)
    publish(output, "r1", lake)
    assert seen == [[("r1", "a"), ("r1", "b")], [("r1", "c"), ("r1", "d"), ("r1", "e")]]


KILLED = """
    import os, signal, sys
    from pipeline import publication, store_errors
    from pipeline.iceberg import publish, replace
    calls = []
    def end(*_: object, **__: object) -> None:
        calls.append(1)
        if len(calls) == {nth}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*_, **__)
    real = replace._commit
    replace._commit = end
    publication.publish({output!r}, "r1", {uri!r})
"""


@pytest.mark.parametrize("nth", [1, 2])
def test_a_publishing_that_is_killed(lake: Any, run: Callable[..., str], nth: int) -> None:
    """Before the first commit, or between the two: the same again does what is missing, and every row is there once."""
    output = run("r1", "a", "b", bad=("x",))
    script = textwrap.dedent(KILLED).format(nth=nth, output=output, uri=lake.uri)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert lake.ids("scores_quarantine") == [("r1", "x")] * (nth - 1)
    assert lake.ids() == []
    assert publish(output, "r1", lake) == [(1, nth == 1), (2, True)]
    assert lake.ids("scores_quarantine") == [("r1", "x")]
    assert lake.ids() == [("r1", "a"), ("r1", "b")]
    assert len(lake.data_files() - lake.named_files()) == 1  # what the killed one wrote: for Iceberg's upkeep


def test_rows_that_somebody_deleted_are_published_again(lake: Any, run: Callable[..., str]) -> None:
    """Where none is left; one that a person took out for a reason stays out."""
    output = run("r1", "a", "b")
    publish(output, "r1", lake)
    lake.table().delete("image_id == 'a'")
    assert publish(output, "r1", lake) == [(0, False), (2, False)]
    assert lake.ids() == [("r1", "b")]
    lake.table().delete("run_id == 'r1'")
    assert publish(output, "r1", lake) == [(0, False), (2, True)]
    assert lake.ids() == [("r1", "a"), ("r1", "b")]


def test_a_table_whose_snapshots_expired(lake: Any, run: Callable[..., str]) -> None:
    """That a run is there is known no more, so it is replaced: by the same."""
    output = run("r1", "a")
    run("r2", "b")
    for run_id in ("r1", "r2"):
        publish(output, run_id, lake)
    first, _ = lake.table().snapshots()
    lake.table().maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    assert publish(output, "r1", lake) == [(0, False), (1, True)]
    assert publish(output, "r2", lake) == [(0, False), (1, False)]
    assert lake.ids() == [("r1", "a"), ("r2", "b")]


def test_a_run_of_the_same_id_from_another_output_is_refused(
    lake: Any, layout: RunLayout, run: Callable[..., str], tmp_path: Path
) -> None:
    """Two lines that both call their runs by the night would replace each other's rows."""
    output = run("r1", "a")
    publish(output, "r1", lake)
    other = RunLayout.at(str(tmp_path / "line-4"), "r1")
    with pytest.raises(InputError, match=rf"has a run 'r1' already, from {output}; this one is in .*line-4"):
        publication.check_table(lake.uri, other)
    with pytest.raises(InputError, match="already, from"):
        publication.retract(other.root.path, "r1", lake.uri)
    assert publication.check_table(lake.uri, layout) == {lake.uri: True, f"{lake.uri}_quarantine": True}
    assert lake.ids() == [("r1", "a")]


def test_a_part_that_is_not_as_recorded(lake: Any, layout: RunLayout, run: Callable[..., str]) -> None:
    """Nothing of its table is published, and nothing is left of what was copied."""
    output = run("r1", "a", "b")
    record = layout.read_json(layout.commit_path) or {}
    record["files"][0]["rows"] = 2
    layout.write_json(layout.commit_path, record)
    with pytest.raises(RunError, match=r"its parts hold 2 rows, its record 3; `jobs/runs.py verify r1`"):
        publish(output, "r1", lake)
    Path(layout.root.inside(record["files"][1]["path"])).unlink()
    with pytest.raises(InputError, match="FileNotFoundError"):
        publish(output, "r1", lake)
    assert lake.ids() == []
    assert lake.data_files() == set()


def test_rotten_bytes_are_not_published(
    lake: Any, layout: RunLayout, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages have checksums, and they are looked at."""
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,))
    output = run("r1")
    part = put(layout, "scores", [score_row(f"{at:03d}") for at in range(300)])
    run("r1")
    data = bytearray(part.read_bytes())
    data[60] ^= 1
    part.write_bytes(data)
    with pytest.raises(RunError, match=r"(?i)crc"):
        publish(output, "r1", lake)
    assert lake.data_files() == set()


def test_a_store_that_breaks_off(lake: Any, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file is begun anew, and the half of it that was written goes."""
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,) * 4)
    output = run("r1", "a", "b")
    really, broken = data_files._row_groups, []

    def breaking(batches: Any) -> Any:
        yield from really(batches)
        if len(broken) < 2:
            broken.append(1)
            raise ConnectionResetError

    monkeypatch.setattr(data_files, "_row_groups", breaking)
    publish(output, "r1", lake)
    assert len(broken) == 2
    assert lake.ids() == [("r1", "a"), ("r1", "b")]
    assert lake.data_files() == lake.named_files()


def test_parts_become_few_files(lake: Any, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of about a given size, in the order of the record; row groups are joined, too."""
    output = run("r1", *(f"{at:02d}" for at in range(12)))
    size = sum(file["num_bytes"] for file in pipeline.open_run(output).record["files"])
    monkeypatch.setattr(data_files, "FILE_BYTES", size / 3)
    publish(output, "r1", lake)
    tasks = list(lake.table().scan().plan_files())
    assert len(tasks) in (3, 4)
    assert sum(task.file.record_count for task in tasks) == 12
    assert {len(task.file.split_offsets) for task in tasks} == {1}
    assert len({row["image_id"] for row in lake.rows()}) == 12


def test_a_run_in_quarantine_altogether(lake: Any, run: Callable[..., str]) -> None:
    """A run without one score, or without one bad image, has both tables all the same."""
    output = run("r1", bad=("x",))
    assert publish(output, "r1", lake) == [(1, True), (0, False)]
    run("r2", "a")
    assert publish(output, "r2", lake) == [(0, False), (1, True)]
    assert (lake.ids(), lake.ids("scores_quarantine")) == ([("r2", "a")], [("r1", "x")])


def test_a_table_of_the_users_own(lake: Any, run: Callable[..., str]) -> None:
    """With columns of its own, as a review's, and in no order of ours: ours are written, theirs are null."""
    output = run("r1", "a")
    publish(output, "r1", lake)
    with lake.table().update_schema() as update:
        update.add_column("reviewed_by", pyiceberg.types.StringType())
        update.move_first("reviewed_by")
        update.move_after("pred_score", "scored_at")
    run("r2", "b")
    publish(output, "r2", lake)
    assert [row["reviewed_by"] for row in lake.rows()] == [None, None]
    assert [row["pred_score"] for row in lake.rows()] == [0.5, 0.5]


def test_a_table_of_other_parts_is_refused(lake: Any, layout: RunLayout, run: Callable[..., str]) -> None:
    """A run could not be replaced there without reading other runs' rows; so is one that demands what we lack."""
    publication.check_table(lake.uri, layout, make=True)
    with lake.table().update_spec() as spec:
        spec.add_identity("category")
    with pytest.raises(InputError, match=r"partitioned by run_id alone, it is by .*category"):
        publication.check_table(lake.uri, layout)
    with pytest.raises(InputError, match="partitioned by run_id alone"):
        publish(run("r1", "a"), "r1", lake)
    catalog = pyiceberg.catalog.load_catalog("lake")
    catalog.drop_table("inspection.scores")
    publication.check_table(lake.uri, layout, make=True)
    with lake.table().update_schema(allow_incompatible_changes=True) as update:
        update.add_column("shift", pyiceberg.types.StringType(), required=True, default_value="late")
    with pytest.raises(InputError, match="column 'shift' may not be null there"):
        publication.check_table(lake.uri, layout)


def test_a_dry_look_makes_nothing(lake: Any, layout: RunLayout) -> None:
    """Neither tables nor their namespace; a run makes both, and says so."""
    assert publication.check_table(lake.uri, layout) == {lake.uri: False, f"{lake.uri}_quarantine": False}
    catalog = pyiceberg.catalog.load_catalog("lake")
    assert catalog.list_namespaces() == []
    publication.check_table(lake.uri, layout, make=True)
    assert sorted(catalog.list_tables("inspection")) == [("inspection", "scores"), ("inspection", "scores_quarantine")]


def test_rows_are_removed_by_name(lake: Any, run: Callable[..., str]) -> None:
    """Of one run, in both tables; again it is nothing; then the run may be published again."""
    output = run("r1", "a", "b", bad=("x",))
    run("r2", "c", bad=("y",))
    assert [one.rows for one in publication.retract(output, "r1", lake.uri)] == [0, 0]  # no tables yet
    publish(output, "r1", lake)
    publish(output, "r2", lake)
    assert [one.rows for one in publication.retract(output, "r1", lake.uri)] == [2, 1]
    assert (lake.ids(), lake.ids("scores_quarantine")) == ([("r2", "c")], [("r2", "y")])
    assert [one.rows for one in publication.retract(output, "r1", lake.uri)] == [0, 0]
    assert publish(output, "r1", lake) == [(1, True), (2, True)]
    assert lake.ids() == [("r1", "a"), ("r1", "b"), ("r2", "c")]


def test_a_namespace_that_is_there_is_not_made(lake: Any, layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be forbidden to who may make tables in it."""
    pyiceberg.catalog.load_catalog("lake").create_namespace("inspection")

    def forbidden(*_: Any) -> None:
        raise pyiceberg.exceptions.ForbiddenError("403")

    monkeypatch.setattr(SqlCatalog, "create_namespace", forbidden)
    publication.check_table(lake.uri, layout, make=True)
    assert lake.ids() == []
    with pytest.raises(InputError, match="ForbiddenError"):
        publication.check_table("iceberg://lake/other.scores", layout, make=True)


def test_a_catalog_without_nested_namespaces(lake: Any, layout: RunLayout) -> None:
    """It says so before anything is scored."""
    with pytest.raises(InputError, match="hierarchical namespaces are not supported"):
        publication.check_table("iceberg://lake/factory.line3.scores", layout, make=True)


def test_a_discard_that_is_refused_leaves_the_tables_rows(
    lake: Any, layout: RunLayout, run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """While somebody works on the run; and once nobody does, both go."""
    output = run("r1", "a", bad=("x",))
    publish(output, "r1", lake)
    command = runs.Discard(output=output, run_id="r1", table=lake.uri, yes=True)
    with take_claim(layout):
        assert runs.main(command) == FAILED
    assert "being worked on" in capsys.readouterr().err
    assert (lake.ids(), lake.ids("scores_quarantine")) == ([("r1", "a")], [("r1", "x")])
    assert runs.main(command) == DONE
    assert (lake.ids(), lake.ids("scores_quarantine")) == ([], [])
