"""Which images are shown, how their pictures are found again, and what is drawn of them."""

import base64
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from report_making import MODEL, SIDE_PX, night, pictured, rows_of

from cops.overlay import OUTLINE_RGB
from pipeline.decode import DecodeRules
from pipeline.originals import Missing
from pipeline.report import pictures
from pipeline.report.facts import gather
from pipeline.report.originals import originals
from pipeline.report.picks import Pick, Picks, pick
from pipeline.report.pictures import Shown, draw, rules_of, scale_top, without_pictures
from pipeline.report.window import find_window
from pipeline.runs import Run, open_run
from pipeline.storage import open_root


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def picked(
    output: str,
    *run_ids: str,
    labelled: bool = True,
    top: int = 3,
    borderline: int = 2,
    by: tuple[str, ...] = ("category",),
) -> Picks:
    run_ids = run_ids or ("r",)
    facts = gather(output, find_window(output, run_ids, 0), by=by, label_set=None)
    runs = [open_run(output, run_id) for run_id in run_ids]
    return pick(runs, facts, top=top, borderline=borderline, labelled=labelled)


def scores(picks: tuple[Pick, ...]) -> list[float]:
    return [round(one.row["pred_score"], 3) for one in picks]


def shown(output: str, row: dict[str, Any], **record: Any) -> Shown:
    """One row of one run, drawn."""
    night(output, "r", [row], **record)
    (one,) = draw(picked(output, top=1, borderline=0, labelled=False).top, top=0.8)
    return one


def pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    data = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_the_highest_and_the_nearest(output: str) -> None:
    """Over all parts and runs: anomalies by score; then the nearest of each group that are not among them."""
    night(output, "r", rows_of("a", np.linspace(0.05, 0.95, 19), threshold=0.7))  # steps of 0.05, in three parts
    night(output, "s", rows_of("b", [0.97, 0.31, 0.1, 0.1, 0.1, float("nan")], threshold=0.3), day=1)
    found = picked(output, "r", "s", top=4, borderline=3)
    assert scores(found.top) == [0.97, 0.95, 0.9, 0.85]
    assert scores(found.borderline) == [0.7, 0.31, 0.75]
    assert [one.run.run_id for one in found.borderline] == ["r", "s", "r"]


def test_borderline_is_on_the_scale_of_its_group(output: str) -> None:
    """A category whose scores are all small takes no place of another's, and its plain normals are not shown."""
    small = rows_of("small", np.linspace(0.001, 0.02, 60), threshold=0.021)
    night(output, "r", small + rows_of("big", [0.1, 0.2, 0.3, 0.4, 0.46, 0.48, 0.55], threshold=0.5))
    found = picked(output, top=24, borderline=4)
    assert [(one.row["category"], round(one.row["pred_score"], 3)) for one in found.borderline] == [
        ("big", 0.48),
        ("small", 0.02),
        ("small", 0.02),
        ("big", 0.46),
    ]
    found = picked(output, top=24, borderline=100)
    assert min(one.row["pred_score"] for one in found.borderline if one.row["category"] == "small") > 0.0179


def test_groups_of_any_columns_take_turns(output: str) -> None:
    """A column of the run's own, numbers and nulls too; one that this run lacks."""
    rows = [row for line in ("x", None) for row in rows_of("a", [0.1] * 6 + [0.48, 0.49], line=line)]
    night(output, "r", rows + rows_of("a", [0.1] * 6 + [0.47], line="y"), columns=["line"])
    found = picked(output, borderline=3, by=("line", "width"))
    assert {one.row["line"] for one in found.borderline} == {"x", "y", None}


def test_few_anomalies_are_not_filled_up(output: str) -> None:
    """Only what is labelled anomalous is a top anomaly; what is shown there is not borderline, too."""
    night(output, "r", rows_of("a", [0.1, 0.1, 0.1, 0.45, 0.6]))
    found = picked(output)
    assert (scores(found.top), scores(found.borderline)) == ([0.6], [0.45])


def test_without_labels_the_highest_scores(output: str) -> None:
    """And nothing is borderline where there is no threshold."""
    night(output, "r", rows_of("a", [0.1, 0.4, 0.6], threshold=None))
    found = picked(output, labelled=False, top=2)
    assert (scores(found.top), found.borderline) == ([0.6, 0.4], ())
    assert picked(output, labelled=False, top=0, borderline=0) == Picks(top=(), borderline=())


def read_back(run: Run, picks: Picks, **options: Any) -> list[Any]:
    found = dict(originals(picks.top, rules_of(run.record), **options))
    return [found[at] for at in range(len(picks.top))]


@pytest.fixture
def encoded(encode_image: Callable[..., bytes]) -> list[bytes]:
    return [encode_image(np.full((8, 8, 3), 40 * at, np.uint8)) for at in range(3)]


def members(encoded: list[bytes], shard: str, names: list[str]) -> list[dict[str, Any]]:
    """Rows of the members of a shard, the highest score last in it."""
    rows = rows_of("a", [0.6, 0.7, 0.8][: len(encoded)])
    for row, data, name in zip(rows, encoded, names, strict=True):
        row |= {"shard": shard, "image_uri": f"{shard}#{name}", "content_hash": hashlib.sha256(data).hexdigest()}
    return rows


def test_members_of_a_tar(output: str, tmp_path: Path, encoded: list[bytes], make_tar: Callable[..., bytes]) -> None:
    """By their key; the plan that knew where they lie is gone. In a store as on disk."""
    data = make_tar([(f"a/{at}.png", one) for at, one in enumerate(encoded)])
    (tmp_path / "s.tar").write_bytes(data)
    fsspec.filesystem("memory").pipe_file("/report/s.tar", data)
    for run_id, shard in (("r", str(tmp_path / "s.tar")), ("m", open_root("memory://report/s.tar").uri())):
        night(output, run_id, members(encoded, shard, ["a/0", "a/1", "a/2"]))
        assert read_back(open_run(output, run_id), picked(output, run_id)) == encoded[::-1]


def test_cells_of_a_parquet_shard(output: str, tmp_path: Path, encoded: list[bytes]) -> None:
    """By their row, in the column that the run read."""
    shard = str(tmp_path / "s.parquet")
    pq.write_table(pa.table({"other": encoded[::-1], "photo": encoded}), shard, row_group_size=2)
    night(output, "r", members(encoded, shard, ["0", "1", "2"]), config={"image_column": "photo"})
    assert read_back(open_run(output, "r"), picked(output)) == encoded[::-1]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"image_uri": "{folder}/gone.png"}, "no such file"),
        ({"content_hash": "0" * 64}, "not those that were scored"),
        ({"image_uri": "{folder}"}, "a folder, pipe or device"),
        ({"image_uri": "ssh://host/etc/passwd"}, "expected a path or a URI of"),
        ({"image_uri": "simplecache::s3://b/x.png"}, "expected a path or a URI of"),
        ({"image_uri": "https://user:secret@host/x.png"}, "expected a path or a URI of"),
        ({"shard": "github://a:b@/x.tar"}, "expected a path or a URI of"),
        ({"shard": "{folder}/gone.tar"}, "no such file"),
        ({"shard": "{folder}/gone.parquet"}, "no such file"),
        ({"image_uri": "memory://nowhere/x.png"}, "no such file"),
    ],
)
def test_pictures_that_are_not_shown(output: str, tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    """The map alone, and the reason: gone, replaced since, or an address that no run reads. No secret in it."""
    told = {name: value.format(folder=tmp_path) for name, value in fields.items()}
    (row,) = rows_of("a", [0.9])
    one = shown(output, row | pictured(tmp_path, "p") | told)
    assert one.original is None
    assert why in (one.missing or "")
    assert "secret" not in (one.missing or "")
    assert pixels(one.overlay).shape == (360, 360, 3)


def test_what_is_no_picture_is_not_shown(output: str, tmp_path: Path) -> None:
    """Even where the table has its very hash."""
    (tmp_path / "passwd").write_bytes(b"root:x:0:0")
    (row,) = rows_of("a", [0.9])
    told = {"image_uri": str(tmp_path / "passwd"), "content_hash": hashlib.sha256(b"root:x:0:0").hexdigest()}
    one = shown(output, row | pictured(tmp_path, "p") | told)
    assert one.original is None
    assert "cannot be decoded: it is text, not a picture" in (one.missing or "")


def test_there_is_an_end_to_waiting(output: str, tmp_path: Path) -> None:
    """After the time is up no further store or shard is asked."""
    night(output, "r", [row | pictured(tmp_path, "p") for row in rows_of("a", [0.9])])
    (found,) = read_back(open_run(output, "r"), picked(output), within_s=-1.0)
    assert found == Missing("not_read", "not read: the pictures before it took -1 s")


def test_a_store_that_fails_costs_its_pictures_alone(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are shown."""

    def breaks(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr("pipeline.originals.index_tar", breaks)
    rows = rows_of("a", [0.8, 0.9])
    night(output, "r", [rows[0] | pictured(tmp_path, "p"), rows[1] | {"shard": str(tmp_path / "s.tar")}])
    broken, fine = read_back(open_run(output, "r"), picked(output))
    assert isinstance(fine, bytes)
    assert "its store does not give it: ConnectionError: no route" in broken.message


def test_what_is_drawn(output: str, tmp_path: Path) -> None:
    """The spot is bright in the picture and hot in the map; the outline goes round it, and a box; the rest is cool."""
    (row,) = rows_of("a", [0.9])
    one = shown(output, row | pictured(tmp_path, "p"))
    scale = 360 / SIDE_PX
    inside, outside = (int(24 * scale), int(32 * scale)), (int(56 * scale), int(8 * scale))
    original, overlay = pixels(one.original), pixels(one.overlay)
    assert abs(original[inside] - 220).max() < 12
    assert abs(original[outside] - 90).max() < 12
    assert overlay[inside][0] > overlay[inside][2] + 60, "hot: red over blue"
    assert abs(overlay[outside] - 0.45 * 90).max() < 15, "cold: the picture under black"
    near = abs(overlay - np.array(OUTLINE_RGB)).sum(axis=2) < 150
    rows, columns = np.nonzero(near)
    assert (rows.min() / scale, rows.max() / scale) == pytest.approx((16, 32), abs=1)
    assert (columns.min() / scale, columns.max() / scale) == pytest.approx((24, 40), abs=1)
    (region,) = one.regions
    assert (region.number, region.box_xywh, region.area) == (1, (24, 16, 16, 16), 256)


def test_one_scale_for_all(output: str, tmp_path: Path) -> None:
    """Up to the highest patch of what is shown, and to twice the pixel threshold at the least, so that a night without
    anomalies is dark; the same map is drawn alike whatever stands beside it.
    """
    rows = [
        row | pictured(tmp_path, "p", patch_score_max=top)
        for row, top in zip(rows_of("a", [0.8, 0.9]), (0.4, 0.6), strict=True)
    ]
    night(output, "r", rows)
    both = picked(output).top
    assert scale_top(both, (0.1, 0.2)) == pytest.approx(0.6)
    assert scale_top(both, (0.1, 0.4)) == pytest.approx(0.8)
    assert [scale_top((), limits) for limits in ((0.2, 0.7), (0.0, 0.0), None)] == [1.0, 1.0, 1.0]
    one, two = draw(both, top=0.6)
    (alone,) = draw(both[:1], top=0.6)
    assert one.overlay == two.overlay == alone.overlay


@pytest.mark.parametrize(
    ("fields", "record", "why"),
    [
        ({"patch_scores": b"123"}, {}, "buffer size"),
        ({"map_size": [3, 5]}, {}, "reshape"),
        ({"pred_mask": {"size": [64, 64], "counts": "hostile"}}, {}, "mask"),
        ({"pred_mask": {"size": [64, 64], "counts": None}}, {}, "drawn"),
        ({}, {"model": {"name": "older"}}, "does not say by which image_size"),
        ({}, {"model": MODEL | {"image_size": 4}}, "no map from 8 patches, 4 px"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    output: str, tmp_path: Path, fields: dict[str, Any], record: dict[str, Any], why: str
) -> None:
    """The picture alone, and why: a table and a record are data."""
    (row,) = rows_of("a", [0.9])
    one = shown(output, row | pictured(tmp_path, "p") | fields, **record)
    assert one.overlay is None
    assert one.original is not None
    assert why in (one.flaw or "")


def test_regions_far_away_do_no_harm(output: str, tmp_path: Path) -> None:
    """Boxes outside of the picture are not drawn; of many, the first five are."""
    odd = {"x": 10**6, "y": -5, "width": 3, "height": 3, "area": 9, "peak_score": 0.5}
    (row,) = rows_of("a", [0.9])
    one = shown(output, row | pictured(tmp_path, "p", regions=[odd] * 7, pred_mask=None))
    assert (len(one.regions), one.more_regions) == (5, 2)
    assert one.overlay is not None


def test_odd_shapes_fit(output: str, encode_image: Callable[..., bytes], tmp_path: Path) -> None:
    """A strip of one pixel's height is as wide as the others, and one pixel high."""
    data = encode_image(np.zeros((1, 900, 3), np.uint8))
    (tmp_path / "strip.png").write_bytes(data)
    told = {"image_uri": str(tmp_path / "strip.png"), "content_hash": hashlib.sha256(data).hexdigest()}
    (row,) = rows_of("a", [0.9])
    one = shown(output, row | pictured(tmp_path, "p", width=900, height=1, pred_mask=None, regions=[]) | told)
    assert pixels(one.original).shape == pixels(one.overlay).shape == (1, 360, 3)


def test_rules_are_the_runs_own() -> None:
    """Pictures look as they were scored; rules that cannot be read are the usual ones."""
    told = {"run_id": "r", "config": {"decode": {"bit_depth_range": "0:4095", "later": 1}}}
    assert rules_of(told) == DecodeRules(bit_depth_range="0:4095", scaled_jpeg=True)
    for odd in ({"max_bytes": "x"}, {"bit_depth_range": "9:1"}, [1], None):
        assert rules_of({"run_id": "r", "config": {"decode": odd}}) == DecodeRules(scaled_jpeg=True)


def test_no_pictures(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read; the figures stay."""
    night(output, "r", [row | pictured(tmp_path, "p") for row in rows_of("a", [0.9])])
    monkeypatch.setattr(pictures, "originals", None)
    (one,) = without_pictures(picked(output).top)
    assert (one.original, one.overlay, one.row["pred_score"]) == (None, None, pytest.approx(0.9))
