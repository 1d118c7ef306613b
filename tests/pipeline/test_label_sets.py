"""Label sets beside a run: readers see committed ones of this very run, and no others."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from run_making import NOW, commit_run, make_run, put, score_row

import pipeline
from pipeline.errors import InputError
from pipeline.label_sets import FORMAT, LABEL_COLUMNS, LABELS, LabelLayout, committed
from pipeline.layout import RunLayout
from pipeline.parts import footer_digest, parquet_bytes
from pipeline.runs import read_record
from pipeline.schema import SCORES
from pipeline.upkeep.details import details
from pipeline.upkeep.discard import find_removal, remove
from pipeline.upkeep.text import details_text, removal_text
from pipeline.upkeep.verify import verify


def make_labels(layout: RunLayout, name: str = "new", *, anomalous: int = 1, **fields: Any) -> Path:
    """A label set in which every image has the same label, no masks; its record's path."""
    run, labels = read_record(layout), LabelLayout(layout, name)
    assert run is not None
    files = []
    for number, part in enumerate(file for file in run["files"] if file["table"] == "scores"):
        ids = pa.parquet.read_table(layout.root.join(part["path"]))["image_id"].to_pylist()
        threshold = 0.25 if anomalous else 0.75
        rows = [{"image_id": one, "image_threshold": threshold, "pred_label": anomalous} for one in ids]
        path = Path(labels.part_path(f"part-{number}.parquet"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, LABELS)))
        with path.open("rb") as file:
            digest = footer_digest(file)
        told = {"path": layout.below_root(str(path)), "rows": len(rows), "num_bytes": path.stat().st_size}
        files.append(told | {"scores": part["path"], "footer_sha256": digest})
    counts = {"images": 3, "labelled": 3, "anomalous": 3 * anomalous, "masked": 0}
    record = {"format": FORMAT, "run_id": layout.run_id, "label_set": name, "counts": counts, "files": files}
    record |= {"run_committed_at": run["committed_at"], "committed_at": NOW.isoformat()}
    layout.write_json(labels.record_path, record | fields)
    return Path(labels.record_path)


def labels_of(run: pipeline.Run) -> list[int | None]:
    return [label for table in run.tables(["pred_label"]) for label in table["pred_label"].to_pylist()]


def test_a_run_with_other_labels(layout: RunLayout) -> None:
    """The scores stay as they are; labels, thresholds and masks are those of the label set."""
    make_run(layout)
    make_labels(layout)
    own, other = (pipeline.open_run(layout.root.path, label_set=name) for name in (None, "new"))
    assert labels_of(own) == [None] * 3
    assert labels_of(other) == [1] * 3
    (mine, theirs) = (pa.concat_tables(run.tables()) for run in (own, other))
    assert mine.schema == theirs.schema
    assert mine.drop_columns(list(LABEL_COLUMNS)) == theirs.drop_columns(list(LABEL_COLUMNS))


def test_no_labels_of_the_run_under_another_name(layout: RunLayout) -> None:
    """The dataset of the scores, which cannot have a label set's, then has none."""
    make_run(layout)
    make_labels(layout)
    run = pipeline.open_run(layout.root.path, label_set="new")
    assert set(run.scores.schema.names) == set(SCORES.names) - set(LABEL_COLUMNS)
    assert run.scores.to_table(["pred_score"])["pred_score"].to_pylist() == [0.5] * 3


def test_labels_without_a_record_do_not_exist(layout: RunLayout) -> None:
    """Parts that a killed process left are nobody's; the message names what there is."""
    make_run(layout)
    make_labels(layout, "other")
    make_labels(layout).unlink()
    with pytest.raises(InputError, match="no label set 'new'; it has run, other"):
        pipeline.open_run(layout.root.path, label_set="new")


def test_labels_of_a_run_that_was_discarded(layout: RunLayout) -> None:
    """Another run under the same id is not shown with them; by name the reason is told."""
    make_run(layout)
    make_labels(layout, run_committed_at="2020-01-01T00:00:00")
    record = read_record(layout)
    assert committed(layout, record) == {}
    with pytest.raises(InputError, match="which was discarded since"):
        pipeline.open_run(layout.root.path, label_set="new")
    with pipeline.open_views(layout.root.path) as sql:
        assert sql.execute("SELECT DISTINCT label_set FROM labels").fetchall() == [("run",)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "cops-labels/2"}, "expected a record of format cops-labels/1"),
        ({"run_id": "r9"}, "expected the labels 'new' of run 'r1'"),
        ({"label_set": "x"}, "expected the labels 'new' of run 'r1'"),
        ({"files": []}, "one file for each part"),
        ({"files": [{"path": "../../etc/passwd"}, {}]}, "one file for each part"),
        ({"files": "x"}, "one file for each part"),
    ],
)
def test_a_record_that_is_none(layout: RunLayout, fields: dict[str, Any], message: str) -> None:
    """A record is data: it leads nowhere but to the files of its own label set."""
    make_run(layout)
    make_labels(layout, **fields)
    with pytest.raises(InputError, match=message):
        pipeline.open_run(layout.root.path, label_set="new")


@pytest.mark.parametrize(
    "path", ["../x.parquet", "scores/run_id=r1/x.parquet", "labels/run_id=r1/label_set=y/x.parquet"]
)
def test_files_of_others(layout: RunLayout, path: str) -> None:
    """Not even another label set's."""
    make_run(layout)
    record = make_labels(layout)
    told = json.loads(record.read_text())
    told["files"][0]["path"] = path
    record.write_text(json.dumps(told))
    with pytest.raises(InputError, match="one file for each part"):
        pipeline.open_run(layout.root.path, label_set="new")


@pytest.mark.parametrize("name", ["../x", "", "run'; DROP", "a/b"])
def test_names(layout: RunLayout, name: str) -> None:
    """As run ids: fit for a folder."""
    make_run(layout)
    with pytest.raises(InputError, match="label set"):
        pipeline.open_run(layout.root.path, label_set=name or "/")


def test_columns_that_are_not_there(layout: RunLayout) -> None:
    """The message names those that are."""
    make_run(layout)
    with pytest.raises(InputError, match=r"got \['nope'\]; it has image_id"):
        list(pipeline.open_run(layout.root.path).tables(["nope"]))


def test_looked_after(layout: RunLayout) -> None:
    """`show` names a run's label sets, `verify` reads them, `discard` removes them."""
    make_run(layout)
    make_labels(layout)
    make_labels(layout, "other", anomalous=0)
    assert "    other: 0 of 3 images anomalous" in details_text(details(layout.root.path, "r1"))
    assert verify(layout.root.path).is_sound
    removal = find_removal(layout.root.path, "r1")
    assert "its label sets: new, other" in removal_text(removal)
    remove(removal)
    assert not [path for path in Path(layout.root.path).rglob("*") if path.is_file()]


def test_rot_and_strays_are_found(layout: RunLayout) -> None:
    """Bytes that changed, a file that is gone, one that nobody recorded, a record that is cut."""
    make_run(layout)
    record = make_labels(layout)
    folder = Path(LabelLayout(layout, "new").folder)
    first, second = sorted(folder.iterdir())
    data = bytearray(first.read_bytes())
    data[40:80] = bytes(40)
    first.write_bytes(data)
    second.unlink()
    (folder / "part-x.parquet").write_bytes(b"")
    found = {one.path.rpartition("/")[2]: one.problem for one in verify(layout.root.path).findings}
    assert set(found) == {first.name, second.name, "part-x.parquet"}
    assert "cannot be read whole" in found[first.name]
    assert "missing" in found[second.name]
    removal = find_removal(layout.root.path, "r1", only_strays=True)
    assert [entry.name for entry in removal.entries] == ["part-x.parquet"]
    record.write_text("{")
    (one,) = (one for one in verify(layout.root.path).findings if "label_sets" in one.path)
    assert "damaged" in one.problem
    assert not find_removal(layout.root.path, "r1", only_strays=True).entries  # whose they are, nobody knows now


def test_labels_of_other_images(layout: RunLayout) -> None:
    """They would be shown on the wrong pictures."""
    put(layout, "scores", [score_row("a"), score_row("b")])
    commit_run(layout)
    make_labels(layout)
    (part,) = Path(LabelLayout(layout, "new").folder).iterdir()
    turned = pa.parquet.read_table(part).take([1, 0])
    part.write_bytes(parquet_bytes(turned.cast(LABELS)))
    record = Path(LabelLayout(layout, "new").record_path)
    told = json.loads(record.read_text())
    with part.open("rb") as file:
        told["files"][0] |= {"footer_sha256": footer_digest(file), "num_bytes": part.stat().st_size}
    record.write_text(json.dumps(told))
    (one,) = verify(layout.root.path).findings
    assert "one for one" in one.problem


def test_labels_that_their_threshold_does_not_make(layout: RunLayout) -> None:
    """A label that nobody's threshold gave is found."""
    make_run(layout)
    make_labels(layout)
    (part, *_) = sorted(Path(LabelLayout(layout, "new").folder).iterdir())
    table = pa.parquet.read_table(part)
    wrong = table.set_column(2, "pred_label", pa.array([0] * len(table), pa.int8()))
    part.write_bytes(parquet_bytes(wrong))
    record = Path(LabelLayout(layout, "new").record_path)
    told = json.loads(record.read_text())
    with part.open("rb") as file:
        told["files"][0] |= {"footer_sha256": footer_digest(file), "num_bytes": part.stat().st_size}
    record.write_text(json.dumps(told))
    (one,) = verify(layout.root.path).findings
    assert one.problem == "pred_label is not what image_threshold makes of pred_score"
