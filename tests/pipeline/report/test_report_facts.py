"""What is counted, and of which runs: worked out by hand on small nights."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_making import HOSTILE, MODEL, night, rows_of
from run_making import MODEL_ID

from pipeline.errors import InputError
from pipeline.label_sets import FORMAT, LABELS, LabelLayout
from pipeline.layout import RunLayout
from pipeline.report import cells
from pipeline.report import facts as counting
from pipeline.report.calibration import read_calibration
from pipeline.report.cells import OTHERS, Cell
from pipeline.report.changes import changed, changes, with_labels
from pipeline.report.facts import gather
from pipeline.report.findings import group_lines, missed_groups, mix, new_groups, quarantined, uncompared
from pipeline.report.rates import Rate
from pipeline.report.window import find_window


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def counted(output: str, *run_ids: str, trailing: int = 14, **options: Any) -> Any:
    window = find_window(output, run_ids, trailing)
    return window, gather(output, window, **{"by": ("category",), "label_set": None} | options)


def label(layout: RunLayout, name: str, threshold: float) -> None:
    """A label set as jobs/label.py leaves it, image labels alone."""
    record = json.loads(Path(layout.commit_path).read_text())
    files = []
    for at, part in enumerate(one for one in record["files"] if one["table"] == "scores"):
        scores = pq.read_table(layout.root.join(part["path"]), partitioning=None).to_pylist()
        rows = [
            {
                "image_id": row["image_id"],
                "image_threshold": threshold,
                "pred_label": int(row["pred_score"] >= threshold),
            }
            for row in scores
        ]
        path = Path(LabelLayout(layout, name).part_path(f"part-{at}.parquet"))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, LABELS), path)
        files.append({"path": layout.below_root(str(path)), "scores": part["path"], "rows": part["rows"]})
    told = {"format": FORMAT, "run_id": layout.run_id, "label_set": name, "run_committed_at": record["committed_at"]}
    layout.write_json(LabelLayout(layout, name).record_path, told | {"files": files})


def test_a_window_is_of_one_model(output: str) -> None:
    """Earlier runs of the model, as many as are asked for; another model's between them are told, never compared."""
    for day in range(6):
        other = {"model_id": "other"} if day == 3 else {}
        night(output, f"n{day}", rows_of("a", [0.1]), day=day, **other)
    window = find_window(output, (), 3)
    assert window.run_ids == ("n5",)
    assert [record["run_id"] for record in window.before] == ["n1", "n2", "n4"]
    assert [mark.run_id for mark in window.others] == ["n3"]
    assert [record and record["run_id"] for record in window.previous] == ["n4"]
    assert find_window(output, ("n3",), 3).before == ()
    assert find_window(output, ("n0",), 3).previous == (None,)
    assert find_window(output, ("n5", "n2"), 0).before == ()
    assert find_window(output, ("n5", "n2", "n5"), 9).run_ids == ("n2", "n5")


def test_a_night_of_two_models_is_refused(output: str) -> None:
    """With both of them told; as is a run that does not exist, and an output without any."""
    night(output, "a", rows_of("a", [0.1]))
    night(output, "b", rows_of("a", [0.1]), day=1, model_id="other")
    with pytest.raises(InputError, match=rf"not comparable.*a \({MODEL_ID}\), b \(other\)"):
        find_window(output, ("a", "b"), 14)
    with pytest.raises(InputError, match="has no record"):
        find_window(output, ("c",), 14)
    with pytest.raises(InputError, match="no committed run"):
        find_window(output + "/nowhere", (), 14)


def test_a_damaged_record_of_an_earlier_run_is_told(output: str) -> None:
    """The report goes on without it, and says so; damage in what is reported is an error."""
    night(output, "a", rows_of("a", [0.1]))
    layout = night(output, "b", rows_of("a", [0.1]), day=1)
    Path(layout.commit_path).write_text("{")
    window = find_window(output, ("a",), 14)
    assert len(window.unreadable) == 1
    assert "runs/b.json: damaged" in window.unreadable[0]
    for fields in (
        {"counts": None},
        {"counts": {"planned": "many"}},
        {"counts": {"planned": -1}},
        {"committed_at": "soon"},
        {"model": "m"},
    ):
        night(output, "c", rows_of("a", [0.1]), day=2, **fields)
        with pytest.raises(InputError, match=r"record of run 'c'"):
            find_window(output, ("c",), 14)


def test_counts_by_hand(output: str) -> None:
    """Images, labels, anomalies and scores, by group and run; null is a group of its own, NaN in no mean."""
    rows = rows_of("a", [0.1, 0.5, 0.9]) + rows_of(None, [0.2, math.nan], threshold=None)
    night(output, "one", rows, bad=["/x", "/y"])
    window, found = counted(output)
    assert found.groups == (("a",), (None,))
    cell = found.cells[("a",), "one"]
    assert (cell.images, cell.labelled, cell.anomalies, cell.rate) == (3, 3, 2, Rate(2, 3))
    assert cell.mean_score == pytest.approx(0.5)
    assert cell.image_threshold == (0.5, 0.5)
    unlabelled = found.cells[(None,), "one"]
    assert (unlabelled.images, unlabelled.finite, unlabelled.labelled) == (2, 1, 0)
    assert (unlabelled.image_threshold, unlabelled.mean_score) == (None, pytest.approx(0.2))
    assert {group: int(counts.sum()) for group, counts in found.now.items() if counts.sum()} == {("a",): 3, (None,): 1}
    assert sum(int(counts.sum()) for counts in found.before.values()) == 0
    (bad,) = found.quarantine
    assert (bad.stage, bad.reason, bad.count, bad.examples) == ("decode", "truncated", 2, ("/x", "/y"))
    assert quarantined(window.now) == Rate(2, 7)
    assert quarantined([{"counts": {"planned": 1, "quarantined": 3}}, {"counts": {"planned": None}}]) == Rate(3, 3)


def test_several_runs_are_one_night(output: str) -> None:
    """Line by line scored, together reported; the earlier runs are those before the first of them."""
    night(output, "old", rows_of("a", [0.3] * 4), columns=["line"])
    night(output, "a1", rows_of("a", [0.1, 0.6], line="1"), day=1, columns=["line"])
    night(output, "a2", rows_of("a", [0.7], line="2"), day=2, columns=["line"])
    window, found = counted(output, "a1", "a2", by=("category", "line"))
    assert found.groups == (("a", "1"), ("a", "2"), ("a", None))
    assert found.total(window.run_ids) == found.cell(("a", "1"), ["a1"]) + found.cell(("a", "2"), ["a2"])
    assert found.total(window.run_ids).rate == Rate(2, 3)
    assert int(found.before[("a", None)].sum()) == 4
    assert missed_groups(found, window) == (), "one earlier run is no habit"
    assert new_groups(found, window) == ("a · 1", "a · 2")


def test_a_label_set_replaces_the_labels(output: str) -> None:
    """Earlier runs are counted by its thresholds whether they have it or not. The scores stay as they are."""
    scores = [0.2, 0.4, 0.6]
    night(output, "r1", rows_of("a", scores))
    for day in (1, 2):
        label(night(output, f"r{day + 1}", rows_of("a", scores), day=day), "strict", 0.3)
    _, found = counted(output, label_set="strict")
    assert [found.cells[("a",), run].rate for run in ("r1", "r2", "r3")] == [Rate(2, 3)] * 3, "by the same thresholds"
    assert int(found.before[("a",)].sum()) == 6
    with pytest.raises(InputError, match="no label set 'lax'"):
        counted(output, label_set="lax")


def test_earlier_runs_are_counted_by_this_times_thresholds(output: str) -> None:
    """Whatever theirs were: a threshold that moved makes no change of the rate. A score that equals it counts."""
    scores = [0.1] * 40 + [0.45] * 10
    night(output, "r1", rows_of("a", scores, threshold=0.4) + rows_of("b", scores, threshold=None))
    night(output, "r2", rows_of("a", scores, threshold=0.45) + rows_of("b", [0.9] * 50), day=1)
    window, found = counted(output)
    assert found.cells[("a",), "r1"].rate == Rate(10, 50), "0.45 is at or above 0.45, in float32 as in the table"
    lines, _ = group_lines(found, window)
    assert {line.name: (line.change, line.rates.before) for line in lines} == {"a": (0, 0.2), "b": (1, 0.0)}


def test_a_threshold_within_a_group_may_not_move_unseen(output: str) -> None:
    """Of a line with three categories, the one in the middle has another threshold: its earlier images are counted by
    this one, and nothing changed.
    """
    for day, limit in enumerate((0.8, 0.2)):
        limits = {"a": 0.1, "b": limit, "c": 0.9}
        rows = [row for name, at in limits.items() for row in rows_of(name, [0.45] * 40, threshold=at, line="L")]
        night(output, f"n{day}", rows, day=day, columns=["line"])
    window, found = counted(output, by=("line",))
    assert found.strata_by == ("line", "category")
    assert [found.cells[("L",), run].rate for run in ("n0", "n1")] == [Rate(80, 120)] * 2
    (line,), _ = group_lines(found, window)
    assert (line.change, line.rates.before) == (0, pytest.approx(2 / 3))


def test_several_thresholds_in_one_stratum(output: str) -> None:
    """By a column that nobody named: not compared, and said; named, it is."""
    for day in range(2):
        rows = rows_of("a", [0.3] * 40, threshold=0.2, camera="x") + rows_of("a", [0.3] * 40, threshold=0.4, camera="y")
        night(output, f"n{day}", rows, day=day, columns=["camera"])
    window, found = counted(output)
    (line,), _ = group_lines(found, window)
    assert (line.rates.before, found.cells[("a",), "n0"].labelled) == (None, 0)
    assert uncompared(found, window) == (
        "Rates are not compared where one group has several thresholds (--by what these are by): a.",
    )
    window, found = counted(output, by=("camera",))
    lines, total = group_lines(found, window)
    assert [line.rates.before for line in lines] == [1.0, 0.0]
    assert (total.rates.before, uncompared(found, window)) == (0.5, ())


def test_all_is_like_beside_like(output: str) -> None:
    """Three times as many of the dirty category are no higher rate, and no drift; the mix is told. What is new alone
    is left out, and the others are compared.
    """
    rng = np.random.default_rng(0)
    for day in range(7):
        dirty, clean = rng.beta(10, 20, 300 if day == 6 else 100), rng.beta(2, 60, 300 if day == 6 else 900)
        new = rows_of("new", [0.9]) if day == 6 else []
        night(output, f"n{day}", rows_of("dirty", dirty, 0.4) + rows_of("clean", clean, 0.4) + new, day=day)
    window, found = counted(output)
    _, total = group_lines(found, window)
    assert (total.change, total.rates.now.whole, total.drift.is_flagged) == (0, 600, False)
    before = [found.cells[("dirty",), f"n{day}"].rate for day in range(6)]
    assert total.rates.before == pytest.approx(300 / 600 * sum(one.part for one in before) / 600, abs=0.01)
    assert mix(found, window) == "clean is 49.9% of the images, before 90.0%"
    assert uncompared(found, window) == (
        "Rates are compared without what has fewer than 30 images before: new (1 image).",
    )


def test_one_new_image_hides_nothing(output: str) -> None:
    """The rate over all images is compared over what can be, whatever else is there."""
    names = [f"c{at}" for at in range(8)]
    for day in range(7):
        high = 5 if day == 6 else 1
        rows = [row for name in names for row in rows_of(name, [0.9] * high + [0.1] * (50 - high))]
        night(output, f"n{day}", rows + (rows_of("new", [0.1]) if day == 6 else []), day=day)
    lines, total = group_lines(*reversed(counted(output)))
    assert {line.change for line in lines} == {0}, "too little in each of them"
    assert (total.change, total.rates.now, total.rates.before) == (1, Rate(40, 400), pytest.approx(0.02))


def test_evaluations_and_calibration_sets_are_no_nights(output: str) -> None:
    """Left out unless --compare-with names them; also as the run before. They are told."""
    for day, dataset in enumerate(("auto", "visa", "plain", "auto", "auto")):
        night(output, f"n{day}", rows_of("a", [0.1]), day=day, config={"format": dataset})
    window = find_window(output, (), 14)
    assert (window.before_ids, window.left_out) == (("n0", "n3"), ("n1", "n2"))
    window = find_window(output, (), 14, left_out=("n3",))
    assert (window.before_ids, window.left_out) == (("n0",), ("n1", "n2", "n3"))
    assert [record and record["run_id"] for record in window.previous] == ["n0"]
    assert find_window(output, ("n3",), 1).before_ids == ("n0",)
    assert find_window(output, ("n2",), 1, left_out=("n0",)).left_out == ("n0", "n1"), "where nothing else was"
    window = find_window(output, (), 14, compare_with="n[12]")
    assert (window.before_ids, window.left_out) == (("n1", "n2"), ())


def test_lines_may_be_held_against_themselves(output: str) -> None:
    """The trailing runs of the names that are asked for, and the last of these as the run before."""
    for day in range(4):
        for line in ("a", "b"):
            night(output, f"{line}-{day}", rows_of("x", [0.1]), day=day)
    window = find_window(output, ("a-3",), 2, compare_with="a-*")
    assert window.before_ids == ("a-1", "a-2")
    assert [record and record["run_id"] for record in window.previous] == ["a-2"]
    assert find_window(output, ("a-3",), 2).before_ids == ("a-2", "b-2")


@pytest.mark.parametrize(
    ("nights", "skipped", "missed"),
    [(3, 0, ("b",)), (2, 0, ()), (5, 2, ("b",)), (4, 2, ())],
)
def test_what_is_missed(output: str, nights: int, skipped: int, missed: tuple[str, ...]) -> None:
    """What half of at least three whole nights had; runs that left out most as scored before say nothing."""
    for day in range(nights):
        rows = rows_of("a", [0.1] * 3) + rows_of("b", [0.1] * 2)
        counts = {"planned": 5, "scored": 5, "skipped": 100 if day < skipped else 0}
        night(output, f"n{day}", rows, day=day, counts=counts)
    night(output, "last", rows_of("a", [0.1]), day=9)
    window, found = counted(output)
    assert missed_groups(found, window) == missed
    night(output, "rerun", rows_of("a", [0.1]), day=10, counts={"planned": 1, "scored": 1, "skipped": 4})
    window, found = counted(output)
    assert missed_groups(found, window) == ()


def test_many_groups_are_folded(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest stand for themselves, the others together; nothing is lost. Far too many are refused."""
    night(output, "r", [row for at in range(6) for row in rows_of(f"c{at}", [0.1] * (6 - at))])
    monkeypatch.setattr(counting, "MOST_GROUPS", 4)
    window, found = counted(output)
    assert found.groups == (("c0",), ("c1",), ("c2",), ("c3",), OTHERS)
    assert found.cells[OTHERS, "r"].images == 3
    assert sum(int(counts.sum()) for counts in found.now.values()) == 21 == found.total(window.run_ids).images
    lines, total = group_lines(found, window)
    assert (lines[-1].name, lines[-1].drift.psi, total.drift.images) == ("(all others)", None, 0)
    monkeypatch.setattr(cells, "_MOST_CELLS", 5)
    with pytest.raises(InputError, match="--by: category make more than 5 groups"):
        counted(output)


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ('no" OR 1=1 --', "no column 'no\\\" OR 1=1 --'"),
        ("regions", "single values"),
        ("patch_scores", "single values"),
    ],
)
def test_columns_that_cannot_group(output: str, by: str, words: str) -> None:
    """Said with the columns that there are; nothing of a name is run as SQL."""
    night(output, "r", rows_of("a", [0.1]))
    with pytest.raises(InputError) as caught:
        counted(output, by=(by,))
    assert words.replace("\\", "") in str(caught.value)


def test_hostile_columns_and_values(output: str) -> None:
    """Any column's name and any text in it group images, each by itself."""
    name = "li\"ne'; DROP VIEW scores; --"
    night(output, "r", [row | {name: text} for text in HOSTILE for row in rows_of("a", [0.1])], columns=[name])
    _, found = counted(output, by=(name,))
    assert set(found.groups) == {(text,) for text in HOSTILE}


def table_of(path: Path, *rows: dict[str, Any], **fields: Any) -> str:
    usual = {"model_id": MODEL_ID, "category": None, "image_threshold": 0.5, "pixel_threshold": None}
    pq.write_table(pa.Table.from_pylist([usual | row | fields for row in rows]), path)
    return str(path)


def test_scores_of_the_calibration(output: str, tmp_path: Path) -> None:
    """The runs of the table, and of these the images that it was made from."""
    rows = rows_of("a", [0.1, 0.2], kind="good") + rows_of("a", [0.9], kind="hole") + rows_of("b", [0.3], kind="good")
    night(output, "r1", rows, columns=["kind"])
    night(output, "r2", rows_of("a", [0.5]), day=1)
    told = {"run_ids": ["r1", "gone"], "image_threshold_low": 0.4, "image_threshold_high": 0.6, "num_images": 3}
    uri = table_of(
        tmp_path / "t.parquet", {}, {"category": "a", "image_threshold": 0.25}, **told, chosen="kind = 'good'"
    )
    window = find_window(output, (), 14)
    found = read_calibration(uri, window, output)
    assert (found.run_ids, found.chosen) == (("r1",), "kind = 'good'")
    assert found.notes == ("1 of the 2 runs that the thresholds were calibrated on are not in this output.",)
    assert [row.image for row in found.of(("a",), ("category",))] == [0.25, 0.5]
    assert [row.image for row in found.of(("a", "x"), ("category", "line"))] == [0.25, 0.5]
    assert [row.image for row in found.of(("x",), ("line",))] == [0.5]
    _, counts = counted(output, calibration=found)
    assert int(counts.calibration[("a",)].sum()) == 2


def test_thresholds_of_images_without_a_category(output: str, tmp_path: Path) -> None:
    """A group of their own beside the pooled row, which has no category, either."""
    night(output, "r1", rows_of(None, [0.1]))
    rows = {"is_pooled": True}, {"is_pooled": False, "image_threshold": 0.25}
    found = read_calibration(table_of(tmp_path / "t.parquet", *rows), find_window(output, (), 14), output)
    assert [row.image for row in found.of((None,), ("category",))] == [0.25, 0.5]
    assert [row.image for row in found.of(("a",), ("category",))] == [0.5]


def test_calibrated_runs_are_of_the_model(output: str, tmp_path: Path) -> None:
    """One that has another's scores by now is told, and not compared with. A run that was taken whole is no night."""
    night(output, "r1", rows_of("a", [0.1]), model_id="z" * 32)
    night(output, "r2", rows_of("a", [0.1]), day=1)
    night(output, "r3", rows_of("a", [0.1]), day=2)
    window = find_window(output, (), 14)
    found = read_calibration(table_of(tmp_path / "t.parquet", {}, run_ids=["r1", "r2"]), window, output)
    assert (found.run_ids, found.own_runs) == (("r2",), ("r2",))
    assert found.notes == (
        "Runs of another model have by now the names of those that the thresholds were calibrated on (r1): "
        "they are not compared with.",
    )
    some = read_calibration(table_of(tmp_path / "t.parquet", {}, run_ids=["r2"], chosen="true"), window, output)
    assert (some.run_ids, some.own_runs) == (("r2",), ())


@pytest.mark.parametrize(
    "chosen",
    [
        "nowhere = 1",
        "true); SELECT 1; --",
        "1=1) AND 'a' = ((",
        "true); SET enable_external_access = true; SELECT (1",
        "EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))",
        "EXISTS (SELECT 1 FROM known)",
        "image_uri::INT = 1",
    ],
)
def test_a_hostile_condition_is_refused(output: str, tmp_path: Path, chosen: str) -> None:
    """What a table says of its images is a condition on these runs or nothing: no second statement, no other file."""
    night(output, "r1", rows_of("a", [0.1]))
    uri = table_of(tmp_path / "t.parquet", {}, run_ids=["r1"], chosen=chosen)
    window = find_window(output, (), 14)
    with pytest.raises(InputError, match="`chosen` is no condition"):
        gather(output, window, by=("category",), label_set=None, calibration=read_calibration(uri, window, output))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_id": "other"}, "for model other"),
        ({"run_ids": ["../x"]}, "run_ids: expected letters"),
        ({"run_ids": "r1"}, "a list of run ids"),
        ({"chosen": 7}, "the same condition"),
    ],
)
def test_tables_that_are_refused(output: str, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    """Another model's thresholds, and a table that names what no run is called."""
    night(output, "r1", rows_of("a", [0.1]))
    with pytest.raises(InputError, match=words):
        read_calibration(table_of(tmp_path / "t.parquet", {}, **fields), find_window(output, (), 14), output)


def test_what_changed_by_hand() -> None:
    """Field by field, secrets cut, a model's history apart, what is said twice told once."""
    old = {"model_id": "a", "model": MODEL, "config": {"model_id": "a", "inputs": ["s3://b/1"], "limit": None, "x": 1}}
    new = {
        "model_id": "b", "model": MODEL | {"provenance": {"seed": 1}},
        "config": {"model_id": "b", "inputs": ["https://u:secret@h/2?sig=secret"], "limit": 5}, "git_commit": "c",
    }  # fmt: skip
    found = changes(new, old)
    assert [(one.name, one.before, one.now) for one in found] == [
        ("model_id", "a", "b"),
        ("model.provenance.seed", "–", "1"),
        ("config.inputs", "s3://b/1", "https://h/2"),
        ("config.limit", "null", "5"),
        ("config.x", "1", "–"),
        ("git_commit", "null", "c"),
    ]
    assert [one.name for one in found if one.is_detail] == ["model.provenance.seed"]
    assert changes(new, new) == ()


def test_what_changed_is_told_apart() -> None:
    """Inputs, which an archive by date has anew each night, and a model's history stand by themselves."""
    old = {"run_id": "a", "model": MODEL, "config": {"inputs": ["/2026-11-01"]}}
    new = {"run_id": "b", "model": MODEL | {"provenance": {"seed": 1}}, "config": {"inputs": ["/2026-11-02"]}}
    found = changed(new, old)
    assert (found.run_id, found.before, found.fields) == ("b", "a", ())
    assert [one.now for one in found.inputs] == ["/2026-11-02"]
    assert [one.name for one in found.details] == ["model.provenance.seed"]
    assert changed(new, None).before is None


def test_what_a_label_set_was_made_by_is_compared() -> None:
    """Its table, the table's digest and its pooled thresholds, beside those of the run before."""
    record = {"run_id": "a", "config": {}}
    labels = {"thresholds": "t", "thresholds_digest": "1", "pooled": {"image": 0.5, "pixel": None}, "counts": {}}
    others = labels | {"thresholds_digest": "2", "pooled": {"image": 0.6, "pixel": None}}
    found = changes(with_labels(record, others), with_labels(record, labels))
    assert [(one.name, one.before, one.now) for one in found] == [
        ("labels.thresholds_digest", "1", "2"),
        ("labels.pooled.image", "0.5", "0.6"),
    ]
    assert {one.before for one in changes(with_labels(record, labels), with_labels(record, None))} == {"–"}


def test_cells_add_up() -> None:
    """Counts are summed, thresholds span."""
    one = Cell(images=2, labelled=2, anomalies=1, image_threshold=(0.4, 0.4))
    assert (one + Cell()).image_threshold == (0.4, 0.4)
    two = one + Cell(images=1, labelled=1, image_threshold=(0.5, 0.6))
    assert (two.images, two.rate, two.image_threshold) == (3, Rate(1, 3), (0.4, 0.6))


def test_a_run_without_scores(output: str) -> None:
    """All in quarantine: no groups, and no error."""
    night(output, "r", [], bad=["/a"])
    window, found = counted(output)
    assert (found.groups, found.total(window.run_ids)) == ((), Cell())
    lines, total = group_lines(found, window)
    assert (lines, total.drift.images) == ((), 0)
    assert np.isclose(quarantined(window.now).share or 0, 1.0)
