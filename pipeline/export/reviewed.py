"""Back from review: what people decided in CVAT, FiftyOne or Label Studio, as a manifest with labels and masks."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import InputError
from pipeline.export.label_studio import LABEL
from pipeline.export.names import Names, names_for, picture_name
from pipeline.export.reading import Reviewed, merged, reviewed_in
from pipeline.export.selection import Row, Selection, choose
from pipeline.export.writing import short
from pipeline.storage import Root, open_root, write_atomic
from pipeline.store_errors import describe, with_patience
from pipeline.whole_file import whole_text_file

MANIFEST_COLUMNS = ("uri", "label", "mask_uri", "category", "image_id", "pred_score", "pred_label")
_OF_ROWS = ("image_id", "image_uri", "width", "height", "category", "pred_score", "pred_label")


@dataclass(frozen=True)
class Labelled:
    """Args:    contradictory: called normal, with shapes drawn, which are left out.   repeated: pictures that the file
    has more than once.   left_out: how many shapes of which other labels.   unknown: pictures that were reviewed and
    are not among the chosen ones.   first_unknown: the name of one.
    """

    run_id: str
    normal: int
    anomalous: int
    contradictory: int
    repeated: int
    left_out: Mapping[str, int]
    unknown: int
    first_unknown: str | None
    manifest: str


def import_reviewed(
    selection: Selection,
    source: str,
    save: str,
    *,
    labels: Collection[str] = (LABEL,),
    relative_to: str | None = None,
    pictures: str | None = None,
) -> Labelled:
    """Write a manifest of the run's images that were reviewed, and a mask beside it for each anomalous one with shapes.

    Args:    source: a COCO file as CVAT and FiftyOne export it, or Label Studio's JSON.
             labels: which shapes are of defects.
             relative_to, pictures: as they were given to the export, since names are compared.
    Raises:  InputError: the source is neither, is damaged, or none of its pictures is among the chosen images.
    """
    found = _read(source, labels)
    masks = open_root(save.removesuffix(".csv") + "-masks")
    tally, left_out = Counter[str](), Counter[str]()
    with choose(selection) as chosen, whole_text_file(save) as out:
        names = names_for(chosen, relative_to=relative_to, pictures=pictures)
        manifest = csv.DictWriter(out, MANIFEST_COLUMNS)
        manifest.writeheader()
        for row in chosen.rows(_OF_ROWS):
            several = [*found.pop(row["image_id"], ()), *found.pop(names.of(row), ())]
            if several:
                review = _merged(several)
                manifest.writerow(_manifest_row(row, review, names, masks))
                tally["anomalous" if review.label else "normal"] += 1
                tally["contradictory"] += review.is_contradictory
                tally["repeated"] += len(several) > 1
                left_out.update(review.left_out)
        run_id, first = chosen.record["run_id"], next((one for several in found.values() for one in several), None)
        if not tally["normal"] + tally["anomalous"]:
            raise InputError(_nothing_found(source, first, names, run_id))
    return Labelled(
        run_id=run_id,
        normal=tally["normal"],
        anomalous=tally["anomalous"],
        contradictory=tally["contradictory"],
        repeated=tally["repeated"],
        left_out=dict(left_out.most_common()),
        unknown=len(found),
        first_unknown=first.name if first else None,
        manifest=open_root(save).uri(),
    )


def _read(source: str, labels: Collection[str]) -> dict[str, list[Reviewed]]:
    """By image id where the tool kept it, else by name."""
    root = open_root(source)
    found: dict[str, list[Reviewed]] = {}
    try:
        document = json.loads(with_patience(lambda: root.fs.cat_file(root.path), root.uri()))
        for review in reviewed_in(document, labels):
            found.setdefault(review.image_id or review.name, []).append(review)
    except FileNotFoundError as exc:
        raise InputError(f"{root.uri()}: no such file") from exc
    except (ValueError, RecursionError) as exc:
        expected = "expected COCO (images, annotations) or Label Studio's JSON (tasks with annotations)"
        raise InputError(f"{root.uri()}: {expected}: {describe(exc)}") from exc
    return found


def _merged(several: list[Reviewed]) -> Reviewed:
    try:
        return merged(several)
    except ValueError as exc:
        raise InputError(f"{several[0].name}: its shapes cannot be used: {exc}") from exc


def _manifest_row(row: Row, review: Reviewed, names: Names, masks: Root) -> dict[str, Any]:
    known = {name: row[name] for name in MANIFEST_COLUMNS if name in row} | {"pred_score": short(row["pred_score"])}
    told = known | {"uri": names.folder + names.of(row), "label": review.label, "mask_uri": ""}
    if review.label and review.shapes:
        name = picture_name(row, "mask")
        _save_mask(row, review, masks, name)
        told["mask_uri"] = f"{masks.path.rpartition('/')[2]}/{name}"
    return told


def _save_mask(row: Row, review: Reviewed, masks: Root, name: str) -> None:
    try:
        marked = review.mask((row["height"], row["width"]))
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        raise InputError(f"{review.name}: its shapes cannot be used: {exc}") from exc
    encoded = io.BytesIO()
    Image.fromarray(marked.astype(np.uint8) * 255).save(encoded, "PNG")
    path = masks.join(name)
    with_patience(lambda: write_atomic(masks.fs, path, encoded.getvalue()), masks.uri(path))


def _nothing_found(source: str, first: Reviewed | None, names: Names, run_id: str) -> str:
    where = open_root(source).uri()
    if first is None:
        return f"{where}: nobody has reviewed a picture in it"
    return (
        f"{where}: none of its pictures is one of run {run_id!r}; the first is named {first.name!r}, and names are "
        f"taken relative to {names.folder}. Give the same --relative-to or --pictures as to the export"
    )
