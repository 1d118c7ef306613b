"""Pictures as PNG: masks and maps are the table's, overlays are on one scale, no name leaves the folder."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_making import NO_LABELS, blob, commit_rows, marked, pictured
from PIL import Image

from cops.maps import anomaly_map
from cops.overlay import OUTLINE_RGB
from pipeline.errors import InputError
from pipeline.export.names import picture_name
from pipeline.export.pictures import Drawn, What, export_pictures
from pipeline.export.selection import Selection
from pipeline.layout import RunLayout
from pipeline.masks import decode, patch_grid
from pipeline.storage import Root

SPOT = blob(240, 300, (100, 120, 40, 60))
GRID = np.array([[0, 0.2], [0.4, 1]], "<f2")
MAP = {"patch_scores": GRID.tobytes(), "map_size": [2, 2], "patch_score_max": 1.0}


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    named = ("a.png", "dir/../..x.png", "b\x1b[2J;rm -rf.png")
    (tmp_path / "in/dir").mkdir(parents=True)
    return [pictured(tmp_path / "in", name, SPOT, **MAP) for name in named]


@pytest.fixture
def output(layout: RunLayout, rows: list[dict[str, Any]]) -> str:
    return commit_rows(layout, *rows)


def export(output: str, folder: Path, what: What, **options: Any) -> tuple[Drawn, list[dict[str, str]]]:
    told = export_pictures(Selection(output=output), str(folder), what, **options)
    with Path(told.index).open(newline="") as file:
        return told, list(csv.DictReader(file))


def test_masks(output: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """White where the table's mask is, and of the picture's size."""
    told, index = export(output, tmp_path / "m", "mask")
    by_id = {row["image_id"]: row for row in rows}
    assert (told.pictures, told.problems) == (3, 0)
    for one in index:
        drawn = np.asarray(Image.open(tmp_path / "m" / one["uri"]))
        np.testing.assert_array_equal(drawn, decode(by_id[one["image_id"]]) * np.uint8(255))


def test_maps(output: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """16 bits of the map that the row rebuilds."""
    _, index = export(output, tmp_path / "m", "map")
    drawn = np.asarray(Image.open(tmp_path / "m" / index[0]["uri"]))
    heat = anomaly_map(patch_grid(rows[0]), image_size=16, sigma_px=1.0, size_hw=SPOT.shape)
    assert drawn.dtype == np.uint16
    np.testing.assert_allclose(drawn / 65535, heat, atol=1 / 65535)


def test_originals(output: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """The pixels that were scored."""
    _, index = export(output, tmp_path / "o", "original")
    for one in index:
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "o" / one["uri"])), np.asarray(Image.open(one["image_uri"]))
        )
        assert one["uri"] == picture_name(one)


def test_overlays(output: str, tmp_path: Path) -> None:
    """The mask's outline is drawn; all share the run's scale unless one is given, which changes the colours."""
    told, index = export(output, tmp_path / "o", "overlay")
    assert told.vmax == 1.0
    drawn = np.asarray(Image.open(tmp_path / "o" / index[0]["uri"]).crop((0, 0, 300, 240)))
    edge = (drawn == OUTLINE_RGB).all(axis=2)
    assert edge[100, 120:180].all()
    assert edge[100:140, 120].all()
    assert not edge[~SPOT].any()
    assert not edge[110:130, 130:170].any()
    few = export_pictures(Selection(output=output, limit=1), str(tmp_path / "p"), "overlay", vmax=0.5)
    assert few.vmax == 0.5
    other = np.asarray(Image.open(next((tmp_path / "p").glob("*.png"))).crop((0, 0, 300, 240)))
    assert (other[200, 50] != drawn[200, 50]).any()


def test_large_overlays_are_reduced_and_no_region_is_lost(layout: RunLayout, tmp_path: Path) -> None:
    """Not even one of a single pixel."""
    row = pictured(tmp_path / "in", "a.png", blob(200, 400, (150, 37, 1, 1)), **MAP)
    output = commit_rows(layout, row)
    _, index = export(output, tmp_path / "o", "overlay", max_side_px=100)
    drawn = np.asarray(Image.open(tmp_path / "o" / index[0]["uri"]))
    assert (drawn[:, :100] == OUTLINE_RGB).all(axis=2).any()


def test_nothing_leaves_the_folder(output: str, tmp_path: Path) -> None:
    """Names of files are anybody's; each picture has its own, and its kind in it."""
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    _, index = export(output, tmp_path / "x/y", "mask")
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in written} == {tmp_path / "x/y"}
    assert sorted(path.name for path in written) == sorted([*(one["uri"] for one in index), "masks.csv"])
    assert all(one["uri"].endswith(".mask.png") for one in index)


def test_what_cannot_be_drawn_is_told(layout: RunLayout, tmp_path: Path) -> None:
    """A picture that is gone or was replaced; a mask that there never was. The others are written."""
    rows = [pictured(tmp_path / "in", f"{name}.png", SPOT, **MAP) for name in "abc"]
    (tmp_path / "in/a.png").unlink()
    (tmp_path / "in/b.png").write_bytes((tmp_path / "in/c.png").read_bytes() + b" ")
    output = commit_rows(layout, *rows, marked("d", blob(3, 3), **NO_LABELS))
    told, index = export(output, tmp_path / "o", "original")
    assert (told.pictures, told.problems) == (1, 3)
    problems = {one["image_id"]: one["problem"] for one in index}
    assert problems["a.png"].startswith("not_found: ")
    assert problems["b.png"] == "changed: the bytes there are not those that were scored"
    assert (problems["c.png"], [one["uri"] for one in index if one["problem"]]) == ("", ["", "", ""])
    assert told.first_problem is not None
    told, index = export(output, tmp_path / "m", "mask")
    assert (told.pictures, told.problems) == (3, 1)
    assert {one["problem"] for one in index} == {"", "no_mask: there was no pixel threshold for it"}


def test_into_a_store(output: str, memory_root: Root) -> None:
    """The folder may lie in any."""
    folder = memory_root.uri(memory_root.join("x"))
    told = export_pictures(Selection(output=output), folder, "mask")
    found = {path.rpartition("/")[2] for path in memory_root.fs.find(memory_root.join("x"))}
    assert len(found) == told.pictures + 1
    assert told.index == f"{folder}/masks.csv"


@pytest.mark.parametrize(
    ("what", "options", "record", "words"),
    [
        ("overlay", {"vmax": 0}, {}, "--vmax"),
        ("overlay", {"vmax": 1.5}, {}, "--vmax"),
        ("overlay", {"max_side_px": 1}, {}, "--max-side"),
        ("map", {}, {"model": {"name": "old"}}, "does not say what its maps are rebuilt by"),
    ],
)
def test_wrong_use(
    layout: RunLayout, rows: list[dict[str, Any]], tmp_path: Path, what: What, options: Any, record: Any, words: str
) -> None:
    """Said before a picture is read."""
    output = commit_rows(layout, *rows, **record)
    with pytest.raises(InputError, match=words):
        export(output, tmp_path / "o", what, **options)
    assert not list((tmp_path / "o").glob("*.png"))


def test_a_file_is_no_folder(output: str, tmp_path: Path) -> None:
    """Nothing is written over it."""
    (tmp_path / "f").write_text("mine")
    with pytest.raises(InputError, match="expected a folder"):
        export(output, tmp_path / "f", "mask")
    assert (tmp_path / "f").read_text() == "mine"


def test_a_damaged_map_is_an_error(layout: RunLayout, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """With the image that it is of."""
    output = commit_rows(layout, rows[0] | {"map_size": [3, 3]})
    with pytest.raises(InputError, match=r"a\.png: its row in the table is damaged"):
        export(output, tmp_path / "o", "map")
