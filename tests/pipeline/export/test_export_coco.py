"""COCO files: pycocotools reads them, and gives back each mask bit for bit."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from export_making import NO_LABELS, blob, commit_rows, marked
from pycocotools.coco import COCO

from pipeline.errors import InputError
from pipeline.export.coco import CATEGORY, export_coco
from pipeline.export.selection import Selection
from pipeline.layout import RunLayout
from pipeline.masks import decode
from pipeline.storage import Root

# pycocotools hands NumPy an object of an older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

HOSTILE = 'a"\n\x1b[2J</script>\u2028検査.png'
MASKS = {
    "two": blob(20, 30, (1, 2, 3, 4), (10, 20, 5, 6)),
    "none": blob(7, 9),
    "all": blob(5, 4, (0, 0, 5, 4)),
    "corner": blob(33, 1, (32, 0, 1, 1)),
    HOSTILE: blob(40, 60, (0, 0, 40, 1), (0, 59, 40, 1)),
}


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [marked(name, mask, category="nut", line=name) for name, mask in MASKS.items()]


@pytest.fixture
def output(layout: RunLayout, rows: list[dict[str, Any]]) -> str:
    return commit_rows(layout, *rows, columns={"line": pa.string()})


def load(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_pycocotools_reads_every_mask(output: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """The regions of an image together are its mask; areas, boxes and scores are the table's."""
    told = export_coco(Selection(output=output), str(tmp_path / "c.json"))
    found = load(tmp_path / "c.json")
    assert (told.images, told.shapes, told.unmarked) == (5, 6, 0)
    assert found.loadCats([1]) == [CATEGORY]
    images = {image["image_id"]: image for image in found.dataset["images"]}
    for row in rows:
        image = images[row["image_id"]]
        annotations = found.loadAnns(found.getAnnIds(imgIds=image["id"]))
        shapes = [found.annToMask(one) for one in annotations]
        np.testing.assert_array_equal(sum(shapes, np.zeros((row["height"], row["width"]))), decode(row))
        assert [one["area"] for one in annotations] == [shape.sum() for shape in shapes]
        assert [np.float32(one["score"]) for one in annotations] == [one["peak_score"] for one in row["regions"]]
        for one, shape in zip(annotations, shapes, strict=True):
            (down,), (across,) = (np.nonzero(shape.any(axis=axis)) for axis in (1, 0))
            assert one["bbox"] == [across[0], down[0], np.ptp(across) + 1, np.ptp(down) + 1]


def test_what_an_image_is_told_with(output: str, tmp_path: Path) -> None:
    """Its own name, size, score and columns, whatever characters they are of."""
    export_coco(Selection(output=output, where="contains(image_id, 'script')"), str(tmp_path / "c.json"))
    (image,) = load(tmp_path / "c.json").dataset["images"]
    assert image == {
        "id": 1, "file_name": f"{HOSTILE}.png", "width": 60, "height": 40, "image_id": HOSTILE,
        "image_uri": f"/in/{HOSTILE}.png", "category": "nut", "pred_score": 0.875, "pred_label": 1,
        "columns": {"line": HOSTILE},
    }  # fmt: skip


def test_one_annotation_for_an_image(output: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """The whole mask, the image's score, a box around all of it; none for an empty mask."""
    export_coco(Selection(output=output), str(tmp_path / "c.json"), per="image")
    found = load(tmp_path / "c.json")
    assert len(found.anns) == 4
    by_id = {row["image_id"]: row for row in rows}
    for one in found.anns.values():
        row = by_id[found.imgs[one["image_id"]]["image_id"]]
        np.testing.assert_array_equal(found.annToMask(one), decode(row))
        assert (one["area"], one["score"]) == (row["mask_area"], 0.875)
    (two,) = [one for one in found.anns.values() if found.imgs[one["image_id"]]["image_id"] == "two"]
    assert two["bbox"] == [2, 1, 24, 14]


def test_results_are_loaded(output: str, tmp_path: Path) -> None:
    """COCO.loadRes takes the second file beside the first."""
    told = export_coco(Selection(output=output), str(tmp_path / "c.json"), results=str(tmp_path / "r.json"))
    truth = load(tmp_path / "c.json")
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(str(tmp_path / "r.json"))
    assert told.written == (str(tmp_path / "c.json"), str(tmp_path / "r.json"))
    assert [one["score"] for one in found.anns.values()] == [one["score"] for one in truth.anns.values()]
    for one, other in zip(found.anns.values(), truth.anns.values(), strict=True):
        np.testing.assert_array_equal(found.annToMask(one), truth.annToMask(other))


def test_the_file_of_save_comes_last(output: str, tmp_path: Path) -> None:
    """Where it is, the results are."""
    (tmp_path / "r.json").mkdir()
    with pytest.raises(InputError, match="got a folder"):
        export_coco(Selection(output=output), str(tmp_path / "c.json"), results=str(tmp_path / "r.json"))
    assert not (tmp_path / "c.json").exists()


def test_images_of_no_threshold_are_counted(layout: RunLayout, tmp_path: Path) -> None:
    """They have no annotations, and the summary says so; of a run without any masks nothing is made up."""
    rows = [marked("a", blob(3, 3, (0, 0, 1, 1))), marked("b", blob(3, 3), **NO_LABELS)]
    told = export_coco(Selection(output=commit_rows(layout, *rows)), str(tmp_path / "c.json"))
    assert (told.images, told.shapes, told.unmarked) == (2, 1, 1)
    bare = RunLayout(layout.root, "r2")
    commit_rows(bare, marked("a", blob(3, 3), **NO_LABELS))
    with pytest.raises(InputError, match=r"none of its 1 images has a mask.*jobs/label\.py"):
        export_coco(Selection(output=layout.root.path, run_id="r2"), str(tmp_path / "c2.json"))
    assert not (tmp_path / "c2.json").exists()


def test_no_image_is_a_file_all_the_same(output: str, tmp_path: Path) -> None:
    """A night without anomalies is no error for the script that exports them."""
    told = export_coco(Selection(output=output, where="false"), str(tmp_path / "c.json"))
    assert (told.images, load(tmp_path / "c.json").dataset["images"]) == (0, [])


def test_odd_values_are_json(layout: RunLayout, tmp_path: Path) -> None:
    """Columns hold what JSON has no word for."""
    columns = {"size": pa.float64(), "day": pa.date32(), "raw": pa.binary(), "many": pa.list_(pa.float32())}
    values = {"size": float("nan"), "day": 19000, "raw": b"\xff", "many": [float("inf"), 0.5]}
    output = commit_rows(layout, marked("a", blob(3, 3), **values), columns=columns)
    export_coco(Selection(output=output), str(tmp_path / "c.json"))
    (image,) = json.loads((tmp_path / "c.json").read_text(), parse_constant=pytest.fail)["images"]
    assert image["columns"] == {"size": None, "day": "2022-01-08", "raw": "\\xff", "many": [None, 0.5]}


def test_a_damaged_row_leaves_no_file(layout: RunLayout, tmp_path: Path) -> None:
    """Nor does it take the place of an older one."""
    (tmp_path / "c.json").write_text("older")
    output = commit_rows(layout, marked("a", blob(3, 3, (0, 0, 2, 2)), regions=[]))
    with pytest.raises(InputError, match=r"/in/a\.png: its row in the table is damaged: a mask of 4 pixels"):
        export_coco(Selection(output=output), str(tmp_path / "c.json"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["c.json"]
    assert (tmp_path / "c.json").read_text() == "older"


def test_into_a_store(output: str, memory_root: Root, tmp_path: Path) -> None:
    """The same bytes as on a disk."""
    export_coco(Selection(output=output), str(tmp_path / "c.json"))
    uri = memory_root.uri(memory_root.join("x/c.json"))
    assert export_coco(Selection(output=output), uri).written == (uri,)
    assert memory_root.fs.cat_file(memory_root.join("x/c.json")) == (tmp_path / "c.json").read_bytes()


@pytest.mark.parametrize("save", ["{folder}", "{folder}/x/"])
def test_a_folder_is_no_file(output: str, tmp_path: Path, save: str) -> None:
    """Said before anything is read."""
    with pytest.raises(InputError, match="expected the name of a file to write, got a folder"):
        export_coco(Selection(output=output), save.format(folder=tmp_path))
