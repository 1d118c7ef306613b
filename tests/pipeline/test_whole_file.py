"""Files that are there as a whole or not at all, on disks and in stores."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.storage import Root
from pipeline.whole_file import whole_file, whole_text_file


@pytest.fixture(params=["disk", "store"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, memory_root: Root) -> str:
    folder = tmp_path if request.param == "disk" else memory_root.fs.unstrip_protocol(memory_root.path)
    return f"{folder}/new/a.txt"


def read(uri: str, root: Root) -> bytes:
    return root.fs.cat_file(uri) if "://" in uri else Path(uri).read_bytes()


def test_whole(uri: str, memory_root: Root) -> None:
    """It takes the place of an older one, bytes as they are."""
    for content in (b"old", b"new\r\n\x00\xff"):
        with whole_file(uri) as out:
            out.write(content)
        assert read(uri, memory_root) == content


def test_text(uri: str, memory_root: Root) -> None:
    """UTF-8, lines as they are; half a character, which a file's name may hold, is told as one."""
    with whole_text_file(uri) as out:
        out.write("ü\r\n\n\udcff")
    assert read(uri, memory_root) == "ü\r\n\n\\udcff".encode()


@pytest.mark.parametrize("opening", [whole_file, whole_text_file])
def test_an_older_one_stays(uri: str, memory_root: Root, opening) -> None:
    """Where the writing fails; nothing is left beside it."""
    with whole_file(uri) as out:
        out.write(b"old")
    with pytest.raises(KeyboardInterrupt), opening(uri) as out:
        out.write(b"new" if opening is whole_file else "new")
        raise KeyboardInterrupt
    assert read(uri, memory_root) == b"old"
    if "://" not in uri:
        assert [one.name for one in Path(uri).parent.iterdir()] == ["a.txt"]


def test_a_folder(tmp_path: Path) -> None:
    """It is never replaced by a file."""
    for name in (str(tmp_path), f"{tmp_path}/new/"):
        with pytest.raises(InputError, match="expected the name of a file to write, got a folder"), whole_file(name):
            pass
