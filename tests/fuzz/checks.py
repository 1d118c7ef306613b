"""What must hold of every outcome, judged without the pipeline's own means."""

from __future__ import annotations

from collections import Counter

import numpy as np
from mutate import Mutant

REASONS = frozenset(
    {"empty", "too_many_bytes", "truncated", "corrupt", "not_an_image", "unsupported", "too_many_pixels", "value_range"}
)
"""What a picture may be quarantined for while it is decoded; out of memory, under the bound on pixels, it never is."""
SHARD_OUTCOMES = frozenset({"read", "unreadable_shard", "truncated_shard"})
PICTURE_OUTCOMES = REASONS | {
    "scored",
    "not_a_file",
    "duplicate",
    "bad_name",
    "not_found",
    "read_error",
    "bad_uri",
    "bad_manifest_row",
}
_TOO_SHORT_TO_TELL = 3  # bytes
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0")
_END_MARK_BYTES = 512  # the first of a tar's two empty blocks
WHOLE = {  # what is in a whole shard or table
    "ustar": ("read", {"scored": 2}),
    "gnu": ("read", {"scored": 4, "not_a_file": 1}),
    "pax": ("read", {"scored": 4}),
    "snappy": ("read", {"scored": 3, "empty": 1, "not_an_image": 1}),
    "zstd, two groups": ("read", {"scored": 3, "empty": 1, "not_an_image": 1}),
    "plain": ("read", {"scored": 3, "empty": 1, "not_an_image": 1}),
    "struct": ("read", {"scored": 3, "empty": 1, "not_an_image": 1}),
    "large binary": ("read", {"scored": 3, "empty": 1, "not_an_image": 1}),
    "csv": ("read", {"not_found": 2}),
    "jsonl": ("read", {"not_found": 2}),
    "parquet": ("read", {"not_found": 2}),
    "small": ("accepted", {}),
    "table": ("accepted", {}),
    "record": ("accepted", {}),
}


class BrokenPromiseError(AssertionError):
    """An outcome that cannot be right."""


def check_image(mutant: Mutant, outcome: str, pixels: np.ndarray | None, *, whole: np.ndarray | None) -> None:
    """A reason that fits what was done to the picture; never half of one."""
    same = pixels is not None and whole is not None and np.array_equal(pixels, whole)
    _require(outcome == "scored" if pixels is not None else outcome in REASONS, "no known outcome", outcome)
    _require(pixels is None or (pixels.dtype == np.uint8 and pixels.ndim == 3), "no RGB", outcome)
    _require((outcome == "empty") == (not mutant.data), "empty means no bytes", outcome)
    if outcome == "not_an_image":
        _require(not mutant.data.startswith(_SIGNATURES), "it begins as a picture does", outcome)
    match mutant.plan:
        case "whole" | "junk behind":
            _require(same, "a whole picture is scored, with the same pixels", outcome)
        case "cut":
            _check_cut(mutant, outcome, same=same)
        case "text":
            _require(outcome == "not_an_image", "text is no picture", outcome)
        case "too large":
            _require(outcome == "too_many_pixels", "its header tells of too many pixels", outcome)
        case "bit" if mutant.seed.form == "png":
            _require(same or outcome != "scored", "a PNG's checksums tell a wrong bit", outcome)


def _check_cut(mutant: Mutant, outcome: str, *, same: bool) -> None:
    left = len(mutant.data)
    if left < _TOO_SHORT_TO_TELL:
        _require(outcome == ("not_an_image" if left else "empty"), "too short to tell what it was", outcome)
    else:
        _require(same or outcome == "truncated", "cut, a picture is whole as before or truncated", outcome)


def check_tar(mutant: Mutant, outcome: str, pictures: Counter[str]) -> None:
    """A cut tar is told, unless only its end mark's second half is gone; what lies before the cut is read."""
    check_whole(mutant, outcome, pictures)
    if mutant.plan == "cut":
        content = len(mutant.seed.data.rstrip(b"\0"))
        marked = (content + 511) // 512 * 512 + _END_MARK_BYTES
        _require((outcome == "read") == (len(mutant.data) >= marked), "a tar without its end mark is told", outcome)
        if len(mutant.data) >= content:
            _require(dict(pictures) == WHOLE[mutant.seed.name][1], "pictures before the cut are read", str(pictures))


def check_whole(mutant: Mutant, outcome: str, pictures: Counter[str]) -> None:
    """A whole file gives all that is in it; of any other the outcomes are known ones."""
    known = SHARD_OUTCOMES | {"accepted", "refused"}
    _require(outcome in known and set(pictures) <= PICTURE_OUTCOMES, "no known outcome", f"{outcome} {dict(pictures)}")
    if mutant.plan == "whole":
        expected = WHOLE[mutant.seed.name]
        _require((outcome, dict(pictures)) == expected, f"a whole file gives {expected}", f"{outcome} {dict(pictures)}")


def _require(holds: bool, promise: str, outcome: str) -> None:
    if not holds:
        raise BrokenPromiseError(f"{promise}; the outcome was {outcome}")
