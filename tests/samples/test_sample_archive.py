"""The same pictures in every format, whole and in place."""

import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.samples.archive import write_archive
from pipeline.samples.plan import Settings, entry

COUNT = 45
COMMON = {"count": COUNT, "size": 40, "seed": 7, "shard_size": 20, "anomaly_rate": 0.4}


def make(folder: Path, **options: object) -> Settings:
    settings = Settings(output=str(folder), **(COMMON | options))
    write_archive(settings)
    return settings


def from_folder(folder: Path) -> dict[str, bytes]:
    root = folder / "images"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def from_tars(folder: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(folder.glob("shard-0*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    items = (entry(Settings(**COMMON), index) for index in range(COUNT))
    return {item.name: item.image_bytes for item in items}


def test_folder(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Images, masks and labels agree; masks lie outside the image tree."""
    make(tmp_path)
    assert from_folder(tmp_path) == expected
    rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert [row["path"].removeprefix("images/") for row in rows] == list(expected)
    masks = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "masks").rglob("*.png")}
    assert masks == {row["mask_path"] for row in rows if row["mask_path"]}
    for row in rows:
        category, split, _ = row["path"].removeprefix("images/").split("/")
        assert (row["category"], row["defect"] or "good") == (category, split)
        assert row["label"] == int(row["mask_path"] is not None) == int(split != "good")
        if row["mask_path"]:
            mask = np.asarray(Image.open(tmp_path / row["mask_path"]))
            assert mask.shape == (40, 40)
            assert set(np.unique(mask)) == {0, 255}
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]


def test_webdataset(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Each key has its image and fields, and a mask if it is anomalous; shards have the asked-for size."""
    make(tmp_path, format="webdataset")
    found = from_tars(tmp_path)
    assert len(list(tmp_path.glob("*.tar"))) == 3
    assert {name: found[name] for name in expected} == expected
    for name in expected:
        stem = name.rpartition(".")[0]
        fields = json.loads(found.pop(f"{stem}.json"))
        assert fields["label"] == int(f"{stem}.mask.png" in found)
        assert set(fields) == {"category", "label", "defect", "line", "captured"}
        found.pop(f"{stem}.mask.png", None)
    assert set(found) == set(expected)


def test_parquet(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Rows hold the same names and bytes; the mask is null for normal pictures."""
    make(tmp_path, format="parquet", shard_size=1000)
    file = pq.ParquetFile(tmp_path / "part-000000.parquet")
    assert file.metadata.row_group(0).num_rows <= 64
    rows = file.read().to_pylist()
    assert {row["name"]: row["image_bytes"] for row in rows} == expected
    assert all((row["mask_png"] is None) == (row["label"] == 0) for row in rows)


def test_manifest(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """All three manifests name the same files, by paths that open from anywhere."""
    make(tmp_path, format="manifest")
    rows = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    assert [Path(row["uri"]).read_bytes() for row in rows] == list(expected.values())
    lines = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["uri"] for line in lines] == [row["uri"] for row in rows]
    with (tmp_path / "manifest.csv").open(newline="") as file:
        assert [row["uri"] for row in csv.DictReader(file)] == [row["uri"] for row in rows]


def test_images_open_as_named(expected: dict[str, bytes]) -> None:
    """The suffix tells the codec, and a mixed archive has both."""
    formats = {name.rpartition(".")[2]: Image.open(io.BytesIO(data)).format for name, data in expected.items()}
    assert formats == {"jpg": "JPEG", "png": "PNG"}


@pytest.mark.parametrize("form", ["images", "webdataset"])
def test_workers_change_nothing(tmp_path: Path, form: str) -> None:
    """Several processes write the bytes that one does."""
    options = {"count": 130, "size": 32, "format": form, "shard_size": 50, "hostile": 5}
    make(tmp_path / "one", **options, workers=1)
    make(tmp_path / "two", **options, workers=2)
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    del one["archive.json"], two["archive.json"]  # holds the output's name and the seconds
    assert one == two


def test_prefix_is_stable(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """A larger archive begins with the smaller one."""
    make(tmp_path, count=60)
    assert expected.items() <= from_folder(tmp_path).items()


def test_again_changes_nothing(tmp_path: Path) -> None:
    """A complete archive is left alone; one that was cut off is made whole."""
    settings = make(tmp_path)
    whole = tree(tmp_path)
    assert write_archive(settings).complete_before
    assert tree(tmp_path) == whole
    record = json.loads((tmp_path / "archive.json").read_text()) | {"summary": None}
    (tmp_path / "archive.json").write_text(json.dumps(record))
    (tmp_path / "labels.parquet").unlink()
    assert not write_archive(settings).complete_before
    assert set(tree(tmp_path)) == set(whole)


def test_taken_output_is_refused(tmp_path: Path) -> None:
    """A folder with other content, or with another archive, is not written to."""
    make(tmp_path / "archive")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="other settings"):
        make(tmp_path / "archive", seed=8)
    with pytest.raises(InputError, match="not empty"):
        make(tmp_path / "letters")
    assert tree(tmp_path) == before


def test_any_store(expected: dict[str, bytes]) -> None:
    """A remote store gets the same tree, and a manifest of full URIs."""
    write_archive(Settings(output="memory://bucket/made", format="manifest", **COMMON))
    with fsspec.open("memory://bucket/made/manifest.parquet") as file:
        uris = pq.read_table(file)["uri"].to_pylist()
    assert all(uri.startswith("memory://") for uri in uris)
    found = []
    for uri in uris:
        with fsspec.open(uri) as file:
            found.append(file.read())
    assert found == list(expected.values())
