"""Which of the committed scores a calibration is of: whatever columns are called, however often a picture comes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calibrating import CONFIG, HUNDRED, MODEL, above, config, levels, make, rows_of
from run_making import MODEL_ID, commit_run, put, score_row

from pipeline.calibration import calibrate
from pipeline.calibration.columns import OWN
from pipeline.calibration.images import choose, groups, map_pieces
from pipeline.calibration.output import calibrate_and_write
from pipeline.errors import InputError, RunError
from pipeline.layout import RunLayout
from pipeline.schema import SCORES, with_metadata
from pipeline.thresholds import read_thresholds
from pipeline.views import open_views

AWKWARD = ("scores", "taken_as", "images", "key_0", "nth_group", "in_pool", "is_torn", "content", "drawn", "select")


@pytest.mark.parametrize("name", AWKWARD)
def test_columns_of_any_name(layout: RunLayout, tmp_path: Path, name: str) -> None:
    """Whatever the run calls its own, also like what calibration uses inside: thresholds are by its values."""
    rows = [row | {name: "a"} for row in rows_of("screw", HUNDRED)]
    rows += [row | {name: "b"} for row in rows_of("nut", [one + 0.5 for one in HUNDRED])]
    put(layout, "scores", rows, with_metadata(SCORES, dict.fromkeys(AWKWARD, pa.string())))
    commit_run(layout, model=MODEL, config=CONFIG)
    save = str(tmp_path / "t.parquet")
    calibrate_and_write(config(layout, by=(name,), where=f"\"{name}\" <> 'c'"), save=save)
    thresholds = read_thresholds(save, MODEL_ID)
    assert thresholds.of({name: "a"}).image == above(98 / 200)
    assert thresholds.of({name: "b"}).image == above(198 / 200)
    with open_views(layout.root.path) as sql:
        choose(sql, by=(name,), where=None, labels=None)
        pieces = list(map_pieces(sql, (name,), most=150, least_pieces=1))
    assert [(*whose.group, len(table)) for whose, table in pieces] == [("a", 64), ("a", 35), ("b", 64), ("b", 35)]


def test_names_of_the_tables_own_columns(layout: RunLayout) -> None:
    """Two columns of one name make a table that nobody can read: refused by name, before any run is looked for."""
    with pytest.raises(InputError, match="--by: expected other columns than labels, is_pooled"):
        config(layout, by=("category", "labels", "is_pooled"))
    make(layout, rows_of("screw", HUNDRED))
    path = calibrate_and_write(config(layout), save=None).uri
    assert {*pq.read_schema(path).names} == OWN | {"category"}


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.float64(), float("nan")), (pa.list_(pa.string()), ["a"]), (pa.binary(), b"a")]
)
def test_values_that_are_no_groups(layout: RunLayout, kind: pa.DataType, value: Any) -> None:
    """They would be equal to nothing when thresholds are looked up."""
    put(layout, "scores", [row | {"x": value} for row in rows_of("a", HUNDRED)], with_metadata(SCORES, {"x": kind}))
    commit_run(layout, model=MODEL, config=CONFIG)
    with pytest.raises(InputError, match=r"--by: expected columns of text, .*; got x \("):
        calibrate(config(layout, by=("category", "x")))


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.bool_(), pa.date32(), pa.timestamp("us", tz="UTC")])
def test_values_that_are(layout: RunLayout, kind: pa.DataType) -> None:
    """Numbers of a line, days, truth values."""
    value = True if kind == pa.bool_() else 1
    put(layout, "scores", [row | {"x": value} for row in rows_of("a", HUNDRED)], with_metadata(SCORES, {"x": kind}))
    commit_run(layout, model=MODEL, config=CONFIG)
    assert len(calibrate(config(layout, by=("x",))).levels) == 2


def test_a_picture_of_two_groups_counts_once_in_the_pool(layout: RunLayout) -> None:
    """In each of its groups, too; its maps likewise."""
    twice = rows_of("screw", HUNDRED)
    copies = [row | {"image_id": f"copy-{row['image_id']}", "category": "nut"} for row in twice]
    make(layout, [*twice, *copies, *rows_of("bolt", HUNDRED)])
    found = calibrate(config(layout))
    assert {one.group: one.image.images for one in found.levels} == {
        None: 198, ("bolt",): 99, ("nut",): 99, ("screw",): 99,
    }  # fmt: skip
    with open_views(layout.root.path) as sql:
        choose(sql, by=("category",), where=None, labels=None)
        pieces = list(map_pieces(sql, ("category",), most=1_000, least_pieces=1))
    assert sum(len(table) for whose, table in pieces if whose.in_pool) == 198
    assert sum(len(table) for _, table in pieces) == 297


def test_a_picture_that_is_labelled_both_ways(layout: RunLayout) -> None:
    """Of two rows with the same bytes one is wrong: which, --where has to say."""
    rows = rows_of("screw", HUNDRED, truth="0") + rows_of("nut", HUNDRED, truth="1")
    torn = rows[0] | {"image_id": "copy", "truth": "1"}
    make(layout, [*rows, torn])
    with pytest.raises(InputError, match=r"--labels truth: 1 pictures are labelled both 0 and 1, .*image_id copy"):
        calibrate(config(layout, labels="truth"))
    assert calibrate(config(layout, labels="truth", where="image_id <> 'copy'")).levels[0].image.images == 198


def test_a_damaged_part(layout: RunLayout) -> None:
    """No fault of the condition: a RunError, whatever is asked."""
    put(layout, "scores", rows_of("screw", HUNDRED), with_metadata(SCORES, {"truth": pa.string()}))
    commit_run(layout, model=MODEL, config=CONFIG)
    part = Path(layout.parts("scores")[0])
    part.write_bytes(part.read_bytes()[:4] + bytes(2_000) + part.read_bytes()[2_004:])
    with pytest.raises(RunError, match="a part of the tables cannot be read"):
        calibrate(config(layout, where="pred_score >= 0"))


def test_scores_stream_into_their_groups(layout: RunLayout) -> None:
    """Beyond one batch: every score stands in its own group, beside its own label."""
    generator = np.random.default_rng(1)
    categories = generator.choice(["a", "b", None], size=150_000)
    truth = generator.integers(2, size=len(categories))
    scores = generator.random(len(categories)).astype(np.float32)
    blank = pa.table({"run_id": ["r"] * len(scores), "image_id": np.arange(len(scores)).astype(str)})
    told = {"category": pa.array(categories), "pred_score": scores, "truth": truth}
    for name, column in told.items():
        blank = blank.append_column(name, pa.array(column))
    blank = blank.append_column("content_hash", blank["image_id"])
    blank = blank.append_column("scored_at", pa.array([score_row("x")["scored_at"]] * len(scores)))
    make(layout, rows_of("screw", HUNDRED))
    with open_views(layout.root.path) as sql:
        sql.register("many", blank)
        sql.execute("CREATE OR REPLACE TEMP VIEW scores AS SELECT * FROM many")
        choose(sql, by=("category",), where=None, labels="truth")
        found = groups(sql, ("category",), labelled=True)
    assert [one.group for one in found] == [("a",), ("b",), (None,)]
    for one in found:
        own = categories == one.group[0]
        order, expected = np.lexsort((one.labels, one.scores)), np.lexsort((truth[own], scores[own]))
        assert (one.scores[order] == scores[own][expected]).all()
        assert (one.labels[order] == truth[own][expected]).all()
        assert one.in_pool.all()


def test_the_interval_of_labels_is_the_same_every_time(layout: RunLayout) -> None:
    """Whatever order DuckDB gives the rows in."""
    low, high = [at / 200 for at in range(60)], [0.2 + at / 100 for at in range(40)]
    rows = rows_of("screw", low, truth="0") + rows_of("screw", high, truth="1")
    make(layout, rows)
    make(RunLayout(layout.root, "r2"), rows[::-1])
    first, second = (calibrate(config(layout, run_ids=(run_id,), labels="truth")) for run_id in ("r1", "r2"))
    assert levels(first) == levels(second)
    assert first.levels[0].image == second.levels[0].image
