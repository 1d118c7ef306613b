"""Hostile shards and table rows: what a reader of one format must survive beyond hostile images."""

import gzip
import io
import tarfile
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.samples.plan import Entry, Hostility, Outcome, Settings, entry
from pipeline.samples.records import MANIFEST_SCHEMA, SHARD_SCHEMA, Row, add_files, members, shard_row
from pipeline.samples.store import Store


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of hostile.json: a hostile file, shard, member or row. `name` is null for a row that has none."""

    name: str | None
    hostility: Hostility
    shard: str | None = None

    def row(self) -> Row:
        own = self.hostility
        named = {"name": self.name, "shard": self.shard, "kind": own.kind, "what": own.what}
        return named | {"expected": own.expected, "reason": own.reason}


def _finding(name: str | None, kind: str, what: str, reason: str | None = None, *, shard: str | None = None) -> Finding:
    """Scored, or quarantined for a reason."""
    expected: Outcome = "quarantined" if reason else "scored"
    return Finding(name=name, shard=shard, hostility=Hostility(kind=kind, what=what, expected=expected, reason=reason))


def _extra(settings: Settings, number: int) -> Entry:
    """A normal picture beyond the archive's own ones."""
    return entry(settings, settings.count + number)


def _tar_bytes(files: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_files(tar, files)
    return buffer.getvalue()


def broken_tars(settings: Settings, store: Store) -> list[Finding]:
    """Tars that break off, that are none, and those whose members are odd."""
    return [
        *_cut_tar(settings, store),
        *_no_tars(settings, store),
        *_roaming_names(settings, store),
        *_odd_members(settings, store),
    ]


def _cut_tar(settings: Settings, store: Store) -> list[Finding]:
    """A tar cut within its third image."""
    shard = "shard-bad-truncated.tar"
    whole = [_extra(settings, number) for number in range(3)]
    kept = _tar_bytes([file for item in whole[:2] for file in members(item)])
    cut = len(kept.rstrip(b"\0")) // 512 * 512 + 512
    everything = _tar_bytes([file for item in whole for file in members(item)])
    store.put(shard, everything[: cut + 512 + len(whole[2].image_bytes) // 2])
    found = [_finding(item.name, "before_cut", "a whole image before the cut", shard=shard) for item in whole[:2]]
    found.append(_finding(whole[2].name, "at_cut", "the image that is cut", "truncated", shard=shard))
    return [_finding(shard, "truncated_tar", "a tar cut within its third image", "truncated_shard"), *found]


def _no_tars(settings: Settings, store: Store) -> list[Finding]:
    """Tars without members, of other formats, and without bytes."""
    store.put("shard-bad-empty.tar", _tar_bytes([]))
    nothing = Hostility(kind="empty_tar", what="a tar without members", expected="nothing")
    packed = gzip.compress(_tar_bytes([("a.jpg", _extra(settings, 0).image_bytes)]), mtime=0)
    wrong = {
        "gzip": (packed, "a compressed tar"),
        "text": (b"Not Found\n" * 200, "text named .tar"),
        "zero": (b"", "a tar of no bytes"),
    }
    found = [Finding(name="shard-bad-empty.tar", hostility=nothing)]
    for kind, (data, what) in wrong.items():
        store.put(f"shard-bad-{kind}.tar", data)
        found.append(_finding(f"shard-bad-{kind}.tar", f"{kind}_tar", what, "unreadable_shard"))
    return found


def _roaming_names(settings: Settings, store: Store) -> list[Finding]:
    """Names that point elsewhere, or are longer than any disk takes."""
    names = ["../../escaped.jpg", "/absolute.jpg", "n" * 1000 + ".jpg", "Prüfling/検査\nΩ.jpg"]
    files = [(name, _extra(settings, 3 + at).image_bytes) for at, name in enumerate(names)]
    store.put("shard-bad-names.tar", _tar_bytes(files))
    what = "a member of an odd name; a name is only a name"
    return [_finding(name, "roaming_name", what, shard="shard-bad-names.tar") for name in names]


def _odd_members(settings: Settings, store: Store) -> list[Finding]:
    """Links, devices, a sparse file and a key that comes twice, between two good pictures."""
    shard, buffer = "shard-bad-members.tar", io.BytesIO()
    data = _extra(settings, 7).image_bytes
    kinds = {
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "pipe": tarfile.FIFOTYPE,
    }
    found = [_finding("first.jpg", "beside_odd", "a good picture", shard=shard)]
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_files(tar, [("first.jpg", data)])
        for kind, code in kinds.items():
            info = tarfile.TarInfo(f"{kind}.jpg")
            info.type, info.linkname = code, "/etc/passwd"
            tar.addfile(info)
            found.append(_finding(info.name, f"{kind}_member", f"a {kind} named .jpg", "not_a_file", shard=shard))
        sparse = tarfile.TarInfo("sparse.jpg")
        sparse.pax_headers = {"GNU.sparse.map": f"0,{len(data)}", "GNU.sparse.size": str(len(data) + 4096)}
        sparse.size = len(data)
        tar.addfile(sparse, io.BytesIO(data))
        found.append(_finding(sparse.name, "sparse_member", "a file stored with holes", "unsupported", shard=shard))
        add_files(tar, [("twice.jpg", data), ("twice.png", data)])
    found.append(_finding("twice.jpg", "first_of_key", "the first of two pictures of one key", shard=shard))
    found.append(_finding("twice.png", "second_of_key", "the second of them", "duplicate", shard=shard))
    store.put(shard, buffer.getvalue())
    return found


def _parquet_bytes(rows: list[Row], schema: pa.Schema = SHARD_SCHEMA) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue()


def broken_parquet(settings: Settings, store: Store) -> list[Finding]:
    """Files that cannot be read or have no images, and one whose image column holds nulls and no images."""
    data = _parquet_bytes([shard_row(_extra(settings, number)) for number in range(3)])
    text = pa.schema([("image_bytes", pa.string()), ("name", pa.string())])
    wrong = {
        "footer": (data[:-200] + bytes(100), "a Parquet file with a ruined footer"),
        "half": (data[: len(data) // 2], "half a Parquet file"),
        "zero": (b"", "a Parquet file of no bytes"),
        "column": (_parquet_bytes([{"image_bytes": "a.jpg", "name": "a"}], text), "text in place of bytes"),
        "page": (b"<html>404</html>\n" * 9, "an HTML page named .parquet"),
    }
    found = []
    for kind, (content, what) in wrong.items():
        store.put(f"part-bad-{kind}.parquet", content)
        found.append(_finding(f"part-bad-{kind}.parquet", f"bad_{kind}", what, "unreadable_shard"))
    return found + _bad_values(settings, store)


def _bad_values(settings: Settings, store: Store) -> list[Finding]:
    shard = "part-bad-values.parquet"
    rows = [shard_row(_extra(settings, 3))]
    found = [_finding(str(rows[0]["name"]), "beside_bad", "a good row", shard=shard)]
    wrong: list[tuple[str, bytes | None, str, str]] = [
        ("null", None, "a null in the image column", "empty"),
        ("empty", b"", "no bytes in the image column", "empty"),
        ("text", b"not an image", "text in the image column", "not_an_image"),
        ("path", b"images/bolt/good/000000.jpg", "a path in the image column", "not_an_image"),
    ]
    for kind, value, what, reason in wrong:
        rows.append(dict.fromkeys(SHARD_SCHEMA.names) | {"image_bytes": value, "name": f"hostile/{kind}"})
        found.append(_finding(f"hostile/{kind}", f"{kind}_value", what, reason, shard=shard))
    store.put(shard, _parquet_bytes(rows))
    return found


def broken_rows(store: Store, rows: list[Row]) -> tuple[list[Row], list[Finding]]:
    """Manifest rows of what is missing or may not be read, of no file at all, and of one that is listed already."""
    wrong = {
        "missing_file": (store.uri("images/hostile/there is no such file.jpg"), "a file that is missing", "not_found"),
        "folder": (store.uri("images"), "a folder", "not_a_file"),
        "chained": ("simplecache::s3://bucket/x.jpg", "a chain of protocols", "bad_uri"),
        "protocol": ("ssh://host/x.jpg", "a protocol that may not be used", "bad_uri"),
    }
    empty = dict.fromkeys(MANIFEST_SCHEMA.names)
    good = next(row for row in rows if row["label"] is not None)
    more = [*(empty | {"uri": uri, "category": "hostile"} for uri, _, _ in wrong.values()), empty, dict(good)]
    found = [_finding(uri, kind, f"a row that names {what}", reason) for kind, (uri, what, reason) in wrong.items()]
    found.append(_finding(None, "null_uri", "a row without a URI", "bad_uri"))
    found.append(_finding(str(good["uri"]), "duplicate_row", "an image listed twice, to be scored once"))
    return more, found
