"""The way back: what people decided becomes a manifest that our jobs read; files of reviews may hold anything."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_making import blob, commit_rows, marked, pictured
from PIL import Image
from run_making import score_row

from pipeline.datasets.plain import read_plain
from pipeline.errors import InputError
from pipeline.export.coco import export_coco
from pipeline.export.label_studio import export_label_studio
from pipeline.export.names import picture_name
from pipeline.export.pictures import export_pictures
from pipeline.export.reviewed import Labelled, import_reviewed
from pipeline.export.selection import Selection
from pipeline.layout import RunLayout
from pipeline.masks import decode, encode

# pycocotools hands NumPy an object of an older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SPOT = blob(20, 30, (1, 2, 3, 4), (10, 20, 5, 6))
RUNS = [int(run) for run in np.diff(np.flatnonzero(np.diff(SPOT.ravel(order="F").astype(int), prepend=1, append=1)))]


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """a is marked, b is not, c is marked and nobody reviews it."""
    masks = {"a.png": SPOT, "sub/b b.png": blob(20, 30), "c.png": SPOT}
    return [pictured(tmp_path / "in", name, mask, category="nut") for name, mask in masks.items()]


@pytest.fixture
def output(layout: RunLayout, rows: list[dict[str, Any]]) -> str:
    return commit_rows(layout, *rows)


def back(output: str, document: Any, folder: Path, **options: Any) -> tuple[Labelled, dict[str, dict[str, str]]]:
    (folder / "review.json").write_text(document if isinstance(document, str) else json.dumps(document))
    told = import_reviewed(Selection(output=output), str(folder / "review.json"), str(folder / "r.csv"), **options)
    with (folder / "r.csv").open(newline="") as file:
        return told, {row["image_id"]: row for row in csv.DictReader(file)}


def mask_of(row: dict[str, str], folder: Path) -> np.ndarray:
    return np.asarray(Image.open(folder / row["mask_uri"])) == 255


CATEGORIES = [{"id": 1, "name": "anomaly"}, {"id": 2, "name": "outline"}, {"id": 3, "name": "scratch"}]


def image(name: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 30, "height": 20} | fields


def coco(*annotations: Any, images: Any = None) -> dict[str, Any]:
    """As CVAT writes it: no `image_id` of ours, all labels of the project."""
    given = images or [image("a.png"), image("sub/b b.png", 2)]
    shapes = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]} | one for one in annotations]
    return {"images": given, "annotations": shapes, "categories": CATEGORIES}


def test_out_and_back(output: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Our own COCO file, unchanged: every mask as it was, every image without one normal; jobs/evaluate.py reads it."""
    export_coco(Selection(output=output, where="image_id != 'c.png'"), str(tmp_path / "c.json"))
    told, found = back(output, (tmp_path / "c.json").read_text(), tmp_path)
    assert (told.anomalous, told.normal, told.unknown, told.contradictory) == (1, 1, 0, 0)
    assert found.keys() == {"a.png", "sub/b b.png"}
    np.testing.assert_array_equal(mask_of(found["a.png"], tmp_path), SPOT)
    dataset = read_plain(told.manifest)
    assert [(one.image_uri, one.label, one.category) for one in dataset.images] == [
        (str(tmp_path / "in/a.png"), 1, "nut"), (str(tmp_path / "in/sub/b b.png"), 0, "nut"),
    ]  # fmt: skip
    assert [bool(one.mask_uri) for one in dataset.images] == [True, False]


@pytest.mark.parametrize(
    "shape",
    [
        {"segmentation": encode(SPOT)},
        {"segmentation": {"size": [20, 30], "counts": RUNS}},
        {"segmentation": [[2, 1, 6, 1, 6, 4, 2, 4], [20, 10, 26, 10, 26, 15, 20, 15]]},
    ],
)
def test_cocos_shapes(output: str, tmp_path: Path, shape: Any) -> None:
    """Runs compressed or not, and polygons; names alone tell the image."""
    told, found = back(output, coco(shape), tmp_path)
    assert (told.anomalous, told.normal) == (1, 1)
    np.testing.assert_array_equal(mask_of(found["a.png"], tmp_path), SPOT)


def test_shapes_of_one_image_are_one_mask(output: str, tmp_path: Path) -> None:
    """A box without a segmentation is its pixels."""
    boxes = [{"bbox": [2, 1, 4, 3], "segmentation": []}, {"bbox": [20, 10, 6, 5]}]
    _, found = back(output, coco(*boxes), tmp_path)
    np.testing.assert_array_equal(mask_of(found["a.png"], tmp_path), SPOT)


def annotated(task: dict[str, Any], *results: Any, **fields: Any) -> dict[str, Any]:
    made = [{"id": at, "result": result, "was_cancelled": False} for at, result in enumerate(results)]
    return {"id": 1, "data": task["data"], "annotations": [one | fields for one in made]}


@pytest.mark.parametrize("shape", ["brush", "rectangle"])
def test_label_studio_out_and_back(output: str, tmp_path: Path, shape: Any) -> None:
    """Predictions that were taken over as they are; what nobody submitted was not reviewed."""
    export_label_studio(Selection(output=output), str(tmp_path / "t.json"), shape=shape)
    tasks = json.loads((tmp_path / "t.json").read_text())
    done = [annotated(task, task["predictions"][0]["result"]) for task in tasks[:2]]
    told, found = back(output, [*done, annotated(tasks[2])], tmp_path)
    labels = {name: row["label"] for name, row in found.items()}
    assert labels == {task["data"]["image_id"]: str(task["data"]["pred_label"]) for task in tasks[:2]}
    np.testing.assert_array_equal(mask_of(found["a.png"], tmp_path), SPOT)
    assert told.contradictory == 0


def choice(value: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "verdict", "value": {"choices": [value]}}


def region(kind: str, label: str = "anomaly", **value: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": 30, "original_height": 20, "value": value | {kind: [label]}}


PLACE = {"x": 10, "y": 20, "width": 20, "height": 25, "rotation": 0}
BOX = region("rectanglelabels", **PLACE)


@pytest.mark.parametrize(
    ("results", "label", "contradictory"),
    [
        ([[choice("normal"), BOX]], "0", 1),
        ([[choice("anomalous")]], "1", 0),
        ([[BOX]], "1", 0),
        ([[]], "0", 0),
        ([[BOX], [choice("normal")]], "0", 0),
        ([[{"type": "textarea", "value": {"text": ["odd"]}}]], "0", 0),
    ],
)
def test_what_label_studio_says(output: str, tmp_path: Path, results: Any, label: str, contradictory: int) -> None:
    """The verdict goes before the shapes, the later annotation before the earlier; a normal one has no shapes."""
    told, found = back(output, [annotated({"data": {"image_id": "a.png"}}, *results)], tmp_path)
    assert (found["a.png"]["label"], told.contradictory) == (label, contradictory)
    assert bool(found["a.png"]["mask_uri"]) == (label == "1" and BOX in results[-1])


def test_an_image_that_is_in_a_coco_file_twice(output: str, tmp_path: Path) -> None:
    """All its shapes count, whichever entry has them: a defect that was found stays one."""
    twice = [image("a.png"), image("a.png", 2), image("sub/b b.png", 3)]
    for numbers in ((1, 2), (1, 1), (2, 2)):
        boxes = [{"bbox": [2, 1, 4, 3], "image_id": numbers[0]}, {"bbox": [20, 10, 6, 5], "image_id": numbers[1]}]
        told, found = back(output, coco(*boxes, images=twice), tmp_path)
        assert (told.anomalous, told.normal, told.repeated, told.unknown) == (1, 1, 1, 0)
        np.testing.assert_array_equal(mask_of(found["a.png"], tmp_path), SPOT)


@pytest.mark.parametrize("is_by_name", [False, True])
@pytest.mark.parametrize(("times", "label"), [(("2", "1"), "1"), (("1", "2"), "0"), (("1", "1"), "1")])
def test_an_image_in_two_tasks(output: str, tmp_path: Path, times: Any, label: str, is_by_name: bool) -> None:
    """What was changed last counts, in whatever order the tasks come; at one time, the defect."""
    name = {"image": "a.png"} if is_by_name else {"image_id": "a.png"}
    both = [({"image_id": "a.png"}, [choice("anomalous"), BOX]), (name, [choice("normal")])]
    tasks = [
        annotated({"data": data}, result, updated_at=f"2026-03-0{at}T04:00:00Z")
        for (data, result), at in zip(both, times, strict=True)
    ]
    for order in (tasks, tasks[::-1]):
        told, found = back(output, order, tmp_path)
        assert (found["a.png"]["label"], told.repeated, told.unknown) == (label, 1, 0)


def test_shapes_of_other_labels(output: str, tmp_path: Path) -> None:
    """An outline of the product is no defect: left out and counted, unless it is asked for."""
    boxes = [{"category_id": 2}, {"category_id": 3, "image_id": 2, "bbox": [2, 1, 4, 3]}]
    label_studio = [
        annotated({"data": {"image_id": "a.png"}}, [BOX | region("rectanglelabels", "outline", x=0, y=0)]),
        annotated({"data": {"image_id": "sub/b b.png"}}, [region("rectanglelabels", "scratch", **PLACE)]),
    ]
    for document in (coco(*boxes), label_studio):
        told, _ = back(output, document, tmp_path)
        assert (told.anomalous, told.normal, told.left_out) == (0, 2, {"outline": 1, "scratch": 1})
        told, found = back(output, document, tmp_path, labels=("anomaly", "scratch"))
        assert (told.anomalous, told.normal, told.left_out) == (1, 1, {"outline": 1})
        assert found["sub/b b.png"]["mask_uri"]


def test_a_skipped_task_is_not_reviewed(output: str, tmp_path: Path) -> None:
    """Label Studio keeps an annotation of it, as cancelled."""
    skipped = annotated({"data": {"image_id": "a.png"}}, [BOX], was_cancelled=True)
    _, found = back(output, [skipped, annotated({"data": {"image_id": "c.png"}}, [BOX])], tmp_path)
    assert found.keys() == {"c.png"}


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (BOX, blob(20, 30, (4, 3, 5, 6))),
        (region("rectanglelabels", x=50, y=20, width=25, height=20, rotation=90), blob(20, 30, (4, 11, 8, 4))),
        (region("polygonlabels", points=[[10, 20], [30, 20], [30, 45], [10, 45]]), blob(20, 30, (4, 3, 5, 6))),
    ],
)
def test_label_studios_shapes(output: str, tmp_path: Path, drawn: Any, expected: np.ndarray) -> None:
    """In percent of the sides; rectangles turn about their upper left corner."""
    width, height = drawn["value"].get("width"), drawn["value"].get("height")
    if drawn["value"].get("rotation"):  # 25 % of 30 px is no whole number of pixels
        drawn = drawn | {"value": drawn["value"] | {"width": 8 / 30 * 100, "height": 20}}
        assert (width, height) == (25, 20)
    _, found = back(output, [annotated({"data": {"image_id": "a.png"}}, [drawn])], tmp_path)
    np.testing.assert_array_equal(mask_of(found["a.png"], tmp_path), expected)


def test_pictures_out_and_back(layout: RunLayout, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Of images in shards the copies are labelled, under the copies' names, and the manifest names the copies."""
    rows = [row | {"shard": None} for row in rows]
    output = commit_rows(layout, *rows)
    folder = tmp_path / "set"
    export_pictures(Selection(output=output), str(folder), "original")
    images = [image(picture_name(row), number) for number, row in enumerate(rows)]
    told, found = back(output, coco(images=images), tmp_path, pictures=str(folder))
    assert told.normal == 3
    assert all(Path(row["uri"]).parent == folder and Path(row["uri"]).exists() for row in found.values())


def test_names_of_other_pictures_are_counted(output: str, tmp_path: Path) -> None:
    """And one of them is named."""
    told, _ = back(output, coco(images=[image("a.png"), image("x\x1b[2J.png", 2)]), tmp_path)
    assert (told.normal, told.unknown, told.first_unknown) == (1, 1, "x\x1b[2J.png")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("no json", "expected COCO"),
        ("[" * 100_000, "expected COCO"),
        ({}, "expected COCO"),
        ([{"data": {}}], "expected COCO"),
        ({"images": [{}], "annotations": []}, "KeyError: 'id'"),
        ({"images": 3, "annotations": []}, "TypeError"),
        (coco({"image_id": 77}), "KeyError: 77"),
        (coco({"category_id": 77}), "KeyError: 77"),
        (coco({}) | {"categories": CATEGORIES[1:]}, "--labels: the file has none of anomaly; it has outline, scratch"),
        (coco({}, images=[image("a.png"), image("a.png", 2, width=31)]), "a.png: .* pictures of several sizes"),
        ([{"data": None, "annotations": [{"result": []}]}], "AttributeError"),
        ([{"data": {}, "annotations": [{"result": [{"type": "choices"}]}]}], "KeyError: 'value'"),
        (coco({"segmentation": {"size": [20, 30], "counts": "zz~"}}), "a.png: its shapes cannot be used: the mask"),
        (coco({"segmentation": {"size": [9, 9], "counts": RUNS[:1]}}), "runs do not fill"),
        (coco({"segmentation": {"size": [9, 9], "counts": encode(SPOT)["counts"]}}), "a mask of"),
        (coco({"segmentation": [[1, 2]]}), "less than three points"),
        (coco({"segmentation": [[1, 2, 3, float("nan"), 5, 6]]}), "polygon"),
        (coco({"bbox": [1]}), "cannot be used"),
        (coco({"bbox": None}), "cannot be used"),
        (coco({}, images=[image("a.png", width=31)]), r"drawn on 31×20 pixels; the picture has 30×20"),
        ([annotated({"data": {"image_id": "a.png"}}, [region("ellipselabels", x=1)])], "got 'ellipselabels'"),
        ([annotated({"data": {"image_id": "a.png"}}, [region("brushlabels", rle=[300])])], "cannot be used"),
        ([annotated({"data": {"image_id": "a.png"}}, [BOX, BOX | {"original_width": 3}])], "several sizes"),
        ([{"data": {"image_id": "a.png"}, "annotations": []}], "nobody has reviewed"),
        (coco(images=[image("other.png")]), "none of its pictures is one of run 'r1'; the first is named 'other.png'"),
    ],
)
def test_what_cannot_be_used_is_wrong_use(output: str, tmp_path: Path, document: Any, words: str) -> None:
    """Said in one line; and no manifest is left that holds a part."""
    with pytest.raises(InputError, match=words):
        back(output, document, tmp_path)
    assert not (tmp_path / "r.csv").exists()


def test_a_file_that_is_not_there(output: str, tmp_path: Path) -> None:
    """As any other wrong use."""
    with pytest.raises(InputError, match="no such file"):
        import_reviewed(Selection(output=output), str(tmp_path / "gone.json"), str(tmp_path / "r.csv"))


def test_masks_of_hostile_names_stay_in_their_folder(layout: RunLayout, tmp_path: Path) -> None:
    """Nothing of a name is a path."""
    row = marked("../../x", SPOT, image_uri="/in/../../../etc/x.png")
    output = commit_rows(layout, row, score_row("y"))
    _, found = back(output, [annotated({"data": {"image_id": "../../x"}}, [BOX])], tmp_path)
    assert list((tmp_path / "r-masks").iterdir()) == [tmp_path / found["../../x"]["mask_uri"]]
    assert decode(row).any()
