"""Committed runs by SQL: what was committed and nothing else, whatever the runs' own columns."""

from typing import Any

import pyarrow as pa
import pytest
from run_making import MODEL_ID, bad_row, commit_run, make_run, put, record_of, score_row
from test_label_sets import make_labels

from pipeline import open_views
from pipeline.errors import InputError, RunError
from pipeline.layout import RunLayout
from pipeline.schema import SCORES, with_metadata
from pipeline.storage import Root


def rows(sql: Any, query: str) -> list[tuple[Any, ...]]:
    return list(sql.execute(query).fetchall())


def test_one_run(layout: RunLayout) -> None:
    """Its four views."""
    make_run(layout)
    with open_views(layout.root.path) as sql:
        assert rows(sql, "SELECT run_id, planned, scored, quarantined, model_id, wall_s FROM runs") == [
            ("r1", 4, 3, 1, MODEL_ID, 61.0)
        ]
        assert rows(sql, "SELECT run_id, image_id FROM scores ORDER BY 2") == [("r1", "a"), ("r1", "b"), ("r1", "c")]
        assert rows(sql, "SELECT run_id, image_id, reason FROM quarantine") == [("r1", "d", "truncated")]
        assert rows(sql, "SELECT label_set, count(*), sum(mask_area) FROM labels GROUP BY 1") == [("run", 3, 8)]


def test_what_is_not_committed_is_not_there(layout: RunLayout) -> None:
    """Neither a run without a record nor a file that no record names."""
    make_run(layout)
    put(layout, "scores", [score_row("late")])
    put(RunLayout(layout.root, "r2"), "scores", [score_row("x")])
    with open_views(layout.root.path) as sql:
        assert rows(sql, "SELECT count(*) FROM scores") == [(3,)]


def test_runs_with_other_columns(layout: RunLayout) -> None:
    """A column that a run lacks is null there; a whole number and a fraction are both fractions."""
    for run_id, kind, value in (("r1", pa.int64(), 1), ("r2", pa.float64(), 2.5)):
        run = RunLayout(layout.root, run_id)
        schema = with_metadata(SCORES, {"size": kind, f"own_{run_id}": pa.string()})
        put(run, "scores", [score_row("a", size=value, **{f"own_{run_id}": "x"})], schema)
        commit_run(run)
    with open_views(layout.root.path) as sql:
        assert rows(sql, "SELECT run_id, size, own_r1, own_r2 FROM scores ORDER BY 1") == [
            ("r1", 1.0, "x", None),
            ("r2", 2.5, None, "x"),
        ]


def test_columns_that_do_not_go_together(layout: RunLayout) -> None:
    """Text in one run and numbers in another: told by name; each run alone can be read."""
    for run_id, kind, value in (("r1", pa.int64(), 1), ("r2", pa.string(), "x")):
        run = RunLayout(layout.root, run_id)
        put(run, "scores", [score_row("a", size=value)], with_metadata(SCORES, {"size": kind}))
        commit_run(run)
    with pytest.raises(InputError, match=r"run 'r2' and .*size.*read them apart"), open_views(layout.root.path):
        pass
    with open_views(layout.root.path, ["r2"]) as sql:
        assert rows(sql, "SELECT size FROM scores") == [("x",)]


def test_a_run_without_scores_and_one_without_quarantine(layout: RunLayout) -> None:
    """Empty views have their columns."""
    put(layout, "quarantine", [bad_row("a")])
    commit_run(layout)
    with open_views(layout.root.path) as sql:
        assert rows(sql, "SELECT count(pred_score), count(run_id) FROM scores") == [(0, 0)]
        assert rows(sql, "SELECT count(*) FROM labels") == [(0,)]
    other = RunLayout(layout.root, "r2")
    put(other, "scores", [score_row("b")])
    commit_run(other)
    with open_views(layout.root.path, ["r2"]) as sql:
        assert rows(sql, "SELECT count(reason) FROM quarantine") == [(0,)]


def test_a_label_set(layout: RunLayout) -> None:
    """In its runs `scores` has its labels, in others none; `labels` has all."""
    for run_id in ("r1", "r2"):
        make_run(RunLayout(layout.root, run_id))
    make_labels(layout, "new")
    with open_views(layout.root.path, label_set="new") as sql:
        assert rows(sql, "SELECT run_id, sum(pred_label), count(pred_score) FROM scores GROUP BY 1 ORDER BY 1") == [
            ("r1", 3, 3),
            ("r2", None, 3),
        ]
        assert rows(sql, "SELECT run_id, label_set, count(*) FROM labels GROUP BY ALL ORDER BY ALL") == [
            ("r1", "new", 3),
            ("r1", "run", 3),
            ("r2", "run", 3),
        ]


def test_a_label_set_that_no_run_has(layout: RunLayout) -> None:
    """The message names those that there are."""
    make_run(layout)
    make_labels(layout, "new")
    with (
        pytest.raises(InputError, match="no label set 'nope' in r1; there are run, new"),
        open_views(layout.root.path, label_set="nope"),
    ):
        pass


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/cops-test.csv'",
        "ATTACH '/tmp/cops-test.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_sql_reaches_no_file(layout: RunLayout, query: str) -> None:
    """A query is data of whoever wrote it."""
    make_run(layout)
    with open_views(layout.root.path) as sql, pytest.raises(Exception, match=r"disabled by config|Cannot enable"):
        sql.execute(query)


def test_a_bit_that_flips_in_a_page(layout: RunLayout) -> None:
    """It is found where SQL reads it, not taken for a score."""
    path = put(layout, "scores", [score_row(str(at), pred_score=at / 1000) for at in range(500)])
    commit_run(layout)
    page = pa.parquet.ParquetFile(path).metadata.row_group(0).column(SCORES.get_field_index("pred_score"))
    data = bytearray(path.read_bytes())
    begin = page.dictionary_page_offset or page.data_page_offset
    data[begin + page.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with open_views(layout.root.path) as sql, pytest.raises(Exception, match=r"(?i)crc|checksum"):
        sql.execute("SELECT sum(pred_score) FROM scores").fetchall()


def test_a_part_that_is_no_parquet(layout: RunLayout) -> None:
    """It is named, at once."""
    path = put(layout, "scores", [score_row("a")])
    commit_run(layout)
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(RunError, match=f"cannot be read: {path}: .*verify"), open_views(layout.root.path):
        pass


def test_no_run(layout: RunLayout) -> None:
    """As of `open_run`: no runs at all, or none of that id."""
    with pytest.raises(InputError, match="no committed run"), open_views(layout.root.path):
        pass
    with pytest.raises(InputError, match="was not committed"), open_views(layout.root.path, ["r9"]):
        pass


def test_in_a_store(memory_root: Root) -> None:
    """Not on a disk alone."""
    make_run(RunLayout(memory_root, "r1"))
    with open_views(memory_root.fs.unstrip_protocol(memory_root.path)) as sql:
        assert rows(sql, "SELECT count(*) FROM scores") == [(3,)]


def test_a_record_of_an_earlier_version(layout: RunLayout) -> None:
    """What it does not tell is null."""
    put(layout, "scores", [score_row("a")])
    kept = ("format", "run_id", "committed_at", "files")
    layout.write_json(layout.commit_path, {name: value for name, value in record_of(layout).items() if name in kept})
    with open_views(layout.root.path) as sql:
        assert rows(sql, "SELECT run_id, planned, model_id FROM runs") == [("r1", None, None)]
