"""Rows of the scores and masks on disk to counts: the pixels of sound masks, and a name for each that is not."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from cops.maps import anomaly_map
from pipeline.datasets import Dataset, LabelledImage
from pipeline.datasets.pixels import resize_mask
from pipeline.decode import DecodeRules
from pipeline.evaluation import counting
from pipeline.evaluation.counting import Counted, CountMaps, signed_masks
from pipeline.sources.items import image_id

SIDE, GRID, SIZE = 40, 5, (60, 30)  # of the model, of its scores, of the pictures (width, height)
COUNT = CountMaps(image_size=SIDE, sigma_px=2.0, rules=DecodeRules())


def png(mask):
    out = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def blob(top=5, left=10, height=12, width=20, *, size=SIZE):
    mask = np.zeros(size[::-1], bool)
    mask[top : top + height, left : left + width] = True
    return mask


def row(name, label, mask=None, *, category="c", seed=0):
    scores = np.random.default_rng(seed).random((GRID, GRID)).astype("<f2")
    return {
        "category": category,
        "image_uri": f"/d/{name}.png",
        "width": SIZE[0],
        "height": SIZE[1],
        "pred_score": float(scores.max()),
        "map_size": [GRID, GRID],
        "patch_scores": scores.tobytes(),
        "label": label,
        "defect": "crack" if label else "good",
        "mask_uri": None if mask is None else str(mask),
    }


def table(*rows):
    return pa.Table.from_pylist(list(rows), counting._COLUMNS)


@pytest.fixture
def put(tmp_path: Path):
    def write(name, content):
        path = tmp_path / f"{name}_mask.png"
        path.write_bytes(content if isinstance(content, bytes) else png(content))
        return path

    return write


def test_pixels_are_those_of_the_maps_at_the_models_side(put):
    """Maps from the table's float16 scores, masks resized, against one list of all pixels."""
    marks = [blob(), blob(top=0, left=30, height=25)]
    rows = [row("n", 0, seed=1), *(row(at, 1, put(at, mark), seed=2 + at) for at, mark in enumerate(marks))]
    counted = COUNT(table(*rows))
    masks = np.stack([np.zeros((SIDE, SIDE), bool), *(resize_mask(mark, SIDE) for mark in marks)])
    grids = np.stack([np.frombuffer(one["patch_scores"], "<f2").reshape(GRID, GRID) for one in rows])
    maps = anomaly_map(grids.astype(np.float32), image_size=SIDE, sigma_px=2.0).astype(np.float16)
    expected = average_precision_score(masks.ravel(), maps.ravel().astype(np.float64))
    assert counted.pixels.ranking().average_precision().value == pytest.approx(expected, abs=1e-9)
    assert (counted.marked, counted.flaws, counted.labels) == ((1, 2), [], [0, 1, 1])
    assert counted.scores == pytest.approx([one["pred_score"] for one in rows], abs=1e-7)
    assert counted.pixels.regions == 2


def test_flawed_masks_are_named_and_not_counted(put):
    """Each kind once; the counts are those of the sound images alone. Image scores stay."""
    flaws = {
        "mask_of_another_size": row("size", 1, put("size", blob(size=(61, 30)))),
        "empty_mask": row("empty", 1, put("empty", np.zeros(SIZE[::-1], bool))),
        "mask_of_a_normal_image": row("normal", 0, put("normal", blob())),
        "unreadable_mask": row("text", 1, put("text", b"no picture")),
        "no_mask": row("none", 1),
        "mask_lost_in_resizing": row("tiny", 1, put("tiny", blob(height=1, width=1))),
    }
    sound = [row("n", 0, seed=1), row("a", 1, put("a", blob()), seed=2)]
    with_flaws, without = COUNT(table(*sound, *flaws.values())), COUNT(table(*sound))
    assert {flaw.problem: flaw.item.image_uri for flaw in with_flaws.flaws} == {
        problem: one["image_uri"] for problem, one in flaws.items()
    }
    np.testing.assert_array_equal(with_flaws.pixels.normal, without.pixels.normal)
    np.testing.assert_array_equal(with_flaws.pixels.anomalous, without.pixels.anomalous)
    assert with_flaws.marked == without.marked == (1, 1)
    assert len(with_flaws.scores) == 8


def test_a_signed_mask_is_read_by_what_the_dataset_knows_and_no_table_holds(put):
    """Of the image that it belongs to; the other masks by their URIs, and no flaw tells the signature."""
    signed = LabelledImage(
        image_uri="https://host/get",
        unique="?id=1",
        mask_uri="https://host/m",
        mask_path="https://host/m?X-Amz-Signature=secret",
        label=1,
        category="c",
        kind="crack",
    )
    own = replace(signed, unique="?id=2", mask_uri="/m.png", mask_path="/m.png")
    paths = signed_masks(Dataset(name="d", root="/d", images=(signed, own)))
    assert paths == {image_id("https://host/get?id=1"): signed.mask_path}
    rows = [row("s", 1, "https://host/m") | {"image_id": "s"}, row("a", 1, put("a", blob())) | {"image_id": "a"}]
    counted = COUNT(counting._with_paths(table(*rows), {"s": str(put("s", blob()))}))
    assert (counted.marked, counted.flaws) == ((0, 2), [])
    (flaw,) = COUNT(counting._with_paths(table(rows[0]), {"s": str(put("s", b"no picture"))})).flaws
    assert flaw.item.mask_uri == "https://host/m"


def test_a_mask_that_is_gone_is_a_flaw(tmp_path: Path):
    """The dataset was changed since it was scored."""
    (flaw,) = COUNT(table(row("a", 1, tmp_path / "gone.png"))).flaws
    assert flaw.problem == "unreadable_mask"


def test_tasks_get_few_rows_of_one_category():
    """In order, none lost, whatever the tables' borders."""
    categories = ["a"] * 70 + ["b"] * 3 + ["a"] * 2
    rows = [row(at, 0, category=category) for at, category in enumerate(categories)]
    few = list(counting._few_of_one_category(iter([table(*rows[:40]), table(*rows[40:])])))
    assert [(category, len(part)) for category, part in few] == [("a", 40), ("a", 30), ("b", 3), ("a", 2)]
    uris = [uri for _, part in few for uri in part["image_uri"].to_pylist()]
    assert uris == [one["image_uri"] for one in rows]
    assert [len(part) for _, part in counting._few_of_one_category(iter([table(*rows[:70])]))] == [64, 6]


def test_counts_of_parts_add_up(put):
    """Rows counted apart give what they give together; nothing added to nothing has no pixels."""
    rows = [row("n", 0, seed=1), row("a", 1, put("a", blob()), seed=2), row("b", 1, seed=3)]
    whole, parts = COUNT(table(*rows)), Counted()
    for one in rows:
        parts += COUNT(table(one))
    assert (parts.labels, parts.marked, parts.flaws) == (whole.labels, whole.marked, whole.flaws)
    np.testing.assert_array_equal(parts.pixels.normal, whole.pixels.normal)
    np.testing.assert_allclose(parts.pixels.overlap, whole.pixels.overlap, atol=1e-12)
    nothing = Counted()
    nothing += Counted()
    assert nothing.pixels is None
