"""Hostile files are there when asked for, listed, and what the list says they are."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.samples.archive import write_archive
from pipeline.samples.hostile import KINDS, hostile_entry
from pipeline.samples.plan import Entry, Settings

OPENED = {  # kind → (format, mode) as Pillow sees it
    "cmyk_jpeg": ("JPEG", "CMYK"),
    "grey16_png": ("PNG", "I;16"),
    "palette_png": ("PNG", "P"),
    "alpha_png": ("PNG", "RGBA"),
    "grey16_tiff": ("TIFF", "I;16"),
    "float32_tiff": ("TIFF", "F"),
    "bit1_png": ("PNG", "1"),
    "webp": ("WEBP", "RGB"),
    "bmp": ("BMP", "RGB"),
    "png_named_jpg": ("PNG", "RGB"),
}


def make(folder: Path, form: str, *, hostile: int = len(KINDS)) -> list[dict[str, str]]:
    write_archive(Settings(output=str(folder), count=30, size=48, hostile=hostile, format=form, shard_size=20))
    return json.loads((folder / "hostile.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def files() -> dict[str, Entry]:
    settings = Settings(size=48, hostile=len(KINDS), categories="bolt,tiles")
    items = [hostile_entry(settings, number) for number in range(len(KINDS))]
    return {item.hostility.kind: item for item in items if item.hostility}


def test_outcomes(files: dict[str, Entry]) -> None:
    """What should be scored decodes whole; what should be quarantined does not, and has the reason that is listed."""
    found, listed = {}, {}
    for kind, item in files.items():
        assert item.hostility is not None
        listed[kind] = item.hostility.reason
        try:
            found[kind] = decode_image(item.image_bytes, DecodeRules()) and None
        except ImageRejected as rejected:
            found[kind] = str(rejected.reason)
    assert found == listed


def test_bombs_are_small(files: dict[str, Entry]) -> None:
    """A bomb is a few KB, as one that is meant ill would be; only notes that are long by themselves take more."""
    sizes = {kind: len(item.image_bytes) for kind, item in files.items() if "bomb" in kind}
    assert len(sizes) == 12
    assert max(sizes.values()) < 100_000


@pytest.mark.parametrize("kind", OPENED)
def test_kind_is_what_it_says(files: dict[str, Entry], kind: str) -> None:
    """Format and mode of each oddly coded file."""
    image = Image.open(io.BytesIO(files[kind].image_bytes))
    assert (image.format, image.mode) == OPENED[kind]


def test_odd_sizes_and_frames(files: dict[str, Entry]) -> None:
    """The extremes: one pixel, 4000×3, several frames, a turned picture, a header that lies."""
    opened = {kind: Image.open(io.BytesIO(item.image_bytes)) for kind, item in files.items() if kind in _ODD}
    assert opened["one_pixel_png"].size == (1, 1)
    assert opened["wide_png"].size == (4000, 3)
    assert opened["animated_gif"].n_frames == 3
    assert opened["multipage_tiff"].n_frames == 3
    assert opened["exif_rotated"].getexif()[0x0112] == 6
    assert opened["exif_rotated"].size == (48, 36)
    assert len(files["bomb_png"].image_bytes) < 100


_ODD = {"one_pixel_png", "wide_png", "animated_gif", "multipage_tiff", "exif_rotated"}


@pytest.mark.parametrize("form", ["images", "manifest"])
def test_folder_list_is_complete(tmp_path: Path, form: str) -> None:
    """Each kind is listed once, and each listed file is there; nothing lies outside the output."""
    listed = make(tmp_path / "out", form)
    files = [row for row in listed if row["name"] and row["name"].startswith("images/")]
    assert [row["kind"] for row in files] == [sort.kind for sort in KINDS]
    assert all((tmp_path / "out" / row["name"]).is_file() for row in files)
    assert sum(path.is_file() for path in (tmp_path / "out" / "images").rglob("*")) == 30 + len(KINDS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_manifest_rows(tmp_path: Path) -> None:
    """A missing file, a null and a duplicate are in the manifest."""
    listed = {row["kind"]: row["name"] for row in make(tmp_path, "manifest")}
    uris = pq.read_table(tmp_path / "manifest.parquet")["uri"].to_pylist()
    assert uris.count(None) == 1
    assert uris.count(listed["duplicate_row"]) == 2
    assert listed["missing_file"] in uris
    assert not Path(listed["missing_file"]).exists()


def test_tars(tmp_path: Path) -> None:
    """The cut tar yields two whole images, the empty one none, and names that roam stay names."""
    listed = make(tmp_path / "out", "webdataset")
    names = []
    with tarfile.open(tmp_path / "out" / "shard-bad-truncated.tar") as tar, pytest.raises(tarfile.ReadError):
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            file.read()
            names.append(member.name)
    whole = [row["name"] for row in listed if row["kind"] == "before_cut"]
    assert [name for name in names if not name.endswith((".json", ".mask.png"))] == whole
    with tarfile.open(tmp_path / "out" / "shard-bad-empty.tar") as tar:
        assert tar.getnames() == []
    with tarfile.open(tmp_path / "out" / "shard-bad-names.tar") as tar:
        assert tar.getnames() == [row["name"] for row in listed if row["kind"] == "roaming_name"]
    with tarfile.open(tmp_path / "out" / "shard-bad-members.tar") as tar:
        odd = [member.name for member in tar if not member.isreg() or member.issparse()]
    assert odd == [
        row["name"]
        for row in listed
        if row["reason"] in ("not_a_file", "unsupported") and row["shard"] and "bad" in row["shard"]
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for row in listed:
        assert (tmp_path / "out" / (row["shard"] or row["name"])).is_file()


def test_parquet_files(tmp_path: Path) -> None:
    """One file cannot be opened, another holds null and wrong values."""
    listed = make(tmp_path, "parquet")
    with pytest.raises((pa.ArrowInvalid, OSError)):
        pq.read_table(tmp_path / "part-bad-footer.parquet")
    rows = pq.read_table(tmp_path / "part-bad-values.parquet").to_pylist()
    assert None in [row["image_bytes"] for row in rows]
    bad = {row["name"] for row in listed if row["shard"] == "part-bad-values.parquet"}
    assert bad == {row["name"] for row in rows}


def test_strewn_among_the_others(tmp_path: Path) -> None:
    """Hostile members stand between good ones, the same bytes as in a folder."""
    make(tmp_path / "tar", "webdataset", hostile=3)
    make(tmp_path / "folder", "images", hostile=3)
    with tarfile.open(tmp_path / "tar" / "shard-000000.tar") as tar:
        images = [name for name in tar.getnames() if not name.endswith((".json", ".mask.png"))]
        places = [n for n, name in enumerate(images) if "hostile" in name]
        first = tar.extractfile(images[places[0]])
        assert first is not None
        assert first.read() == (tmp_path / "folder" / "images" / images[places[0]]).read_bytes()
    assert places == [7, 16]
