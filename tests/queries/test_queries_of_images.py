"""Questions about single images. Each answer is worked out by hand from the nights above it."""

import duckdb
import pytest
from nights import A, Ask, B, bad, box, by_shell, by_views, image, label_set, night, when

from pipeline.errors import InputError


def columns(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def two_nights(output: str) -> None:
    """The last night has two lines, and an image of none."""
    night(output, "n1", "2026-03-02T04:00", [image("old", 0.99)])
    images = [image("p", 0.2), image("q", 0.9), image("r", 0.5), image("s", 0.8, line="b"), image("t", 0.9, line=None)]
    night(output, "n2", "2026-03-03T04:00", images)


def test_worst_of_the_night_per_line(output: str, ask: Ask) -> None:
    """The highest of each line, images of no line among them; of the last night, or of the one that is named."""
    two_nights(output)
    found = ask("worst_of_the_night_per_line", count="2")
    assert columns(found, "line", "rank", "image_uri", "pred_label") == [
        ("a", 1, "/in/q.png", 1),
        ("a", 2, "/in/r.png", 1),
        ("b", 1, "/in/s.png", 1),
        (None, 1, "/in/t.png", 1),
    ]
    assert columns(ask("worst_of_the_night_per_line", night="n1"), "image_uri") == [("/in/old.png",)]


def test_a_night_that_is_not_there(output: str, ask: Ask) -> None:
    """A misspelt night is an error, not an empty answer."""
    two_nights(output)
    with pytest.raises((InputError, duckdb.Error), match="no committed run n9"):
        ask("worst_of_the_night_per_line", night="n9")


def test_a_night_that_looks_like_a_number(output: str, ask: Ask) -> None:
    """Run ids are text, whatever they look like."""
    two_nights(output)
    night(output, "1e5", "2026-03-04T04:00", [image("x", 0.1)])
    assert columns(ask("worst_of_the_night_per_line", night="1e5"), "image_uri") == [("/in/x.png",)]


@pytest.mark.parametrize("ask_by", [by_views, by_shell])
@pytest.mark.parametrize(
    ("query", "column"), [("worst_of_the_night_per_line", "line"), ("threshold_what_if_with_truth", "defect")]
)
def test_a_column_that_no_run_has(output: str, query: str, column: str, ask_by) -> None:
    """The error names it."""
    rows = [{name: value for name, value in image("x", 0.5).items() if name not in ("line", "defect")}]
    night(output, "n1", "2026-03-02T04:00", rows, columns={})
    with pytest.raises((InputError, duckdb.Error), match=f'column "?{column}"? not found'):
        ask_by(output, query)


def test_borderline(output: str, ask: Ask) -> None:
    """Nearest first on each side; at the threshold is anomalous; what has no threshold is on no side."""
    images = [image("far", 0.9), image("at", 0.5), image("near", 0.48), image("low", 0.1)]
    night(output, "n1", "2026-03-02T04:00", [*images, image("free", 0.49, image_threshold=None)])
    found = ask("borderline", count="1")
    assert columns(found, "side", "rank", "image_uri") == [
        ("at or above", 1, "/in/at.png"),
        ("below", 1, "/in/near.png"),
    ]
    assert [row["distance"] for row in found] == pytest.approx([0.0, -0.02], abs=1e-6)
    assert len(ask("borderline")) == 4


def test_largest_regions(output: str, ask: Ask) -> None:
    """Regions of all images in one order; a picture has 100×50 px; one without a mask has no regions."""
    images = [
        image("p", 0.9, mask_area=350, regions=[box(0, 0, 10, 10, 100), box(50, 20, 25, 10, 250)]),
        image("q", 0.9, mask_area=100, regions=[box(1, 2, 20, 5, 100, 0.9)]),
        image("r", 0.9, mask_area=None, regions=None),
    ]
    night(output, "n1", "2026-03-02T04:00", images)
    found = ask("largest_regions")
    assert columns(found, "image_uri", "area", "share_of_image", "x", "y", "width", "height") == [
        ("/in/p.png", 250, 0.05, 50, 20, 25, 10),
        ("/in/q.png", 100, 0.02, 1, 2, 20, 5),  # its peak is higher
        ("/in/p.png", 100, 0.02, 0, 0, 10, 10),
    ]
    assert len(ask("largest_regions", count="2")) == 2


def test_where_on_the_picture(output: str, ask: Ask) -> None:
    """By the middle of each region; an image once, as its last run has it; no other model's masks."""
    upper_left, lower_right, edge = box(0, 0, 30, 15, 400), box(70, 40, 30, 10, 300), box(60, 20, 40, 30, 500)
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.9, regions=[lower_right]), image("q", 0.9, category=None)])
    night(output, "b1", "2026-03-03T04:00", [image("r", 0.9, regions=[upper_left])], model_id=B)
    images = [image("p", 0.9, regions=[upper_left, lower_right]), image("s", 0.9, regions=[upper_left])]
    night(output, "n2", "2026-03-04T04:00", [*images, image("t", 0.9, category=None, regions=[edge])])
    found = ask("where_on_the_picture", cells="2")
    assert columns(found, "category", "cell_x", "cell_y", "regions", "images", "share_of_regions") == [
        ("bolt", 0, 0, 2, 2, pytest.approx(2 / 3)),
        ("bolt", 1, 1, 1, 1, pytest.approx(1 / 3)),
        (None, 1, 1, 1, 1, 1.0),
    ]
    assert columns(ask("where_on_the_picture", model_id=B), "cell_x", "cell_y", "regions") == [(0, 0, 1)]
    assert {row["category"] for row in ask("where_on_the_picture", category="bolt")} == {"bolt"}


def test_regions_of_a_name_that_was_overwritten(output: str, ask: Ask) -> None:
    """Two pictures of one name are two images, known by their bytes or not."""
    for number, content in enumerate(("h1", "h2", None, "h1")):
        rows = [image("p", 0.9, content_hash=content, regions=[box(0, 0, 30, 15, 400)])]
        night(output, f"n{number}", f"2026-03-0{number + 2}T04:00", rows)
    assert columns(ask("where_on_the_picture"), "regions", "images") == [(3, 3)]


def dated(number: int, part: str, score: float, **fields) -> dict:
    uri = f"/in/2026-03-0{number}/{part}"
    return image(uri, score, image_uri=uri, **fields)


def test_same_part_over_time(output: str, ask: Ask) -> None:
    """By its URI but for the date, and its category, change by change; what rose most comes first; models apart."""
    for number, p, q in ((2, 0.1, 0.4), (3, 0.25, 0.3), (4, 0.75, 0.5)):
        images = [dated(number, part, score) for part, score in (("p.png", p), ("q.png", q), (f"once{number}", 0.9))]
        night(output, f"n{number}", f"2026-03-0{number}T04:00", images)
    night(output, "b1", "2026-03-05T04:00", [dated(5, "p.png", 0.9)], model_id=B)
    found = ask("same_part_over_time")
    assert columns(found, "part", "run_id", "model_id") == [
        (f"/in/*/{part}.png", run, A) for part in "pq" for run in ("n2", "n3", "n4")
    ]
    assert [row["pred_score"] for row in found[:3]] == pytest.approx([0.1, 0.25, 0.75])
    assert found[0]["change"] is None
    assert [row["change"] for row in found[1:3]] == pytest.approx([0.15, 0.5])
    assert columns(ask("same_part_over_time", count="1"), "part") == [("/in/*/p.png",)] * 3
    assert columns(ask("same_part_over_time", part="/in/*/once3"), "run_id") == [("n3",)]
    assert ask("same_part_over_time", part="nobody") == []
    both = ask("same_part_over_time", part="/in/*/p.png")
    assert sorted(columns(both, "run_id")) == [("b1",), ("n2",), ("n3",), ("n4",)]
    assert [row["change"] for row in both if row["run_id"] == "b1"] == [None]


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("/in/2026-03-02/line-a/1.png", "/in/2026-03-03/line-a/1.png", True),
        ("/in/2026-03-02/line-a/1.png", "/in/2026-03-03/line-b/1.png", False),
        ("/in/2026-03-02/good/1.png", "/in/2026-03-03/blob/1.png", False),
        ("/in/20260302_1.png", "/in/20260303_1.png", True),
        ("s3://b/2026/03/02/20260302.tar#a/1", "s3://b/2026/03/03/20260303.tar#a/1", True),
        ("/in/day=2026-03-02/2026-03-02/2026.03.02_1.png", "/in/day=2026-03-03/2026-03-03/2026.03.03_1.png", True),
        ("/in/120260302.png", "/in/120260303.png", False),  # serial numbers
        ("/in/202603021.png", "/in/202603031.png", False),
        ("/in/same.png", "/in/same.png", True),
    ],
)
def test_parts_are_told_apart(output: str, ask: Ask, first: str, second: str, is_one: bool) -> None:
    """Nothing but a date may differ."""
    for number, uri in ((2, first), (3, second)):
        night(output, f"n{number}", f"2026-03-0{number}T04:00", [image(uri, 0.1, image_uri=uri)])
    assert len(ask("same_part_over_time")) == (2 if is_one else 0)


def test_a_part_by_another_pattern(output: str, ask: Ask) -> None:
    """The first group of a pattern of one's own, in shards too; what one run has twice is no part."""
    for number in (2, 3):
        uris = [f"s3://b/n{number}.tar#serial-{name}.png" for name in ("7_cam1", "7_cam2", "8_cam1", f"9{number}_cam1")]
        images = [image(uri, 0.1, image_uri=uri) for uri in uris]
        night(output, f"n{number}", f"2026-03-0{number}T04:00", images)
    one_camera = ask("same_part_over_time", part_pattern="(serial-[0-9]+)_cam1")
    assert columns(one_camera, "part", "run_id") == [
        (part, run) for part in ("serial-7", "serial-8") for run in ("n2", "n3")
    ]
    assert {row["part"] for row in ask("same_part_over_time", part_pattern="(serial-[0-9]+)_")} == {"serial-8"}
    with pytest.raises((InputError, duckdb.Error), match="serial-7 has several URIs in one run, so it is no one part"):
        ask("same_part_over_time", part_pattern="(serial-[0-9]+)_", part="serial-7")


def test_duplicates_by_content_hash(output: str, ask: Ask) -> None:
    """One picture under two names is one; the same image in two runs is none, nor is a row without a hash."""
    copies = [image("p", 0.5, content_hash="h"), image("p-copy", 0.5, content_hash="h", category="nut")]
    night(output, "n1", "2026-03-02T04:00", [*copies, image("q", 0.1), image("r", 0.1, content_hash=None)])
    night(output, "n2", "2026-03-03T04:00", [image("q", 0.1), copies[0], image("s", 0.1, content_hash=None)])
    night(output, "b1", "2026-03-04T04:00", [image("p", 0.9, content_hash="h")], model_id=B)
    (found,) = ask("duplicates_by_content_hash")
    assert found == {
        "copies": 2,
        "categories": ["bolt", "nut"],
        "first_seen": when("2026-03-02T04:00"),
        "last_seen": when("2026-03-04T04:00"),
        "score_spread": 0.0,  # another model's score is no spread
        "first_five": ["/in/p-copy.png", "/in/p.png"],
        "content_hash": "h",
    }


def test_a_duplicate_whose_score_changed(output: str, ask: Ask) -> None:
    """Of one picture, by one model: worth a look at what did change."""
    images = [image("p", 0.5, content_hash="h"), image("q", 0.75, content_hash="h")]
    night(output, "n1", "2026-03-02T04:00", images)
    assert columns(ask("duplicates_by_content_hash"), "copies", "score_spread") == [(2, 0.25)]


def test_image_history(output: str, ask: Ask) -> None:
    """Every run, label set and quarantine, in the order of the runs; by id, by name or by content."""
    one = night(output, "n1", "2026-03-02T04:00", [image("p", 0.7), image("q", 0.1)])
    labels = [{"image_id": name, "image_threshold": 0.75, "pred_label": 0} for name in ("p", "q")]
    label_set(one, "strict", labels)
    night(output, "n2", "2026-03-03T04:00", [image("r", 0.8)], [bad("p", reason="truncated")])
    for value in ("p", "/in/p.png"):
        found = ask("image_history", image=value)
        assert columns(found, "run_id", "event", "label_set", "pred_label", "reason") == [
            ("n1", "scored", "run", 1, None),
            ("n1", "scored", "strict", 0, None),
            ("n2", "quarantined", None, None, "truncated"),
        ]
    assert columns(ask("image_history", image="hash of q"), "image_uri", "label_set") == [
        ("/in/q.png", "run"),
        ("/in/q.png", "strict"),
    ]
    assert columns(ask("image_history"), "image_uri") == [("/in/r.png",)]  # the worst of the last night
    assert ask("image_history", image="nobody") == []
