"""From committed runs to a table that `--thresholds` takes; the maps' part runs on Ray, in tests/integration."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from calibrating import COLUMNS, CONFIG, DECODE, HUNDRED, above, config, levels, make, rows_of
from run_making import MODEL_ID, put

from pipeline.calibration import CalibrateConfig, calibrate
from pipeline.calibration.output import as_table, as_text, calibrate_and_write
from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.thresholds import Threshold, read_thresholds


def test_a_group_of_its_own_and_one_that_falls_back(layout: RunLayout) -> None:
    """Enough images: a threshold of the group's own. Too few: the pooled one, and the table says so."""
    make(layout, rows_of("screw", HUNDRED) + rows_of("nut", [0.9, 0.1]))
    found = calibrate(config(layout, image_rate=0.05))
    # 101 together: the 5th highest of 0.9, 98/200, 97/200, …; of the screws alone the 5th of 98/200, …
    assert levels(found) == {None: above(95 / 200), ("nut",): above(95 / 200), ("screw",): above(94 / 200)}
    rows = {row["category"]: row for row in as_table(found).to_pylist()}
    assert [rows[name]["image_source"] for name in (None, "nut", "screw")] == ["pooled", "pooled", "group"]
    assert [rows[name]["num_images"] for name in (None, "nut", "screw")] == [101, 2, 99]
    assert [rows[name]["num_flagged"] for name in (None, "nut", "screw")] == [4, 1, 4]
    assert rows["nut"]["image_rate_high"] is None  # nobody knows how many of these will be flagged
    assert rows["screw"]["image_rate_low"] < 0.05 < rows["screw"]["image_rate_high"]
    text = as_text(found, "t.parquet")
    assert "1 of 2 groups have too few images" in text
    assert "* the pooled threshold" in text


def test_the_table_is_what_score_takes(layout: RunLayout, tmp_path: Path) -> None:
    """Written, and read by `--thresholds`: the same thresholds for the same rows, by any columns."""
    make(layout, rows_of("screw", HUNDRED, line="a", shift=1) + rows_of("screw", [0.5] * 30, line="b", shift=2))
    row, save = {"category": "screw", "line": "a", "shift": 1}, str(tmp_path / "t.parquet")
    for by, score in (("category",), 0.5), (("category", "line"), 94 / 200), (("line", "shift"), 94 / 200):
        written = calibrate_and_write(config(layout, image_rate=0.05, by=by), save=save)
        thresholds = read_thresholds(save, MODEL_ID)
        assert (thresholds.by, thresholds.of(row)) == (by, Threshold(above(score)))
        assert thresholds.of({"category": "else", "line": None, "shift": 7}) == thresholds.pooled
        assert written.uri == save
        assert set(pq.read_table(save)["version"].to_pylist()) == {1}


def test_the_default_place(layout: RunLayout) -> None:
    """In the output, with the time in its name: a calibration replaces no other."""
    make(layout, rows_of("screw", HUNDRED))
    written = calibrate_and_write(config(layout), save=None)
    assert Path(written.uri).parent == Path(layout.root.path) / "thresholds"
    assert read_thresholds(written.uri, MODEL_ID).pooled.image == above(98 / 200)


def test_the_same_bytes_count_once(layout: RunLayout) -> None:
    """A picture that every night scores, under one name or several, is one picture."""
    rows = rows_of("screw", HUNDRED)
    make(layout, rows)
    other = RunLayout(layout.root, "r2")
    make(other, [row | {"image_id": f"copy of {row['image_id']}"} for row in rows])
    found = calibrate(config(layout, run_ids=("r1", "r2")))
    assert found.levels[0].image.images == 99


def test_chosen_by_a_condition(layout: RunLayout) -> None:
    """SQL on any column of the scores; a comment at its end does no harm."""
    make(layout, rows_of("screw", HUNDRED, truth="good") + rows_of("screw", [1.0] * 50, truth="scratch"))
    found = calibrate(config(layout, where="truth = 'good' -- the normal ones"))
    assert levels(found) == {None: above(98 / 200), ("screw",): above(98 / 200)}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nonsense = 1", 'column "nonsense" not found'),
        ("truth = 'x'", r"no image of r1 fits --where"),
        ("(", "--where '\\('"),
        ("category IN (SELECT content FROM read_text('/etc/passwd'))", "disabled by configuration"),
    ],
)
def test_a_condition_that_cannot_be_asked(layout: RunLayout, where: str, message: str) -> None:
    """Told in DuckDB's words; no condition reads a file."""
    make(layout, rows_of("screw", HUNDRED))
    with pytest.raises(InputError, match=message):
        calibrate(config(layout, where=where))


def test_images_without_a_category(layout: RunLayout, tmp_path: Path) -> None:
    """They are a group like any other, beside the pooled row; --thresholds takes them so."""
    make(layout, rows_of(None, [one + 0.5 for one in HUNDRED]) + rows_of("screw", HUNDRED))
    save = str(tmp_path / "t.parquet")
    calibrate_and_write(config(layout, image_rate=0.05), save=save)
    rows = {(row["is_pooled"], row["category"]): row for row in pq.read_table(save).to_pylist()}
    assert set(rows) == {(True, None), (False, None), (False, "screw")}
    own = rows[False, None]
    assert (own["image_source"], own["image_threshold"]) == ("group", above(194 / 200))
    thresholds = read_thresholds(save, MODEL_ID)
    assert thresholds.of({"category": None}).image == above(194 / 200)
    assert thresholds.of({"category": "never seen"}).image == above(190 / 200)


def test_too_few_images(layout: RunLayout) -> None:
    """Nothing is guessed: the message says how many it takes."""
    make(layout, rows_of("screw", HUNDRED))
    with pytest.raises(InputError, match=r"expected 999 normal images or more \(a rate of 0.001.*got 99"):
        calibrate(config(layout, image_rate=0.001))
    with pytest.raises(InputError, match=r"expected 200 normal images or more \(--min-images\), got 99"):
        calibrate(config(layout, min_images=200))


def test_runs_of_two_models(layout: RunLayout) -> None:
    """Their scores are never taken together."""
    make(layout, rows_of("screw", HUNDRED))
    make(RunLayout(layout.root, "r2"), rows_of("screw", HUNDRED), model_id="x" * 32)
    with pytest.raises(InputError, match=f"the same model, got {MODEL_ID} in r1 and {'x' * 32} in r2"):
        calibrate(config(layout, run_ids=("r1", "r2")))


def test_runs_of_two_rules_of_decoding(layout: RunLayout) -> None:
    """What is white in a 16-bit picture decides its score."""
    make(layout, rows_of("screw", HUNDRED))
    other = CONFIG | {"decode": DECODE | {"bit_depth_range": "0:4095"}}
    make(RunLayout(layout.root, "r2"), rows_of("screw", HUNDRED), config=other)
    with pytest.raises(InputError, match="the same rules of decoding"):
        calibrate(config(layout, run_ids=("r1", "r2")))


def test_bounds_are_no_rules_of_decoding(layout: RunLayout) -> None:
    """How large a picture may be changes no score; the table says by which rules the scores came."""
    make(layout, rows_of("screw", HUNDRED))
    make(RunLayout(layout.root, "r2"), rows_of("nut", HUNDRED), config=CONFIG | {"decode": DECODE | {"max_pixels": 7}})
    found = calibrate(config(layout, run_ids=("r1", "r2")))
    assert found.levels[0].image.images == 198
    (told,) = set(as_table(found)["decode"].to_pylist())
    assert json.loads(told) == {"alpha_background": "#ffffff", "bit_depth_range": None}


def test_no_such_run(layout: RunLayout) -> None:
    """Nor one that is not committed."""
    with pytest.raises(InputError, match="no committed run"):
        calibrate(config(layout))
    put(layout, "scores", rows_of("screw", HUNDRED), COLUMNS)
    with pytest.raises(InputError, match="was not committed"):
        calibrate(config(layout, run_ids=("r1",)))


@pytest.mark.parametrize("by", [("nope",), ("category", "category"), (), ("pred_mask",), ("run_id",)])
def test_columns_that_are_none(layout: RunLayout, by: tuple[str, ...]) -> None:
    """Groups are told by the category and by the run's own columns; the message names them."""
    make(layout, rows_of("screw", HUNDRED))
    with pytest.raises(InputError, match="--by: expected"):
        calibrate(config(layout, by=by))


@pytest.mark.parametrize(
    "options",
    [
        {"image_rate": 0.0},
        {"image_rate": 1.0},
        {"pixel_rate": -1},
        {"min_images": 0},
        {"max_map_images": 99},
        {"max_map_images": 500, "pixel_rate": 0.001},
        {"max_map_images": 99, "pixel_rule": "pixels"},
        {"by": ("category", "version")},
        {"by": ("Chosen",)},
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    """Found before anything is read."""
    with pytest.raises(InputError, match="expected"):
        CalibrateConfig(**options)


def test_every_image_scores_one(layout: RunLayout) -> None:
    """No threshold holds: the table has none for the group, and the summary warns."""
    make(layout, rows_of("screw", [1.0] * 99))
    found = calibrate(config(layout))
    assert levels(found) == {None: None, ("screw",): None}
    assert "WARNING: no threshold holds the rate" in as_text(found, "t")


def test_hostile_names(layout: RunLayout) -> None:
    """A group's name may be anything; on a terminal it is one line without commands."""
    make(layout, rows_of("a'); DROP TABLE chosen; --\x1b[2J\n", HUNDRED, line='"'))
    found = calibrate(config(layout, by=("category", "line")))
    assert len(found.levels) == 2
    assert "\x1b" not in as_text(found, "t")
