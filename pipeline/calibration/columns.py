"""The columns of a table of thresholds, beside those that its groups are told by."""

from __future__ import annotations

import pyarrow as pa

_COUNTS = {"image": ("num_images", "num_flagged"), "pixel": ("num_map_images", "num_map_flagged")}


def _of(what: str) -> list[pa.Field]:
    count, flagged = _COUNTS[what]
    return [
        *(pa.field(f"{what}_threshold{end}", pa.float64()) for end in ("", "_low", "_high")),
        *(pa.field(f"{what}_{name}", pa.string()) for name in ("rule", "source")),
        *(pa.field(f"{what}_rate_{end}", pa.float64()) for end in ("target", "low", "high")),
        pa.field(f"{what}_f1", pa.float64()),
        pa.field(count, pa.int64()),
        pa.field(flagged, pa.int64()),
    ]


BEFORE = (
    pa.field("version", pa.int32()),
    pa.field("model_id", pa.string()),
    pa.field("decode", pa.string()),
    pa.field("group_by", pa.list_(pa.string())),
    pa.field("is_pooled", pa.bool_()),
)
AFTER = (
    *_of("image"),
    *_of("pixel"),
    pa.field("run_ids", pa.list_(pa.string())),
    pa.field("chosen", pa.string()),
    pa.field("labels", pa.string()),
    pa.field("calibrated_at", pa.timestamp("us", tz="UTC")),
)
OWN = frozenset(field.name for field in (*BEFORE, *AFTER))
