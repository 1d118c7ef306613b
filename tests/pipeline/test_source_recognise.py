"""What an input is, told from its names and, for Parquet, from a look inside."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from reading import FlakyFileSystem

from pipeline import store_errors
from pipeline.errors import InputError, StoreError
from pipeline.sources import recognise
from pipeline.sources.images import image_items
from pipeline.sources.recognise import Source
from pipeline.storage import Root


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return folder


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def own(source: Source) -> list[str]:
    return [path.rpartition("/")[2] for path, _ in source.own_files()]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b/c.PNG", "d.tif"], "images"),
        (["s-0.tar", "b/s-1.TAR"], "webdataset"),
        (["a.webp", "notes.txt", "labels.csv"], "images"),
        (["s.tar", "index.json"], "webdataset"),
    ],
)
def test_a_folder_is_of_the_kind_of_its_files(tmp_path: Path, names: list[str], expected: str) -> None:
    """Whatever lies beside, pictures make it images and tars make it shards."""
    assert recognise(str(fill(tmp_path, *names))).format == expected


@pytest.mark.parametrize("name", ["a.jpg", "s.tar", "list.csv", "list.jsonl"])
def test_a_single_file_is_of_its_own_kind(tmp_path: Path, name: str) -> None:
    """Named outright, one file is an input; a manifest always is."""
    source = recognise(str(fill(tmp_path, name) / name))
    assert source.format == {"a.jpg": "images", "s.tar": "webdataset"}.get(name, "manifest")
    assert own(source) == [name]


def test_parquet_is_looked_into(tmp_path: Path) -> None:
    """With image bytes it is a shard, with a uri column and no bytes a manifest."""
    shard = recognise(str(parquet(tmp_path / "a.parquet", jpg=[b"x"], uri=["u"])))
    assert (shard.format, shard.image_column) == ("parquet", "jpg")
    manifest = recognise(str(parquet(tmp_path / "b.parquet", uri=["u"], label=[1])))
    assert (manifest.format, manifest.image_column) == ("manifest", None)
    with pytest.raises(InputError, match="'uri' column"):
        recognise(str(parquet(tmp_path / "c.parquet", label=[1])))


def test_of_parquet_files_a_readable_one_decides(tmp_path: Path) -> None:
    """One broken shard does not hide what the others are; if all are broken, that is said."""
    fill(tmp_path, "x/a.parquet")
    with pytest.raises(InputError, match=r"none of its \.parquet files"):
        recognise(str(tmp_path / "x"))
    parquet(tmp_path / "x" / "b.parquet", image=[b"x"])
    source = recognise(str(tmp_path / "x"))
    assert source.image_column == "image"
    assert own(source) == ["a.parquet", "b.parquet"]


def test_a_mixed_folder_asks(tmp_path: Path) -> None:
    """Pictures and shards in one folder: --format says which, and the others are counted as ignored."""
    fill(tmp_path, "a.jpg", "b.jpg", "s.tar")
    with pytest.raises(InputError, match="--format images or --format webdataset"):
        recognise(str(tmp_path))
    source = recognise(str(tmp_path), forced="images")
    assert own(source) == ["a.jpg", "b.jpg"]
    assert source.ignored == {".tar": 1}


def test_a_mix_that_comes_late_asks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard beyond the files that were peeked at is found while listing."""
    monkeypatch.setitem(recognise.__globals__, "_PEEK", 2)
    source = recognise(str(fill(tmp_path, "a.jpg", "b.jpg", "c.jpg", "z.tar")))
    with pytest.raises(InputError, match=r"holds images and \.tar shards"):
        own(source)


def test_peeking_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files looked at to decide are listed all the same, once and in order."""
    monkeypatch.setitem(recognise.__globals__, "_PEEK", 3)
    names = [f"{at}.jpg" for at in range(9)]
    assert own(recognise(str(fill(tmp_path, *names)))) == names


@pytest.mark.parametrize("names", [[], ["readme.txt", "a", "b.mp4"], ["list.csv"], [".hidden.jpg", "._a.jpg"]])
def test_nothing_to_score_is_told(tmp_path: Path, names: list[str]) -> None:
    """An empty folder, one without pictures, one with a manifest that nobody named, hidden files: wrong use."""
    with pytest.raises(InputError, match="expected images"):
        recognise(str(fill(tmp_path, *names)))


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.jpg", "a.jpg/inside", "nowhere.parquet"])
def test_what_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    """A path that names nothing is wrong use, in words."""
    with pytest.raises(InputError, match=r"no such file|no file matches"):
        recognise(str(fill(tmp_path, "a.jpg") / name))


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    """The twins that macOS makes of each picture are no pictures."""
    source = recognise(str(fill(tmp_path, "a.jpg", "._a.jpg", ".DS_Store", "sub/.x.png")))
    assert own(source) == ["a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.jpg", "c.jpg"]),
        ("[ab].jpg", ["a.jpg", "b.jpg"]),
        ("?.png", ["d.png"]),
        ("sub/*", ["c.jpg"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    """`*`, `**`, `?` and `[…]` choose files; what they do not name is not there."""
    fill(tmp_path, "a.jpg", "b.jpg", "d.png", "sub/c.jpg")
    source = recognise(f"{tmp_path}/{pattern}")
    assert sorted(own(source)) == expected
    assert source.base == str(tmp_path / "sub" if pattern == "sub/*" else tmp_path)


def test_forced_images_take_any_ending(tmp_path: Path) -> None:
    """Pictures named outright need no ending; found in a folder they do."""
    fill(tmp_path, "scan_001", "scan_002")
    assert own(recognise(f"{tmp_path}/scan_*", forced="images")) == ["scan_001", "scan_002"]


NAMES = ["a b.jpg", "50%.jpg", "#1.jpg", "what?.jpg", "zwei\nzeilen.jpg", "bü日本.jpg", "[x].jpg", "a*b.jpg", "~.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_files_like_others(tmp_path: Path, name: str) -> None:
    """Spaces, %, #, ?, line breaks, brackets, any script: found in a folder and named outright, with their size."""
    fill(tmp_path, name)
    for uri in (str(tmp_path), str(tmp_path / name)):
        source = recognise(uri)
        (item,) = image_items(source.root, source.own_files(), base=source.base)
        assert (item.path, item.relative, item.bad) == (str(tmp_path / name), name, None)
        assert item.num_bytes == len(name)


@pytest.mark.parametrize("folder", ["a [1]", "50% #?", "a*"])
def test_odd_folders_are_folders_like_others(tmp_path: Path, folder: str) -> None:
    """A folder whose name looks like a pattern is itself when it exists."""
    fill(tmp_path / folder, "a.jpg")
    fill(tmp_path / "a 1", "other.jpg")
    assert own(recognise(str(tmp_path / folder))) == ["a.jpg"]


def test_a_name_that_is_no_utf8_is_one_bad_item(tmp_path: Path) -> None:
    """Names on Linux are bytes: one that is no text is listed as bad, the picture beside it is planned."""
    fill(tmp_path, "good.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(b"x")
    source = recognise(str(tmp_path))
    items = list(image_items(source.root, source.own_files(), base=source.base))
    assert [item.bad and str(item.bad.reason) for item in items] == ["bad_name", None]


def test_ignored_files_are_counted_by_ending(tmp_path: Path) -> None:
    """The summary can say what was passed over."""
    source = recognise(str(fill(tmp_path, "a.jpg", "b.txt", "c.TXT", "Makefile", ".hidden")))
    assert own(source) == ["a.jpg"]
    assert source.ignored == {".txt": 2, "(no ending)": 2}


def test_in_a_store_as_on_disk(memory_root: Root) -> None:
    """A prefix in an object store: its pictures with full URIs, relative to the prefix."""
    for name in ("a.jpg", "b/c d#.jpg", "readme.txt"):
        memory_root.fs.pipe_file(memory_root.join(name), b"xyz")
    source = recognise(memory_root.uri())
    items = list(image_items(source.root, source.own_files(), base=source.base))
    assert sorted(item.relative for item in items) == ["a.jpg", "b/c d#.jpg"]
    assert {item.path for item in items} == {item.image_uri for item in items}
    assert all(item.path.startswith("memory://") and item.num_bytes == 3 for item in items)


def test_a_prefix_that_is_no_folder(memory_root: Root) -> None:
    """`s3://bucket/2024-`: the keys that begin with it, in files and folders; one that begins no key is told."""
    for name in ("2024-a.jpg", "2024-05/b.jpg", "2025-c.jpg", "x/2024-d.jpg"):
        memory_root.fs.pipe_file(memory_root.join(name), b"xyz")
    source = recognise(f"{memory_root.uri()}/2024-")
    items = list(image_items(source.root, source.own_files(), base=source.base))
    assert [item.relative for item in items] == ["2024-a.jpg", "2024-05/b.jpg"]
    with pytest.raises(InputError, match="no such file, folder or prefix"):
        recognise(f"{memory_root.uri()}/2023-")


def test_globs_in_a_store(memory_root: Root) -> None:
    """A pattern of fixed depth looks no deeper; sizes come with the listing."""
    for name in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "b/f.png"):
        memory_root.fs.pipe_file(memory_root.join(name), b"xyz")
    for pattern, expected in (("*.jpg", ["a.jpg"]), ("*/*.jpg", ["c.jpg"]), ("b/**/*.jpg", ["c.jpg", "e.jpg"])):
        source = recognise(f"{memory_root.uri()}/{pattern}")
        assert own(source) == expected
    assert list(recognise(f"{memory_root.uri()}/*.jpg").files) == [(memory_root.join("a.jpg"), 3)]


def test_a_pattern_leads_through_links(tmp_path: Path) -> None:
    """A folder on another disk, linked beside the others, is meant by `*/…` as they are."""
    fill(tmp_path / "disk", "a.jpg")
    fill(tmp_path / "in" / "cam1", "b.jpg")
    (tmp_path / "in" / "cam2").symlink_to(tmp_path / "disk")
    assert own(recognise(f"{tmp_path}/in/*/*.jpg")) == ["b.jpg", "a.jpg"]


def test_a_pattern_that_is_none_is_wrong_use(tmp_path: Path) -> None:
    """`**` within a name: told, not a traceback."""
    with pytest.raises(InputError, match="no pattern"):
        recognise(f"{fill(tmp_path, 'a.jpg')}/a**.jpg")


def test_a_store_that_is_down_is_not_an_empty_one(memory_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec says that nothing exists there; asked outright, the store's failure is told."""

    def info(*_: Any, **__: Any) -> None:
        raise ConnectionError("reset")

    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,))
    monkeypatch.setattr(MemoryFileSystem, "info", info)
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *_: False)
    with pytest.raises(StoreError, match="failed in every try"):
        recognise(f"{memory_root.uri()}/a")


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_store_that_hiccups_has_what_it_has(flaky: type[FlakyFileSystem], failures: int) -> None:
    """A file whose first question fails is no folder without files."""
    flaky.failures = failures
    source = recognise("flaky://a.jpg")
    assert (source.format, [path for path, _ in source.files]) == ("images", ["/a.jpg"])
    assert flaky.failures == 0


def test_relative_and_absolute_inputs_name_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image's id does not depend on where the command was given, nor on a slash at the end."""
    fill(tmp_path / "in", "a.jpg")
    monkeypatch.chdir(tmp_path)

    def uris(given: str) -> Iterable[str]:
        source = recognise(given)
        return [item.image_uri for item in image_items(source.root, source.own_files(), base=source.base)]

    assert (
        uris("in") == uris("in/") == uris(str(tmp_path / "in")) == uris(f"file://{tmp_path}/in") == uris("./in/*.jpg")
    )


def test_many_endings_are_counted_together(tmp_path: Path) -> None:
    """Archives that number their files by the ending make no record of a million lines."""
    source = recognise(str(fill(tmp_path, "a.jpg", *(f"x.{number}" for number in range(80)))))
    assert own(source) == ["a.jpg"]
    assert len(source.ignored) == 51
    assert (source.ignored["(others)"], sum(source.ignored.values())) == (30, 80)
