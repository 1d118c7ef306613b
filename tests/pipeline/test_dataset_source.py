"""Labelled datasets as an input of scoring: planned like any archive, with labels and masks as columns."""

import logging
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.attempt import plan_rows
from pipeline.config import DatasetName, ScoreConfig
from pipeline.datasets import DATASETS, read_dataset
from pipeline.datasets.source import COLUMNS, labelled_items
from pipeline.errors import InputError
from pipeline.plan import PlanSummary, write_plan
from pipeline.sources import recognise
from pipeline.sources.manifest import manifest_items
from pipeline.storage import open_root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two categories in MVTec AD's layout: a has 3 anomalous and 1 normal image, b has 1 and 2."""
    root = tmp_path / "tree"
    names = [*(f"a/test/cut/{at}.png" for at in range(3)), "a/test/good/0.png"]
    names += ["b/test/hole/0.png", "b/test/good/0.png", "b/test/good/1.png"]
    masks = [name.replace("test", "ground_truth").replace(".png", "_mask.png") for name in names if "good" not in name]
    for name in names + masks:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def plan(tree: Path, folder: Path, **options) -> tuple[list[dict], PlanSummary]:
    config = ScoreConfig(inputs=(str(tree),), format="mvtec-ad", **options)
    sources = [recognise(uri, forced=config.format) for uri in config.inputs]
    root = open_root(str(folder))
    files, summary = write_plan(config, sources, root, root.join("plan"), rows=plan_rows(config, sources))
    return pq.read_table(files).to_pylist(), summary


def test_names_of_formats_are_those_of_the_readers() -> None:
    """--format and --dataset offer every dataset that can be read."""
    assert set(get_args(DatasetName)) == {*DATASETS, "plain"}
    assert ScoreConfig(inputs=("x",), format="visa").is_dataset
    assert not ScoreConfig(inputs=("x",), format="manifest").is_dataset


def test_every_test_image_is_planned_with_what_is_known_of_it(tree: Path, tmp_path: Path, caplog) -> None:
    """Category, label, defect and mask; the reader's remarks are told."""
    with caplog.at_level(logging.WARNING):
        rows, summary = plan(tree, tmp_path)
    assert (summary.planned, summary.bad) == (7, 0)
    (cut,) = [row for row in rows if row["image_uri"].endswith("a/test/cut/1.png")]
    assert cut["path"] == str(tree / "a/test/cut/1.png")
    assert (cut["category"], cut["label"], cut["defect"]) == ("a", 1, "cut")
    assert cut["mask_uri"] == str(tree / "a/ground_truth/cut/1_mask.png")
    (good,) = [row for row in rows if row["image_uri"].endswith("a/test/good/0.png")]
    assert (good["label"], good["defect"], good["mask_uri"]) == (0, "good", None)
    assert "2 instead of 15 categories" in caplog.text


def test_a_limit_sees_some_of_every_category_and_label(tree: Path, tmp_path: Path) -> None:
    """The first images are taken in turn."""
    rows, _ = plan(tree, tmp_path, limit=4)
    assert {(row["category"], row["label"]) for row in rows} == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}
    everything = [item.image_uri for item in labelled_items(read_dataset("mvtec-ad", str(tree)))]
    assert sorted(everything) == sorted(image.image_uri for image in read_dataset("mvtec-ad", str(tree)).images)


def test_signed_addresses_are_read_by_and_told_apart(tmp_path: Path) -> None:
    """Planned as by `--format manifest`: read with their signature, shown without, two pictures of one address two."""
    pytest.importorskip("aiohttp")
    signed = [f"https://host/get?id={number}&X-Amz-Signature=secret" for number in (1, 2)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("uri,label,mask_uri\n" + "".join(f"{uri},1,{uri}\n" for uri in signed))
    config = ScoreConfig(inputs=(str(manifest),), format="plain")
    sources = [recognise(str(manifest), forced="plain")]
    table = plan_rows(config, sources).table(labelled_items(read_dataset("plain", str(manifest))))
    as_manifest = ScoreConfig(inputs=(str(manifest),), format="manifest")
    items = manifest_items(open_root(str(manifest)), str(manifest), wanted_fields=())
    expected = plan_rows(as_manifest, [recognise(str(manifest), forced="manifest")]).table(items)
    for name in ("image_id", "image_uri", "path"):
        assert table[name].to_pylist() == expected[name].to_pylist()
    assert table["path"].to_pylist() == signed
    assert len(set(table["image_id"].to_pylist())) == 2
    assert set(table["mask_uri"].to_pylist()) == {"https://host/get"}


def test_columns_have_types(tree: Path) -> None:
    """A label is a number; columns of one's own come from the path, below the dataset's folder."""
    config = ScoreConfig(inputs=(str(tree),), format="mvtec-ad", path_fields="{split}/{kind_of}/{name}")
    rows = plan_rows(config, [recognise(str(tree), forced="mvtec-ad")])
    assert rows.metadata == COLUMNS | dict.fromkeys(("split", "kind_of", "name"), pa.string())
    first = rows.table(labelled_items(read_dataset("mvtec-ad", str(tree)))).to_pylist()[0]
    assert (first["split"], first["kind_of"], first["name"]) == ("test", "cut", "0")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep_columns": ("lot",)}, "--keep-columns: of a labelled dataset, category, label, defect, mask_uri"),
        ({"path_fields": "{label}/{name}"}, "--path-fields: a labelled dataset has a column 'label' already"),
    ],
)
def test_columns_that_cannot_be_are_refused(tree: Path, tmp_path: Path, options, words) -> None:
    """With the option's name."""
    with pytest.raises(InputError, match=words):
        plan(tree, tmp_path, **options)


def test_another_layout_is_refused_by_name(tree: Path, tmp_path: Path) -> None:
    """As by the readers: what is missing, and what is there."""
    with pytest.raises(InputError, match=r"expected a folder for each category.*found cut/, good/"):
        plan(tree / "a/test", tmp_path)


def test_a_name_that_no_table_can_hold_is_a_bad_row(tree: Path, tmp_path: Path) -> None:
    """As of any folder's."""
    (tree / "a/test/cut").joinpath("\udcff.png").write_bytes(b"x")
    rows, summary = plan(tree, tmp_path)
    assert (summary.planned, summary.bad) == (8, 1)
    (bad,) = [row for row in rows if row["stage"]]
    assert (bad["reason"], bad["category"], bad["label"]) == ("bad_name", "a", 1)
