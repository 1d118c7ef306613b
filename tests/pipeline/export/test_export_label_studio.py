"""Label Studio's tasks: every region drawn where it is, every name safe in a URL."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from export_making import NO_LABELS, blob, commit_rows, marked

from pipeline.errors import InputError
from pipeline.export.label_studio import Shape, export_label_studio
from pipeline.export.reading import unpacked
from pipeline.export.selection import Selection
from pipeline.layout import RunLayout
from pipeline.masks import decode

TWO = blob(20, 30, (1, 2, 3, 4), (10, 20, 5, 6))


def tasks(layout: RunLayout, tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    columns = options.pop("columns", None)
    output = commit_rows(layout, *rows, columns=columns)
    export_label_studio(Selection(output=output), str(tmp_path / "t.json"), **options)
    found: list[dict[str, Any]] = json.loads((tmp_path / "t.json").read_text())
    return found


def test_regions_are_brushes(layout: RunLayout, tmp_path: Path) -> None:
    """Together they are the mask; each has its peak, the prediction the image's score, labels and names the setup's."""
    row = marked("a", TWO)
    (task,) = tasks(layout, tmp_path, row)
    (prediction,) = task["predictions"]
    *regions, verdict = prediction["result"]
    drawn = sum(unpacked(one["value"]["rle"], TWO.shape).astype(int) for one in regions)
    np.testing.assert_array_equal(drawn, decode(row))
    assert [np.float32(one["score"]) for one in regions] == [one["peak_score"] for one in row["regions"]]
    assert {(one["original_width"], one["original_height"]) for one in regions} == {(30, 20)}
    assert verdict["value"] == {"choices": ["anomalous"]}
    assert prediction["score"] == 0.875
    assert task["data"]["image_id"] == "a"


@pytest.mark.parametrize("shape", ["brush", "rectangle"])
def test_the_setup_has_what_the_tasks_name(layout: RunLayout, tmp_path: Path, shape: Shape) -> None:
    """Controls, labels and fields of the data: Label Studio refuses tasks otherwise."""
    (task,) = tasks(layout, tmp_path, marked("a", TWO), shape=shape)
    setup = ElementTree.fromstring((tmp_path / "t.xml").read_text())
    controls = {tag.get("name"): tag for tag in setup.iter() if tag.get("toName")}
    for one in task["predictions"][0]["result"]:
        control = controls[one["from_name"]]
        assert control.tag.lower() == one["type"]
        assert control.get("toName") == one["to_name"]
        (given,) = one["value"][one["type"]]
        assert given in {child.get("value") for child in control}
    (image,) = setup.iter("Image")
    assert str(image.get("value")).removeprefix("$") in task["data"]


def test_the_tasks_come_last(layout: RunLayout, tmp_path: Path) -> None:
    """Where they are, the setup is."""
    output = commit_rows(layout, marked("p", blob(4, 5, (0, 0, 1, 1))))
    (tmp_path / "t.xml").mkdir()
    with pytest.raises(InputError, match="got a folder"):
        export_label_studio(Selection(output=output), str(tmp_path / "t.json"))
    assert not (tmp_path / "t.json").exists()


def test_rectangles_are_percent(layout: RunLayout, tmp_path: Path) -> None:
    """Of the picture's sides."""
    (task,) = tasks(layout, tmp_path, marked("a", TWO), shape="rectangle")
    values = [one["value"] for one in task["predictions"][0]["result"][:2]]
    boxes = [[value[name] for name in ("x", "y", "width", "height")] for value in values]
    np.testing.assert_allclose(sorted(boxes), [[200 / 30, 5, 400 / 30, 15], [2000 / 30, 50, 20, 25]])


def test_normal_images_and_those_without_labels(layout: RunLayout, tmp_path: Path) -> None:
    """A verdict and no region; and no prediction where there was no threshold."""
    rows = [marked("a", TWO), marked("b", blob(4, 4)), marked("c", blob(4, 4), **NO_LABELS)]
    found = tasks(layout, tmp_path, *rows)
    assert [one["value"] for one in found[1]["predictions"][0]["result"]] == [{"choices": ["normal"]}]
    assert found[2]["predictions"] == []


@pytest.mark.parametrize("name", ["a b", "a&d=/etc/passwd", "a?#%2e", 'a"<b>\n', "検査"])
def test_local_names_in_urls(layout: RunLayout, tmp_path: Path, name: str) -> None:
    """Relative to the folder above that of the pictures, as Label Studio asks; one value whatever is in it."""
    row = marked("a", TWO, image_uri=f"/data/line/{name}.png")
    (task,) = tasks(layout, tmp_path, row, relative_to="/data/line")
    parts = urlsplit(task["data"]["image"])
    assert (parts.path, parts.fragment) == ("/data/local-files/", "")
    assert parse_qs(parts.query, strict_parsing=True) == {"d": [f"line/{name}.png"]}


@pytest.mark.parametrize(
    ("uri", "options", "expected"),
    [
        ("s3://b/x 1.png", {}, "s3://b/x 1.png"),
        ("https://h/x.png", {}, "https://h/x.png"),
        ("/in/x 1.png", {"url_prefix": "https://h/"}, "https://h/x%201.png"),
        ("s3://b/i/x.png", {"url_prefix": "https://h/", "relative_to": "s3://b"}, "https://h/i/x.png"),
        ("/in/x.png", {"pictures": "/p/set"}, "/data/local-files/?d=set/in_x-{id}.png"),
        ("/in/x.png", {"pictures": "s3://b/set"}, "s3://b/set/in_x-{id}.png"),
    ],
)
def test_where_label_studio_finds_a_picture(
    layout: RunLayout, tmp_path: Path, uri: str, options: Any, expected: str
) -> None:
    """In stores by their own URI; of exported pictures the copies; a prefix goes before all."""
    (task,) = tasks(layout, tmp_path, marked("0123456789abcdef" * 2, TWO, image_uri=uri), **options)
    assert task["data"]["image"] == expected.format(id="0123456789abcdef")


def test_own_columns_are_kept_apart(layout: RunLayout, tmp_path: Path) -> None:
    """A column named `image` does not take the picture's place."""
    row = marked("a", TWO, image="of a nut", line="x")
    (task,) = tasks(layout, tmp_path, row, columns={"image": pa.string(), "line": pa.string()})
    data = task["data"]
    assert (data["column_image"], data["line"], data["image"]) == ("of a nut", "x", "/data/local-files/?d=in/a.png")
