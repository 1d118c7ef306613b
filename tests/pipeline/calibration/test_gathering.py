"""Thresholds of pixels from what the pieces of maps come to: of groups, of the pool, and with masks that are flawed."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.calibration.config import CalibrateConfig
from pipeline.calibration.images import PieceOf
from pipeline.calibration.marked import CountMarked, Marked, manifests
from pipeline.calibration.pixels import GatheredMarks, GatheredPeaks, GatheredValues, levels_of
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.evaluation.counting import CountMaps
from pipeline.metrics import VALUES, PixelCounts, value_order

SIDE = 16
COUNT = CountMaps(image_size=SIDE, sigma_px=1.0, rules=DecodeRules())


def config(**options: Any) -> CalibrateConfig:
    return CalibrateConfig(**({"min_images": 20, "pixel_rate": 0.05, "labels": "label"} | options))


def test_copies_are_not_in_the_pool() -> None:
    """A group's own images are all of it; those that another group has, too, are left out of the pooled threshold."""
    peaks = (np.arange(40) / 100).astype(np.float32)
    pieces = [
        (PieceOf(0, ("a",), False), peaks + np.float32(0.5)),
        (PieceOf(0, ("a",), True), peaks[:5] + np.float32(0.5)),
        (PieceOf(1, ("b",), True), peaks),
        (PieceOf(2, ("c",), True), peaks[:3]),
    ]
    levels, told = levels_of(iter(pieces), lambda: GatheredPeaks(config()))
    assert {group: one.images for group, one in levels.items()} == {("a",): 45, ("b",): 40, ("c",): 3, None: 48}
    assert [levels[group].source for group in levels] == ["group", "group", "pooled", "pooled"]
    assert levels["c",].found.value == levels[None].found.value
    assert levels["c",].flagged == 0
    assert told == ()


@pytest.mark.parametrize("least", [1, 5])
def test_counts_of_a_group_are_let_go_of_at_its_end(least: int) -> None:
    """26 MB a group would fill the memory; one group's and the pool's are left when the next begins. Groups of one
    image have thresholds of their own, or fall back.
    """
    made: list[weakref.ref[GatheredValues]] = []
    alive = 0

    def gather() -> GatheredValues:
        nonlocal alive
        gc.collect()
        alive = max(alive, sum(one() is not None for one in made))
        one = GatheredValues(config(min_images=least), 100)
        made.append(weakref.ref(one))
        return one

    counts = np.zeros(VALUES, np.int64)
    counts[value_order(np.array([0.25], np.float16))] = 100
    found = ((PieceOf(at, (at,), True), counts) for at in range(12))
    levels, _ = levels_of(found, gather)
    assert [levels[group].source for group in levels] == ["group" if least == 1 else "pooled"] * 12 + ["pooled"]
    assert alive == 2
    assert len(made) == 13


def test_too_few_maps() -> None:
    """The message counts what was rebuilt."""
    peaks = np.zeros(7, np.float32)
    with pytest.raises(InputError, match=r"--pixel-rule images: expected 20 normal images .* got 7: .*none leaves"):
        levels_of(iter([(PieceOf(0, ("a",), True), peaks)]), lambda: GatheredPeaks(config()))
    with pytest.raises(InputError, match="got 0"):
        levels_of(iter([]), lambda: GatheredPeaks(config()))


def row(name: str, mask_uri: Any, *, label: int = 1) -> dict[str, Any]:
    grid = np.linspace(0, 1, 16, dtype="<f2")
    told = {"run_id": "r1", "image_id": name, "image_uri": f"/in/{name}.png", "category": "a", "defect": None}
    return told | {
        "width": 16, "height": 16, "map_size": [4, 4], "patch_scores": grid.tobytes(), "pred_score": 0.5,
        "label": label, "mask_uri": mask_uri,
    }  # fmt: skip


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A manifest's folder with good.png, empty.png and small.png."""
    (tmp_path / "masks").mkdir()
    marked = np.zeros((16, 16), np.uint8)
    Image.fromarray(marked).save(tmp_path / "masks/empty.png")
    marked[8:] = 255
    Image.fromarray(marked).save(tmp_path / "masks/good.png")
    Image.fromarray(marked[:9, :9]).save(tmp_path / "masks/small.png")
    return tmp_path


def count(rows: list[dict[str, Any]], manifest: str | None = None) -> Marked:
    return CountMarked(count=COUNT, manifests={"r1": manifest})(pa.Table.from_pylist(rows))


def test_masks_relative_to_the_manifest(masks: Path) -> None:
    """As --format plain takes them, and jobs/export.py writes them; whole paths are whole paths."""
    names = ["masks/good.png", f"{masks}/masks/good.png", f"file://{masks}/masks/good.png"]
    found = count([row(name, name) for name in names], f"{masks}/reviewed.csv")
    assert (found.anomalous, found.flaws) == (3, {})
    assert found.pixels is not None
    assert found.pixels.anomalous.sum() == 3 * 128
    assert count([row("a", "masks/good.png")]).flaws == {"unreadable_mask": 1}  # of no manifest


@pytest.mark.parametrize("uri", ["ssh://host/m.png", "github://a:b@c/m.png", "s3://me:secret@bucket/m.png", "zip::/m"])
def test_a_table_reaches_no_other_place(uri: str) -> None:
    """A mask is read from where a manifest may name images, from nowhere else; and no password is told."""
    found = count([row("a", uri), row("b", None, label=0)])
    assert found.flaws == {"unreadable_mask": 1}
    assert "expected a path or a URI of" in found.examples["unreadable_mask"]
    assert "secret" not in str(found)
    assert found.normal == 1


def test_every_flaw_is_counted(masks: Path) -> None:
    """By what is wrong, with the first image of each; a normal image needs no mask."""
    uris = ["good", "empty", "empty", "small", "gone"]
    rows = [row(f"{at}-{name}", f"masks/{name}.png") for at, name in enumerate(uris)]
    rows += [row("unmarked", ""), row("pandas", "nan"), row("normal", None, label=0)]
    found = count(rows, f"{masks}/reviewed.csv")
    assert (found.normal, found.anomalous) == (1, 1)
    assert found.flaws == {"empty_mask": 2, "no_mask": 2, "mask_of_another_size": 1, "unreadable_mask": 1}
    told = "\n".join(found.told())
    assert "2 images count for no pixel threshold: empty_mask, the first /in/1-empty.png: " in told
    assert "/in/4-gone.png: " in told
    assert f"{masks}/masks/gone.png" in told


def pieces_of(readable: int, unreadable: int) -> Iterator[tuple[PieceOf, Marked]]:
    """Images whose masked pixels are at 0.75, the others at 0.25; and such whose mask is gone."""
    of_a = PieceOf(0, ("a",), True)
    for _ in range(readable):
        heat, mask, pixels = np.full((4, 4), 0.25, np.float32), np.zeros((4, 4), bool), PixelCounts()
        heat[0], mask[0] = 0.75, True
        pixels.add(heat, mask)
        yield of_a, Marked(pixels=pixels, anomalous=1)
    for at in range(unreadable):
        examples = {"unreadable_mask": f"/in/{at}.png: no such file"}
        yield of_a, Marked(flaws=Counter(examples.keys()), examples=examples)


@pytest.mark.parametrize(("readable", "unreadable"), [(0, 1), (0, 200), (98, 1), (20, 5)])
def test_masks_that_cannot_be_read(readable: int, unreadable: int) -> None:
    """None at all, or more than one in a hundred: no single file's fault, and no threshold is made of the others."""
    with pytest.raises(InputError, match=f"{unreadable} of {readable + unreadable} masks cannot be read, the first of"):
        levels_of(pieces_of(readable, unreadable), lambda: GatheredMarks(config()))


def test_a_single_bad_mask_is_told_of() -> None:
    """One in two hundred is left out, and the summary has it."""
    levels, told = levels_of(pieces_of(199, 1), lambda: GatheredMarks(config()))
    assert levels[None].found.value == pytest.approx(0.5)
    assert (levels[None].f1, levels[None].images) == (1, 199)
    assert told == ["1 images count for no pixel threshold: unreadable_mask, the first /in/0.png: no such file"]


def test_too_few_marked_images() -> None:
    """Nine masks are too few, however many images there are."""
    with pytest.raises(InputError, match=r"--labels label: expected 5 images .*, 10 anomalous .*; got 9 and 9"):
        levels_of(pieces_of(9, 0), lambda: GatheredMarks(config(min_images=5)))


def test_one_manifest_or_none() -> None:
    """What a relative mask is relative to is told only where there is one."""
    told = {"a": ["/x/one.csv"], "b": ["/x/one.csv", "/x/two.csv"], "c": ["/x/*.png"], "d": ["s3://b/One.JSONL"]}
    records = [{"run_id": run_id, "config": {"inputs": inputs}} for run_id, inputs in told.items()]
    assert manifests(records) == {"a": "/x/one.csv", "b": None, "c": None, "d": "s3://b/One.JSONL"}
