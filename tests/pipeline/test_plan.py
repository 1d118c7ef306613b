"""The plan: each image once, in reading order, in files of bounded size."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import plan as planning
from pipeline.attempt import plan_rows
from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.plan import PlanSummary, PlanWriter, metadata_types, write_plan
from pipeline.schema import PLAN
from pipeline.sources import PlanItem, PlanRows, recognise
from pipeline.storage import open_root

ROWS = PlanRows(category=None, template=None, metadata={})


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 10)


def planned(tmp_path: Path, *inputs: str, **fields: Any) -> tuple[list[dict[str, Any]], PlanSummary]:
    """The plan's rows and what was found, without Ray: images and manifests are listed here."""
    config = ScoreConfig(inputs=inputs, **fields)
    sources = [recognise(uri, forced=config.format) for uri in inputs]
    root = open_root(str(tmp_path / "out"))
    files, summary = write_plan(config, sources, root, root.join("plan"), rows=plan_rows(config, sources))
    tables = [pq.read_table(path) for path in files]
    return pa.concat_tables(tables).to_pylist(), summary


def test_a_folder_in_order(tmp_path: Path) -> None:
    """One row an image with id, URI, size and position; what is beside is counted."""
    fill(tmp_path / "in", "b.png", "a.png", "c/d.png", "notes.txt")
    rows, summary = planned(tmp_path, str(tmp_path / "in"))
    assert [row["image_uri"].removeprefix(f"{tmp_path}/in/") for row in rows] == ["a.png", "b.png", "c/d.png"]
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert len({row["image_id"] for row in rows}) == 3
    assert {(row["kind"], row["num_bytes"], row["stage"]) for row in rows} == {("file", 10, None)}
    assert (summary.planned, summary.num_bytes, summary.ignored) == (3, 30, {".txt": 1})
    assert summary.formats == {f"{tmp_path}/in": "images"}


def test_an_image_named_twice_is_planned_once(tmp_path: Path) -> None:
    """By a folder and by a manifest: the first mention stays, the second is counted."""
    fill(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "m.csv").write_text("uri\nin/b.png\nin/new.png\nin/new.png\n")
    rows, summary = planned(tmp_path, str(tmp_path / "in"), str(tmp_path / "m.csv"))
    assert [Path(row["image_uri"]).name for row in rows] == ["a.png", "b.png", "new.png"]
    assert (summary.planned, summary.duplicates) == (3, 2)


def test_bad_manifest_rows_are_planned_as_bad(tmp_path: Path) -> None:
    """A row that names no image has its place in the plan, and so in the quarantine."""
    (tmp_path / "m.csv").write_text("uri,category\na.png,nut\nssh://host/x,nut\n,nut\nb.png\n")
    rows, summary = planned(tmp_path, str(tmp_path / "m.csv"))
    assert [(row["stage"], row["reason"]) for row in rows] == [
        (None, None), ("list", "bad_uri"), ("list", "bad_uri"), ("list", "bad_manifest_row"),
    ]  # fmt: skip
    assert (summary.planned, summary.bad) == (4, 3)
    assert all(row["message"] for row in rows[1:])


@pytest.mark.parametrize("limit", [1, 3, 5, 99])
def test_limit_takes_the_first(tmp_path: Path, limit: int) -> None:
    """A first look: the first N in reading order, over all inputs."""
    fill(tmp_path / "x", "a.png", "b.png", "c.png")
    fill(tmp_path / "y", "d.png", "e.png")
    rows, _ = planned(tmp_path, str(tmp_path / "x"), str(tmp_path / "y"), limit=limit)
    assert "".join(Path(row["image_uri"]).stem for row in rows) == "abcde"[:limit]


def test_path_fields_become_columns(tmp_path: Path) -> None:
    """The template's fields, `category` among them; a path that does not match has nulls and is counted."""
    fill(tmp_path / "in", "l1/nut/a.png", "l2/bolt/b.png", "c.png")
    rows, summary = planned(tmp_path, str(tmp_path / "in"), path_fields="{line}/{category}/{name}")
    told = {Path(row["image_uri"]).name: (row["line"], row["category"], row["name"]) for row in rows}
    assert told == {"a.png": ("l1", "nut", "a"), "b.png": ("l2", "bolt", "b"), "c.png": (None, None, None)}
    assert summary.unmatched == 1


def test_path_fields_do_not_read_above_the_input(tmp_path: Path) -> None:
    """Fields are parsed below the folder that was given: its own name is no field."""
    fill(tmp_path / "in", "a.png")
    rows, _ = planned(tmp_path, str(tmp_path / "in"), path_fields="{line}/{name}")
    assert rows[0]["line"] is None


def test_kept_columns_and_the_category(tmp_path: Path) -> None:
    """A manifest's own columns and types; --category holds for all and wins."""
    table = pa.table({"uri": ["a.png", "b.png"], "lot": [7, None], "category": ["nut", None], "more": [[1], [2]]})
    pq.write_table(table, tmp_path / "m.parquet")
    rows, _ = planned(tmp_path, str(tmp_path / "m.parquet"), keep_columns=("lot", "more", "category"))
    assert [(row["lot"], row["more"], row["category"]) for row in rows] == [(7, "[1]", "nut"), (None, "[2]", None)]
    rows, _ = planned(tmp_path, str(tmp_path / "m.parquet"), category="bolt")
    assert [row["category"] for row in rows] == ["bolt", "bolt"]


def test_types_of_kept_columns(tmp_path: Path) -> None:
    """One Parquet type where all inputs agree, text elsewhere; a missing or reserved name is refused."""
    for name, lot in (("a", pa.array([1])), ("b", pa.array([1])), ("c", pa.array(["x"]))):
        pq.write_table(pa.table({"uri": ["u"], "lot": lot}), tmp_path / f"{name}.parquet")
    a, b, c = (recognise(str(tmp_path / f"{name}.parquet")) for name in "abc")
    config = ScoreConfig(inputs=("x",), keep_columns=("lot",))
    assert metadata_types(config, [a, b]) == {"lot": pa.int64()}
    assert metadata_types(config, [a, c]) == {"lot": pa.string()}
    wrong = [("nothing",), ("pred_score",), ("Path",), ("nth",), ("lot", "LOT")]  # SQL knows no upper case
    for keep, fields in (*((keep, None) for keep in wrong), (("lot",), "{lot}/{name}")):
        with pytest.raises(InputError, match="--keep-columns"):
            metadata_types(ScoreConfig(inputs=("x",), keep_columns=keep, path_fields=fields), [a])


def test_kept_columns_that_are_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A CSV manifest's header is known before anything starts, images have no columns; elsewhere a warning tells."""
    fill(tmp_path / "in", "a.png")
    (tmp_path / "m.csv").write_text("uri,lot\na.png,7\n")
    (tmp_path / "m.jsonl").write_text('{"uri": "a.png", "lot": 7}\n')
    with pytest.raises(InputError, match=r"m\.csv has no column 'lto'; it has \['uri', 'lot'\]"):
        planned(tmp_path, str(tmp_path / "m.csv"), keep_columns=("lto",))
    (tmp_path / "twice.csv").write_text("uri,lot,lot\na.png,7,8\n")
    with pytest.raises(InputError, match=r"twice\.csv has more than one column 'lot'"):
        planned(tmp_path, str(tmp_path / "twice.csv"), keep_columns=("lot",))
    with pytest.raises(InputError, match=r"--keep-columns lot: .*/in: images, which have no columns"):
        planned(tmp_path, str(tmp_path / "in"), keep_columns=("lot",))
    rows, _ = planned(tmp_path, str(tmp_path / "m.jsonl"), keep_columns=("lot", "lto"))
    assert (rows[0]["lot"], rows[0]["lto"]) == ("7", None)
    assert "--keep-columns lto: no image has a value for it" in caplog.text
    assert "columns lot:" not in caplog.text


def test_nothing_to_score_is_wrong_use(tmp_path: Path) -> None:
    """An empty manifest: told with its name."""
    (tmp_path / "m.csv").write_text("uri\n")
    with pytest.raises(InputError, match=r"m\.csv: no image to score"):
        planned(tmp_path, str(tmp_path / "m.csv"))


def test_files_are_cut_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever sizes come in, full files go out, the rest in the last; no row is lost or moved."""
    monkeypatch.setattr(planning, "ROWS_PER_FILE", 10)
    writer = PlanWriter(open_root(str(tmp_path)), str(tmp_path / "plan"), PLAN)
    names = [str(at) for at in range(47)]
    start = 0
    for size in (3, 0, 25, 1, 9, 9):
        writer.add(ROWS.table(PlanItem(image_uri=name) for name in names[start : start + size]))
        start += size
    tables = [pq.read_table(path) for path in writer.close()]
    assert [len(table) for table in tables] == [10, 10, 10, 10, 7]
    whole = pa.concat_tables(tables)
    assert whole["image_uri"].to_pylist() == names
    assert whole["position"].to_pylist() == list(range(47))


def test_odd_values_become_text() -> None:
    """JSON fields of any type, and names that are no UTF-8, are text that Parquet can hold."""
    rows = PlanRows(category=None, template=None, metadata={"lot": pa.string()})
    dated = [datetime.date(2024, 1, 2), decimal.Decimal("1.00")]
    values = [7, 1.5, True, [1, {"a": "ä"}], "text", None, float("nan"), b"\xff", "bad\udcff", *dated]
    items = [PlanItem(image_uri=f"u\udcff{at}", fields={"lot": value}) for at, value in enumerate(values)]
    table = rows.table(items)
    table.validate(full=True)
    assert table["lot"].to_pylist() == [
        "7", "1.5", "true", json.dumps([1, {"a": "ä"}], ensure_ascii=False), "text", None, None, "\\xff", "bad\\udcff",
        "2024-01-02", "1.00",
    ]  # fmt: skip
    assert len(set(table["image_id"].to_pylist())) == len(values)


def test_the_record_names_files_below_the_root(tmp_path: Path) -> None:
    """plan.json can be moved with its output root."""
    root = open_root(str(tmp_path))
    record = planning.plan_record([root.join("runs", "r", "plan", "0.parquet")], PlanSummary(planned=3), root)
    assert record["files"] == ["runs/r/plan/0.parquet"]
    assert PlanSummary(**json.loads(json.dumps(record["summary"]))).planned == 3
