"""Committed runs and nothing else: the record decides which files are read; the commit, what may become one."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import FlakyFileSystem

import pipeline
from pipeline import commit
from pipeline.attempt import Plan, remaining, to_commit
from pipeline.errors import ClaimError, InputError, RunError
from pipeline.layout import RunLayout
from pipeline.parts import parquet_bytes, part_name
from pipeline.plan import PlanSummary, PlanWriter
from pipeline.runs import records
from pipeline.schema import PLAN, QUARANTINE, QUARANTINE_FILE, RUN_FORMAT, SCORES
from pipeline.store_errors import with_patience


def put(layout: RunLayout, table: str, name: str, *ids: str) -> str:
    """A part file with rows of these ids."""
    schema = {"scores": SCORES, "quarantine": QUARANTINE_FILE}[table]
    path = Path(layout.part_path(table, f"{name}.parquet"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_bytes(pa.Table.from_pylist([{"image_id": at, "image_uri": "u"} for at in ids], schema)))
    return str(path)


def plan(layout: RunLayout, *ids: str) -> list[str]:
    path = Path(layout.work_path("plan.parquet"))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image_id": pa.array(ids, pa.string())}), path)
    return [str(path)]


def plan_of(layout: RunLayout, *ids: str) -> list[str]:
    """A plan with all its columns."""
    rows = [
        {"image_id": name, "image_uri": name, "kind": "file", "path": name, "position": at}
        for at, name in enumerate(ids)
    ]
    writer = PlanWriter(layout.root, layout.work_path("plan"), PLAN)
    writer.add(pa.Table.from_pylist(rows, PLAN))
    return writer.close()


def commit_run(layout: RunLayout, **fields: Any) -> None:
    files = commit.file_records(commit.data_files(layout, layout.all_parts()))
    record = {"format": RUN_FORMAT, "run_id": layout.run_id, "committed_at": "2026-01-01", "files": files}
    layout.write_json(layout.commit_path, record | fields)


def ids_of(dataset: Any) -> list[str]:
    return sorted(dataset.to_table()["image_id"].to_pylist())


@pytest.fixture
def output(layout: RunLayout) -> str:
    return layout.root.path


def test_an_uncommitted_run_does_not_exist(layout: RunLayout, output: str) -> None:
    """Parts without a record are invisible, by id and without one."""
    put(layout, "scores", "part-1", "a")
    for run_id in (None, "r1"):
        with pytest.raises(InputError, match=r"no committed run|not committed"):
            pipeline.open_run(output, run_id)
    assert list(records(output)) == []


def test_a_committed_run_is_its_recorded_files(layout: RunLayout, output: str) -> None:
    """Files beside the recorded ones, of a lost process, are not read."""
    put(layout, "scores", "part-1", "a", "b")
    put(layout, "quarantine", "part-1", "c")
    commit_run(layout)
    put(layout, "scores", "part-late", "b")
    run = pipeline.open_run(output)
    assert (run.run_id, ids_of(run.scores), ids_of(run.quarantine)) == ("r1", ["a", "b"], ["c"])
    assert run.scores.schema.names == SCORES.names
    assert run.quarantine.to_table()["run_id"].to_pylist() == ["r1"]


def test_pandas_reads_the_quarantine_of_all_runs(layout: RunLayout) -> None:
    """The whole folder at once, run ids that look like numbers among them; run_id is the folder's name."""
    for run_id in ("20260102", "r"):
        put(RunLayout(layout.root, run_id), "quarantine", "part-1", run_id)
    found = pd.read_parquet(layout.root.join("quarantine"))
    assert sorted(found["run_id"].astype(str)) == sorted(found["image_id"]) == ["20260102", "r"]


def test_empty_tables_have_their_columns(layout: RunLayout, output: str) -> None:
    """A run without bad images has a quarantine of no rows, not an error."""
    put(layout, "scores", "part-1", "a")
    commit_run(layout)
    assert pipeline.open_run(output).quarantine.to_table().schema.names == QUARANTINE.names


def test_the_last_commit_is_the_default(layout: RunLayout, output: str) -> None:
    """Without an id: the run committed last, whatever the ids' order; a run still going on does not count."""
    for run_id, at in (("b", "2026-01-02"), ("z", "2026-01-01"), ("a", "2026-01-03")):
        other = RunLayout(layout.root, run_id)
        put(other, "scores", "part-1", run_id)
        commit_run(other, committed_at=at)
    put(RunLayout(layout.root, "zz"), "scores", "part-1", "x")
    Path(RunLayout(layout.root, "zz").work_dir).mkdir()
    assert pipeline.open_run(output).run_id == "a"
    assert ids_of(pipeline.open_run(output, "z").scores) == ["z"]
    assert {record["run_id"] for record in records(output)} == {"a", "b", "z"}


def test_a_record_of_another_format_is_refused(layout: RunLayout, output: str) -> None:
    """A later version's run is not misread."""
    put(layout, "scores", "part-1", "a")
    commit_run(layout, format="cops-run/2")
    with pytest.raises(InputError, match=r"expected a record of format cops-run/1, got 'cops-run/2'"):
        pipeline.open_run(output, "r1")


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "scores/run_id=r1/../../secret.parquet",
        "scores/run_id=r1/..\\secret.parquet",
        "scores/run_id=r2/part-1.parquet",
        "quarantine/run_id=r1/part-1.parquet",
        "scores/run_id=r1/sub/part-1.parquet",
        "scores/run_id=r1/.part-1.parquet",
        "s3://bucket/part-1.parquet",
        7,
        None,
    ],
)
def test_a_record_that_names_anything_else_is_refused(layout: RunLayout, output: str, path: Any) -> None:
    """A hostile record leads to no file outside of the run's own folders, neither to read it nor to remove it."""
    put(layout, "scores", "part-1", "a")
    commit_run(layout, files=[{"table": "scores", "path": path, "rows": 1, "num_bytes": 1}])
    for run_id in ("r1", None):
        with pytest.raises(InputError, match=r"runs/r1\.json: expected each file once, as scores/run_id=r1/"):
            pipeline.open_run(output, run_id)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged; expected JSON"),
        ("\xff", "damaged; expected JSON"),
        ("[" * 100_000, "damaged; expected JSON"),
        ("[]", "got list"),
        ('{"format": "cops-run/1", "run_id": "../r2"}', "expected the record of run 'r1', got '../r2'"),
        ('{"format": "cops-run/1", "run_id": "r1"}', "lacks them"),
    ],
)
def test_what_is_no_record_is_refused(layout: RunLayout, output: str, text: str, words: str) -> None:
    """Damaged or another run's: one clear error that names the file."""
    Path(layout.work_dir).parent.mkdir(parents=True)
    Path(layout.commit_path).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        pipeline.open_run(output, "r1")
    assert layout.commit_path in str(caught.value)


def test_a_file_named_twice_is_refused(layout: RunLayout, output: str) -> None:
    """Its rows would count twice."""
    put(layout, "scores", "part-1", "a")
    file = {"table": "scores", "path": "scores/run_id=r1/part-1.parquet", "rows": 1, "num_bytes": 1}
    commit_run(layout, files=[file, file])
    with pytest.raises(InputError, match="each file once"):
        pipeline.open_run(output)


@pytest.mark.parametrize("run_id", ["../r1", "", "a/b", "-x", "r1.json", "r1.png", "a" * 129])
def test_a_run_id_is_a_name(output: str, run_id: str) -> None:
    """No id leads out of the folders, nor to what lies beside another run's record."""
    with pytest.raises(InputError, match="run id: expected letters"):
        pipeline.open_run(output, run_id)


def test_rotten_bytes_are_an_error_for_readers(layout: RunLayout, output: str) -> None:
    """A bit that flips in a page is found when it is read, not taken for a score."""
    path = Path(put(layout, "scores", "part-1", *(f"{at:032x}" for at in range(100))))
    commit_run(layout)
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pipeline.open_run(output).scores.to_table()


def test_an_output_moved_elsewhere_is_still_whole(layout: RunLayout, output: str, tmp_path: Path) -> None:
    """Records name their files below the output root, so a copy of it can be read."""
    put(layout, "scores", "part-1", "a")
    commit_run(layout)
    Path(output).rename(tmp_path / "moved")
    assert ids_of(pipeline.open_run(str(tmp_path / "moved")).scores) == ["a"]


def test_each_planned_image_once_is_verified(layout: RunLayout) -> None:
    """In scores or quarantine, once: may be committed."""
    put(layout, "scores", "part-1", "a")
    put(layout, "quarantine", "part-1", "b")
    commit.verify(layout, plan(layout, "a", "b"), layout.all_parts())


@pytest.mark.parametrize(
    ("scores", "quarantine", "words"),
    [
        (["a"], [], "1 are in no table, 0 are there twice, and 0 were never planned"),
        (["a", "b"], ["b"], "0 are in no table, 1 are there twice, and 0 were never planned"),
        (["a", "b", "x"], [], "0 are in no table, 0 are there twice, and 1 were never planned"),
        ([], [], "2 are in no table"),
    ],
)
def test_anything_else_is_refused(layout: RunLayout, scores: list[str], quarantine: list[str], words: str) -> None:
    """Missing, twice, unplanned: counted, with an id to look for, and told what to do."""
    put(layout, "scores", "part-1", *scores) if scores else None
    put(layout, "quarantine", "part-1", *quarantine) if quarantine else None
    with pytest.raises(RunError, match=words) as caught:
        commit.verify(layout, plan(layout, "a", "b"), layout.all_parts())
    assert "Run the same command again" in str(caught.value)


def test_counts_come_from_footers(layout: RunLayout) -> None:
    """Rows by table, and the record lists each file with its rows and size, relative to the root."""
    path = put(layout, "scores", "part-1", "a", "b")
    put(layout, "scores", "part-2", "c")
    put(layout, "quarantine", "part-1", "d")
    files = commit.data_files(layout, layout.all_parts())
    assert commit.counts_of(files) == {"scored": 3, "quarantined": 1, "bytes": 0}
    first = commit.file_records(files)[0]
    assert len(first.pop("footer_sha256")) == 64
    size = Path(path).stat().st_size
    assert first == {"table": "scores", "path": "scores/run_id=r1/part-1.parquet", "rows": 2, "num_bytes": size}
    json.dumps(commit.file_records(files))


def test_a_part_written_while_we_commit_is_in_no_record(layout: RunLayout, output: str) -> None:
    """What is verified is what is recorded, whatever a lost process writes in between."""
    put(layout, "scores", "part-00001-1-a", "a")
    parts = to_commit(layout, frozenset(), 1)
    put(layout, "scores", "part-00001-1-late", "a")
    commit.verify(layout, plan(layout, "a"), parts)
    assert commit.counts_of(commit.data_files(layout, parts))["scored"] == 1


def test_late_parts_of_earlier_attempts_are_removed(layout: RunLayout) -> None:
    """What was found and what this attempt wrote stays; what an earlier one wrote meanwhile goes."""
    found = put(layout, "scores", "part-00001-1-a", "a")
    late = put(layout, "quarantine", "part-00001-1-b", "b")
    own = put(layout, "scores", "part-00002-1-b", "b")
    parts = to_commit(layout, frozenset([found]), 2)
    assert parts == {"scores": [found, own], "quarantine": []}
    assert not Path(late).exists()


def test_parts_of_a_later_attempt_are_nobodys_strays(layout: RunLayout) -> None:
    """A process that slept while another took over and committed: it removes nothing."""
    own = put(layout, "scores", "part-00001-1-a", "a")
    others = put(layout, "scores", "part-00002-1-b", "b")
    with pytest.raises(ClaimError, match="taken over"):
        to_commit(layout, frozenset(), 1)
    assert Path(own).exists()
    assert Path(others).exists()


def test_unfinished_files_of_this_output_alone_are_removed(tmp_path: Path) -> None:
    """A folder may be called `o[12]`, which as a pattern is `o1`."""
    mine, other = (RunLayout.at(str(tmp_path / name), "r1") for name in ("o[12]", "o1"))
    left = [Path(put(one, "scores", ".part-00001-1-a.parquet.0.tmp", "a")).with_suffix("") for one in (mine, other)]
    for path in left:
        path.with_name(path.name + ".parquet").rename(path)
    files = plan_of(mine, "a")
    remaining(mine, Plan(files=files, summary=PlanSummary(planned=1), metadata={}), 1, tasks=8)
    assert [path.exists() for path in left] == [False, True]


def test_a_store_that_hiccups_while_tables_are_read(flaky: type[FlakyFileSystem]) -> None:
    """What it cannot say for a moment is not missing: plan, resume, checks and footers are asked for again."""
    layout = RunLayout.at("flaky://run", "r1")
    files = plan_of(layout, "a", "b")
    part = layout.part_path("scores", part_name(1, ["a"]))
    rows = pa.Table.from_pylist([{"image_id": "a", "image_uri": "u"}], SCORES)
    layout.root.fs.pipe_file(part, parquet_bytes(rows))
    for failures in range(1, 4):
        flaky.failures = failures
        plan = Plan(files=files, summary=PlanSummary(planned=2), metadata={})
        left = remaining(layout, plan, 2, tasks=8)
        assert (left.done, left.worklist.rows, flaky.failures) == (1, 1, 0)
        flaky.failures = failures
        with pytest.raises(RunError, match="1 are in no table"):
            with_patience(lambda: commit.verify(layout, files, layout.all_parts()), "run")
        assert flaky.failures == 0


def test_a_resume_heals_images_written_twice(layout: RunLayout) -> None:
    """Of parts that share an image the first attempt's stays; what else the other held is left to do again."""
    kept = put(layout, "scores", "part-00001-2-x", "a", "b")
    other = put(layout, "quarantine", "part-00002-2-y", "b", "c")
    files = plan_of(layout, "a", "b", "c")
    left = remaining(layout, Plan(files=files, summary=PlanSummary(planned=3), metadata={}), 3, tasks=8)
    assert (left.done, left.worklist.rows, left.parts) == (2, 1, frozenset([kept]))
    assert not Path(other).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: b"\0" * 40,
        lambda _: b"[" * 100_000,
        lambda _: b"[]",
        lambda text: text.replace(b'"files"', b'"fi"'),
        lambda text: text.replace(b'"table"', b'"ta"'),
        lambda text: text.replace(b'"r1"', b"null"),
        lambda text: text.replace(b"part-1", b"part-2"),
    ],
    ids=["cut", "zeros", "nested", "a list", "no files", "no table", "no id", "a file that is gone"],
)
def test_a_damaged_record_is_told(layout: RunLayout, output: str, damage: Any) -> None:
    """Whatever is left of a record after a disk failed: one clear error that names it."""
    put(layout, "scores", "part-1", "a")
    commit_run(layout)
    path = Path(layout.commit_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"damaged|format|cannot be read"):
        pipeline.open_run(output, "r1")
