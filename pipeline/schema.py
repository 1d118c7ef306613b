"""The tables, column by column, and the rows that flow between the stages."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import pyarrow as pa

RUN_FORMAT = "cops-run/1"

_ID = pa.field("image_id", pa.string(), nullable=False)
_URI = pa.field("image_uri", pa.string(), nullable=False)
_SHARD = pa.field("shard", pa.string())

PIXEL_MASK = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
REGION = pa.struct(
    [*((name, pa.int32()) for name in ("x", "y", "width", "height", "area")), ("peak_score", pa.float32())]
)

SCORES = pa.schema(
    [
        _ID,
        _URI,
        _SHARD,
        ("content_hash", pa.string()),  # SHA-256 of the encoded bytes, as sha256sum prints it
        ("category", pa.string()),
        ("width", pa.int32()),  # as shown, after EXIF orientation: the mask has this size
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("num_bytes", pa.int64()),
        ("pred_score", pa.float32()),
        ("class_score", pa.float32()),
        ("patch_score_max", pa.float32()),
        ("image_threshold", pa.float32()),
        ("pred_label", pa.int8()),
        ("patch_scores", pa.binary()),
        ("map_size", pa.list_(pa.int16())),
        ("pixel_threshold", pa.float32()),
        ("pred_mask", PIXEL_MASK),
        ("mask_area", pa.int64()),
        ("regions", pa.list_(REGION)),
        ("model_id", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ]
)

QUARANTINE = pa.schema(
    [
        _ID,
        _URI,
        _SHARD,
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("num_bytes", pa.int64()),
        ("content_hash", pa.string()),
        ("run_id", pa.string()),  # the folder's, run_id=…; not written into the files, or pandas would see it twice
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)

# One row per image to score, in reading order. `kind` says how `path` is read: a whole file, a byte range of a
# tar shard, or a cell of a Parquet shard. A row with a `stage` is bad already and goes straight to quarantine.
PLAN = pa.schema(
    [
        _ID,
        _URI,
        _SHARD,
        ("kind", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("row", pa.int64()),
        ("row_group", pa.int32()),
        ("image_column", pa.string()),
        ("num_bytes", pa.int64()),
        ("category", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("position", pa.int64()),  # in reading order: shard by shard, in a shard by offset
    ]
)

QUARANTINE_FILE = QUARANTINE.remove(QUARANTINE.get_field_index("run_id"))
# What a run's own columns may not be called, in any case: SQL does not tell upper from lower.
RESERVED = (
    frozenset(SCORES.names)
    | frozenset(QUARANTINE.names)
    | frozenset(PLAN.names)
    | {"pixels", "read_s", "decode_s", "score_s", "localize_s", "nth", "known_hashes"}
)


class Stage(enum.StrEnum):
    LIST = "list"
    READ = "read"
    DECODE = "decode"
    SCORE = "score"


class Reason(enum.StrEnum):
    """Why an image or shard is in quarantine; docs/design.md says what each means."""

    BAD_NAME = "bad_name"
    BAD_URI = "bad_uri"
    BAD_MANIFEST_ROW = "bad_manifest_row"
    DUPLICATE = "duplicate"
    NOT_A_FILE = "not_a_file"
    UNREADABLE_SHARD = "unreadable_shard"
    TRUNCATED_SHARD = "truncated_shard"
    NOT_FOUND = "not_found"
    PERMISSION_DENIED = "permission_denied"
    READ_ERROR = "read_error"
    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    VALUE_RANGE = "value_range"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"


def with_metadata(schema: pa.Schema, metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """A table's schema with the run's own columns at its end."""
    for name, kind in metadata.items():
        schema = schema.append(pa.field(name, kind))
    return schema


def decoded_schema(metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """What decoding yields: pixels at model size, or a null and the reason."""
    fields = [PLAN.field(name) for name in ("image_id", "image_uri", "shard", "category", "num_bytes")]
    fields += [SCORES.field(name) for name in ("content_hash", "width", "height", "format", "mode")]
    fields += [PLAN.field(name) for name in ("stage", "reason", "message")]
    fields += [pa.field("read_s", pa.float32()), pa.field("decode_s", pa.float32())]
    fields += [pa.field("pixels", pa.large_binary())]
    return with_metadata(pa.schema(fields), metadata)


def scored_schema(metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """What the scorer yields: the pixels are gone, scores have come (null where a row is bad)."""
    decoded = decoded_schema({})
    fields = [field for field in decoded if field.name != "pixels"]
    fields += [SCORES.field(name) for name in ("pred_score", "class_score", "patch_score_max", "patch_scores")]
    fields += [SCORES.field("map_size"), SCORES.field("scored_at"), pa.field("score_s", pa.float32())]
    return with_metadata(pa.schema(fields), metadata)


def localized_schema(metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """What the writer takes: everything but the constants of the run."""
    fields = list(scored_schema({}))
    names = ("image_threshold", "pred_label", "pixel_threshold", "pred_mask", "mask_area", "regions")
    fields += [SCORES.field(name) for name in names] + [pa.field("localize_s", pa.float32())]
    return with_metadata(pa.schema(fields), metadata)
