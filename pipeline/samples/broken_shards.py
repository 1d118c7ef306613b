"""Hostile shards and table rows: what a reader of one format must survive beyond hostile images."""

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
        return {"name": self.name, "shard": self.shard, "kind": own.kind, "what": own.what, "expected": own.expected}


def _finding(name: str | None, kind: str, what: str, expected: Outcome, *, shard: str | None = None) -> Finding:
    return Finding(name=name, shard=shard, hostility=Hostility(kind=kind, what=what, expected=expected))


def _extra(settings: Settings, number: int) -> Entry:
    """A normal picture beyond the archive's own ones."""
    return entry(settings, settings.count + number)


def _tar_bytes(files: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_files(tar, files)
    return buffer.getvalue()


def broken_tars(settings: Settings, store: Store) -> list[Finding]:
    """A tar cut within its third image, a tar without members, and one whose members' names point elsewhere."""
    whole = [_extra(settings, number) for number in range(3)]
    kept = _tar_bytes([file for item in whole[:2] for file in members(item)])
    cut = len(kept.rstrip(b"\0")) // 512 * 512 + 512
    everything = _tar_bytes([file for item in whole for file in members(item)])
    store.put("shard-bad-truncated.tar", everything[: cut + 512 + len(whole[2].image_bytes) // 2])
    found = [_finding("shard-bad-truncated.tar", "truncated_tar", "a tar cut within its third image", "quarantined")]
    for item in whole[:2]:
        what = "a whole image before the cut"
        found.append(_finding(item.name, "before_cut", what, "scored", shard="shard-bad-truncated.tar"))
    store.put("shard-bad-empty.tar", _tar_bytes([]))
    found.append(_finding("shard-bad-empty.tar", "empty_tar", "a tar without members", "nothing"))
    roaming = [("../../escaped.jpg", 3), ("/absolute.jpg", 4)]
    store.put("shard-bad-names.tar", _tar_bytes([(name, _extra(settings, n).image_bytes) for name, n in roaming]))
    what = "a member whose name points outside; a name is only a name"
    found += [_finding(name, "roaming_name", what, "scored", shard="shard-bad-names.tar") for name, _ in roaming]
    return found


def _parquet_bytes(rows: list[Row]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SHARD_SCHEMA), buffer)
    return buffer.getvalue()


def broken_parquet(settings: Settings, store: Store) -> list[Finding]:
    """A file with a bad footer, and a file whose image column holds nulls and things that are no images."""
    data = _parquet_bytes([shard_row(_extra(settings, number)) for number in range(3)])
    store.put("part-bad-footer.parquet", data[:-200] + bytes(100))
    found = [_finding("part-bad-footer.parquet", "bad_footer", "a Parquet file with a ruined footer", "quarantined")]
    wrong: list[tuple[str, bytes | None, str]] = [
        ("null", None, "a null in the image column"),
        ("empty", b"", "no bytes in the image column"),
        ("text", b"not an image", "text in the image column"),
        ("path", b"images/bolt/good/000000.jpg", "a path in the image column"),
    ]
    rows = [shard_row(_extra(settings, 3))]
    for kind, value, what in wrong:
        rows.append(dict.fromkeys(SHARD_SCHEMA.names) | {"image_bytes": value, "name": f"hostile/{kind}"})
        found.append(_finding(f"hostile/{kind}", f"{kind}_value", what, "quarantined", shard="part-bad-values.parquet"))
    found.append(_finding(str(rows[0]["name"]), "beside_bad", "a good row", "scored", shard="part-bad-values.parquet"))
    store.put("part-bad-values.parquet", _parquet_bytes(rows))
    return found


def broken_rows(store: Store, rows: list[Row]) -> tuple[list[Row], list[Finding]]:
    """Manifest rows for a file that is missing, for no file at all, and for one that is listed already."""
    gone = store.uri("images/hostile/there is no such file.jpg")
    empty = dict.fromkeys(MANIFEST_SCHEMA.names)
    found = [
        _finding(gone, "missing_file", "a row whose file is missing", "quarantined"),
        _finding(None, "null_uri", "a row without a URI", "quarantined"),
        _finding(str(rows[0]["uri"]), "duplicate_row", "an image listed twice, to be scored once", "scored"),
    ]
    return [empty | {"uri": gone, "category": "hostile"}, empty, dict(rows[0])], found
