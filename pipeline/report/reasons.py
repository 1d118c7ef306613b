"""What each reason in quarantine means and what to do, in a line; docs/design.md has the table."""

from __future__ import annotations

from pipeline.schema import Reason

MEANINGS: dict[Reason, str] = {
    Reason.BAD_NAME: "a file name that is not UTF-8, or a picture in a tar that may be another's companion",
    Reason.BAD_URI: "a manifest row without a usable uri",
    Reason.BAD_MANIFEST_ROW: "a line of the manifest that cannot be parsed",
    Reason.DUPLICATE: "a second picture under one key of a tar",
    Reason.NOT_A_FILE: "a link or device in a tar; a folder, pipe or device that a manifest names",
    Reason.UNREADABLE_SHARD: "a shard that cannot be opened: another format, or damaged from its start",
    Reason.TRUNCATED_SHARD: "a shard that breaks off or lacks its end mark: pictures after it may be missing",
    Reason.NOT_FOUND: "gone since it was listed, or named by a manifest and not there",
    Reason.PERMISSION_DENIED: "the store or disk refuses to give it",
    Reason.READ_ERROR: "the store failed for this file in five tries",
    Reason.EMPTY: "a file of no bytes, or a null cell",
    Reason.TOO_MANY_BYTES: "larger than --max-bytes",
    Reason.TOO_MANY_PIXELS: "more pixels than --max-pixels, or 65,535 on a side",
    Reason.NOT_AN_IMAGE: "text, a web page or an unknown kind of file under a picture's name",
    Reason.TRUNCATED: "it ends before its own marks and lengths say: cut while it was written or copied",
    Reason.CORRUPT: "its bytes cannot be decoded",
    Reason.UNSUPPORTED: "a kind of TIFF, JPEG or BMP that is not read, or a sparse file in a tar",
    Reason.VALUE_RANGE: "float values outside 0 to 1, and no --bit-depth-range",
    Reason.OUT_OF_MEMORY: "this picture alone does not fit into memory",
    Reason.NOT_FINITE: "the model gave NaN or infinity",
}


def meaning(reason: str) -> str:
    return MEANINGS.get(Reason(reason), "") if reason in set(Reason) else "a reason of another version"
