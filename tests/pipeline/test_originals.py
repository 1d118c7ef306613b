"""Pictures of a run read again: from files, tars, Parquet and stores; never another picture than the one scored."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from run_making import score_row

from pipeline import originals, store_errors
from pipeline.decode import DecodeRules
from pipeline.errors import InputError, StoreError
from pipeline.originals import CHANGED, ORIGINAL_COLUMNS, Missing, read_originals, rules_of
from pipeline.schema import Reason
from pipeline.sources.items import PlanItem
from pipeline.sources.parquet import index_parquet
from pipeline.sources.webdataset import index_tar
from pipeline.storage import Root, open_root

RECORD: dict[str, Any] = {"run_id": "r1", "config": {"decode": DecodeRules().record(), "image_column": None}}


def pixels(number: int) -> np.ndarray:
    return np.full((3, 4, 3), number * 10, np.uint8)


@pytest.fixture
def png(encode_image: Callable[..., bytes]) -> Callable[[int], bytes]:
    """A picture of one grey, which tells it from the others."""
    return lambda number: encode_image(pixels(number))


def row(uri: str, data: bytes, shard: str | None = None, **fields: Any) -> dict[str, Any]:
    known = {"image_uri": uri, "shard": shard, "content_hash": hashlib.sha256(data).hexdigest()}
    return score_row(uri) | known | {"num_bytes": len(data)} | fields


def rows_of(items: list[PlanItem], png: Callable[[int], bytes]) -> list[dict[str, Any]]:
    return [row(item.image_uri, png(at), item.shard) for at, item in enumerate(items)]


def found(rows: list[dict[str, Any]], record: dict[str, Any] = RECORD) -> list[Any]:
    """The number of each picture, or the reason why there is none."""
    needed = [{name: one[name] for name in ORIGINAL_COLUMNS} for one in rows]
    read = list(read_originals(iter(needed), record))
    assert [one.row for one in read] == needed
    return [_told(one.picture) for one in read]


def _told(picture: Image.Image | Missing) -> Any:
    return picture.reason if isinstance(picture, Missing) else int(np.asarray(picture)[0, 0, 0]) // 10


def put_tar(place: Root, name: str, png: Callable[[int], bytes], make_tar: Callable[..., bytes]) -> list[PlanItem]:
    members = [(f"{name}/{at}.png", png(at)) for at in range(3)]
    place.fs.pipe_file(place.join(f"{name}.tar"), make_tar(members))
    return index_tar(place.uri(place.join(f"{name}.tar")), wanted_fields=())


@pytest.mark.parametrize("name", ["a b#%.png", "x::y.png", "ümläut-検査.png", "q?x=1.png", "*.png", "a\nb.png"])
def test_local_files_of_any_name(tmp_path: Path, png: Callable[[int], bytes], name: str) -> None:
    """A name is a name, never a pattern, a chain of filesystems, a query or a fragment."""
    (tmp_path / name).write_bytes(png(7))
    assert found([row(f"{tmp_path}/{name}", png(7))]) == [7]


def test_all_kinds_in_any_order(
    tmp_path: Path, memory_root: Root, png: Callable[[int], bytes], make_tar: Callable[..., bytes]
) -> None:
    """Files, members of tars and cells of Parquet, on disk and in a store, mixed: each row has its own picture."""
    for at in range(3):
        (tmp_path / f"{at}.png").write_bytes(png(at))
        memory_root.fs.pipe_file(memory_root.join(f"{at}.png"), png(at))
    files = [row(f"{tmp_path}/{at}.png", png(at)) for at in range(3)]
    files += [row(memory_root.uri(memory_root.join(f"{at}.png")), png(at)) for at in range(3)]
    local = open_root(str(tmp_path))
    tars = [item for place in (local, memory_root) for item in put_tar(place, "s", png, make_tar)]
    pq.write_table(pa.table({"image": [png(at) for at in range(3)]}), tmp_path / "s.parquet", row_group_size=2)
    cells = index_parquet(f"{tmp_path}/s.parquet", wanted_fields=(), image_column="image")
    rows = [*files, *rows_of(tars[:3], png), *rows_of(tars[3:], png), *rows_of(cells, png)]
    order = [7 * at % len(rows) for at in range(len(rows))]
    assert found([rows[at] for at in order]) == [at % 3 for at in order]


def test_the_run_says_which_column_holds_the_pictures(tmp_path: Path, png: Callable[[int], bytes]) -> None:
    """Where a Parquet shard has several."""
    table = {"image": [png(1), png(2)], "other": [png(3), png(4)]}
    pq.write_table(pa.table(table), tmp_path / "s.parquet")
    shard = str(tmp_path / "s.parquet")
    rows = [row(f"{shard}#{at}", png(3 + at), shard) for at in range(2)]
    assert found(rows, RECORD | {"config": {"image_column": "other"}}) == [3, 4]
    assert found(rows) == [CHANGED, CHANGED]


def test_what_is_not_there_any_more(
    tmp_path: Path, png: Callable[[int], bytes], make_tar: Callable[..., bytes], encode_image: Callable[..., bytes]
) -> None:
    """Each picture has its own reason, and the others are read."""
    (tmp_path / "new.png").write_bytes(png(2))
    (tmp_path / "good.png").write_bytes(png(3))
    (tmp_path / "text.png").write_bytes(b"no picture")
    rows = [row(f"{tmp_path}/{name}.png", png(1)) for name in ("gone", "new")]
    rows += [row(f"{tmp_path}/text.png", b"no picture"), row(f"{tmp_path}/good.png", png(3))]
    (item, *_) = put_tar(open_root(str(tmp_path)), "s", png, make_tar)
    rows += [row(f"{item.shard}#s/99", png(0), item.shard), row(item.image_uri, png(0), item.shard)]
    rows += [row(f"{tmp_path}/gone.tar#a", png(0), f"{tmp_path}/gone.tar")]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing of the kind")
    rows += [row(f"{tmp_path}/bad.parquet#0", png(0), f"{tmp_path}/bad.parquet")]
    assert found(rows) == [
        Reason.NOT_FOUND, CHANGED, Reason.NOT_AN_IMAGE, 3, Reason.NOT_FOUND, 0, Reason.NOT_FOUND,
        Reason.UNREADABLE_SHARD,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "uri", ["github://org:repo@main/a.png", "simplecache::/etc/hostname", "s3://key:secret@bucket/a.png", ""]
)
@pytest.mark.parametrize("in_shard", [False, True])
def test_tables_reach_no_further_than_manifests(uri: str, in_shard: bool) -> None:
    """A row may have been written by anybody: no chained or odd protocol, and no credentials, are followed."""
    assert found([row(f"{uri}#a" if in_shard else uri, b"", uri if in_shard else None)]) == [Reason.BAD_URI]


def test_decoded_as_the_run_did(tmp_path: Path, encode_image: Callable[..., bytes]) -> None:
    """EXIF orientation, the background behind what is transparent, and the whole size even of scaled JPEGs."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = encode_image(np.zeros((30, 50, 3), np.uint8), "JPEG", exif=exif)
    clear = encode_image(np.zeros((2, 2, 4), np.uint8))
    (tmp_path / "turned.jpg").write_bytes(turned)
    (tmp_path / "clear.png").write_bytes(clear)
    rows = [row(f"{tmp_path}/turned.jpg", turned), row(f"{tmp_path}/clear.png", clear)]
    rules = DecodeRules(alpha_background="#204060", scaled_jpeg=True).record()
    one, two = (read.picture for read in read_originals(rows, RECORD | {"config": {"decode": rules}}))
    assert isinstance(one, Image.Image)
    assert isinstance(two, Image.Image)
    assert one.size == (30, 50)
    assert two.getpixel((0, 0)) == (0x20, 0x40, 0x60)


def test_a_tar_is_indexed_once(
    tmp_path: Path, png: Callable[[int], bytes], make_tar: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of rows and their order; of many shards, the last few are remembered."""
    asked: list[str] = []

    def counted(uri: str, **options: Any) -> list[PlanItem]:
        asked.append(uri)
        return index_tar(uri, **options)

    monkeypatch.setattr(originals, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(originals, "index_tar", counted)
    items = [put_tar(open_root(str(tmp_path)), name, png, make_tar) for name in "ab"]
    rows = [one for pair in zip(*(rows_of(each, png) for each in items), strict=True) for one in pair]
    assert found(rows) == [0, 0, 1, 1, 2, 2]
    assert sorted(asked) == [f"{tmp_path}/a.tar", f"{tmp_path}/b.tar"]


def test_a_store_that_does_not_answer_is_no_missing_picture(
    flaky: Any, png: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is blamed, not the picture."""
    monkeypatch.setattr("pipeline.sources.manifest.IMAGE_PROTOCOLS", {"flaky"})
    flaky.failures = 10**6
    with pytest.raises(StoreError, match="failed in every try"):
        found([row("flaky://a.jpg", b"aaa"), row("flaky://b.jpg", b"bbb")])
    assert store_errors.RETRY_AFTER_S  # as the fixture has it


@pytest.mark.parametrize("told", [{"no_such_rule": 1}, "text", {"max_pixels": "many"}, None])
def test_a_damaged_record_is_wrong_use(told: Any) -> None:
    """Nobody's rules are guessed."""
    with pytest.raises(InputError, match="run 'r1': its record has no rules"):
        rules_of({"run_id": "r1", "config": {"decode": told}})
    assert rules_of(RECORD) == DecodeRules()


def test_a_broken_tar_gives_what_it_has(
    tmp_path: Path, png: Callable[[int], bytes], make_tar: Callable[..., bytes]
) -> None:
    """As when it was scored: what lies before the break is read."""
    whole = make_tar([(f"{at}.png", png(at)) for at in range(3)])
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        end = tar.getmembers()[1].offset_data + 512
    shard = tmp_path / "cut.tar"
    shard.write_bytes(whole[:end])
    rows = [row(f"{shard}#{at}", png(at), str(shard)) for at in range(3)]
    assert found(rows) == [0, 1, Reason.NOT_FOUND]
