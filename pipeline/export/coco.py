"""COCO: what pycocotools, FiftyOne and CVAT read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InputError
from pipeline.export.names import Names, names_for
from pipeline.export.selection import Chosen, Row, Selection, choose
from pipeline.export.shapes import Part, coco_rle, parts_of
from pipeline.export.writing import json_lists, short, write_document, write_list

Per = Literal["region", "image"]

CATEGORY = {"id": 1, "name": "anomaly", "supercategory": "defect"}
"""The only one: what the masks show. What a picture is of is told with the picture, as `category`."""

COLUMNS = (
    "image_id", "image_uri", "width", "height", "category", "pred_score", "pred_label", "pred_mask", "mask_area",
    "regions",
)  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """Args:    folder: what the file names are relative to.
    unmarked: images without a mask.   written: the files.
    """

    run_id: str
    images: int
    shapes: int
    unmarked: int
    folder: str
    written: tuple[str, ...]


def export_coco(
    selection: Selection,
    save: str,
    *,
    results: str | None = None,
    per: Per = "region",
    relative_to: str | None = None,
    pictures: str | None = None,
) -> Exported:
    """Write the chosen images and their masks.

    Args:    results: a second file, in COCO's format of results, for `COCO.loadRes`.
             per: an annotation for each region, its score the region's peak; or for each image, with the image's score.
    Raises:  InputError: as `choose` and `names_for`; the images have no masks; or a row of the table is damaged.
    """
    with choose(selection) as chosen, json_lists(3) as (images, annotations, found):
        chosen.require_masks()
        names = names_for(chosen, relative_to=relative_to, pictures=pictures)
        columns = chosen.columns
        for row in chosen.rows([*COLUMNS, *columns]):
            images.append(_image(row, names, images.count + 1, columns))
            for shape in _shapes(row, per):
                placed = {"image_id": images.count, "category_id": CATEGORY["id"]} | shape
                annotations.append({"id": annotations.count + 1, **placed, "iscrowd": 0})
                if results is not None:
                    found.append({name: value for name, value in placed.items() if name != "area"})
        lists = {"images": images, "annotations": annotations}
        others = [write_list(results, found)] if results is not None else []
        written = [write_document(save, _head(chosen, selection), lists), *others]  # last: where it is, all is
        unmarked = chosen.images - chosen.masks
        run_id = chosen.record["run_id"]
        return Exported(run_id, images.count, annotations.count, unmarked, names.folder, tuple(written))


def _head(chosen: Chosen, selection: Selection) -> dict[str, Any]:
    record = chosen.record
    info = {"description": f"anomalies found in run {record['run_id']}", "date_created": record["committed_at"]}
    info |= {"run_id": record["run_id"], "model_id": record.get("model_id")}
    info |= {"label_set": selection.label_set or "run", "where": selection.where}
    return {"info": info, "licenses": [], "categories": [CATEGORY]}


def _image(row: Row, names: Names, number: int, columns: list[str]) -> dict[str, Any]:
    told = {"id": number, "file_name": names.of(row), "width": row["width"], "height": row["height"]}
    told |= {name: row[name] for name in ("image_id", "image_uri", "category")}
    told |= {"pred_score": short(row["pred_score"]), "pred_label": row["pred_label"]}
    if row["image_uri"].startswith(("http://", "https://")):
        told["coco_url"] = row["image_uri"]
    return told | {"columns": {name: row[name] for name in columns}}


def _shapes(row: Row, per: Per) -> Iterator[dict[str, Any]]:
    """Box, area, runs and score of what a row's mask shows."""
    if not row["mask_area"]:
        return
    size_hw = (row["height"], row["width"])
    parts = checked_parts(row)
    if per == "region":
        for part in parts:
            runs = coco_rle(part, size_hw)
            yield {"bbox": part.box_xywh, "segmentation": runs, "score": short(part.score), "area": part.area}
    else:
        boxes = [part.box_xywh for part in parts]
        x, y = (min(box[axis] for box in boxes) for axis in (0, 1))
        right, bottom = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
        box = [x, y, right - x, bottom - y]
        told = {"bbox": box, "segmentation": row["pred_mask"], "score": short(row["pred_score"])}
        yield told | {"area": row["mask_area"]}


def checked_parts(row: Mapping[str, Any]) -> list[Part]:
    """The regions of a row of the table.

    Raises:  InputError: the row is damaged.
    """
    try:
        return parts_of(row, (row["height"], row["width"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{row['image_uri']}: its row in the table is damaged: {exc}") from exc
