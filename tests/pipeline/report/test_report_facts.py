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
from pipeline.report import facts as counting
from pipeline.report.calibration import read_calibration
from pipeline.report.changes import changes
from pipeline.report.facts import OTHERS, Cell, gather
from pipeline.report.findings import group_lines, missed_groups, new_groups, quarantined
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
    assert window.previous is not None and window.previous["run_id"] == "n4"
    assert find_window(output, ("n3",), 3).before == ()
    assert find_window(output, ("n0",), 3).previous is None
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
    for fields in ({"counts": None}, {"counts": {"planned": "many"}}, {"committed_at": "soon"}, {"model": "m"}):
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
    assert missed_groups(found, window) == ("a · (no line)",)
    assert new_groups(found, window) == ("a · 1", "a · 2")


def test_a_label_set_replaces_the_labels(output: str) -> None:
    """Where a run has it; one that lacks it has no labels. The scores stay as they are."""
    scores = [0.2, 0.4, 0.6]
    night(output, "r1", rows_of("a", scores))
    for day in (1, 2):
        label(night(output, f"r{day + 1}", rows_of("a", scores), day=day), "strict", 0.3)
    window, found = counted(output, label_set="strict")
    assert [found.cells[("a",), run].rate for run in ("r1", "r2", "r3")] == [Rate(0, 0), Rate(2, 3), Rate(2, 3)]
    assert int(found.before[("a",)].sum()) == 6
    lines, _ = group_lines(found, window)
    assert lines[0].before == Rate(2, 3), "of the run that has the same thresholds alone"
    with pytest.raises(InputError, match="no label set 'lax'"):
        counted(output, label_set="lax")


def test_rates_of_other_thresholds_are_not_compared(output: str) -> None:
    """Nothing is said of a change where the threshold was another one."""
    night(output, "r1", rows_of("a", [0.1] * 50, threshold=0.4) + rows_of("b", [0.1] * 50))
    night(output, "r2", rows_of("a", [0.9] * 50) + rows_of("b", [0.9] * 50), day=1)
    window, found = counted(output)
    lines, total = group_lines(found, window)
    assert {line.name: (line.change, line.before) for line in lines} == {"a": (0, Rate(0, 0)), "b": (1, Rate(0, 50))}
    assert total.change == 0


def test_many_groups_are_folded(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest stand for themselves, the others together; nothing is lost. Far too many are refused."""
    night(output, "r", [row for at in range(6) for row in rows_of(f"c{at}", [0.1] * (6 - at))])
    monkeypatch.setattr(counting, "MOST_GROUPS", 4)
    window, found = counted(output)
    assert found.groups == (("c0",), ("c1",), ("c2",), ("c3",), OTHERS)
    assert found.cells[OTHERS, "r"].images == 3
    assert sum(int(counts.sum()) for counts in found.now.values()) == 21 == found.total(window.run_ids).images
    lines, total = group_lines(found, window)
    assert (lines[-1].name, lines[-1].drift.psi, total.drift.images) == ("(all others)", None, 21)
    monkeypatch.setattr(counting, "_MOST_CELLS", 5)
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
