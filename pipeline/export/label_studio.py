"""Label Studio: tasks with what the model found as predictions, and the setup that shows them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pipeline.export.coco import COLUMNS, Exported, checked_parts
from pipeline.export.names import Names, names_for
from pipeline.export.selection import Row, Selection, choose
from pipeline.export.shapes import Part, label_studio_rle
from pipeline.export.writing import json_lists, short, write_list
from pipeline.storage import open_root
from pipeline.whole_file import whole_text_file

Shape = Literal["brush", "rectangle"]

LABEL = "anomaly"
VERDICTS = ("normal", "anomalous")
"""By `pred_label`."""
LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT. That must lie above the folder of
the pictures, which is connected to the project as a storage; so their URLs begin with this folder's name.
"""

_SETUP = """\
<View>
  <Header value="$category, score $pred_score"/>
  <Choices name="verdict" toName="image" choice="single" required="true" showInline="true">
    <Choice value="normal"/>
    <Choice value="anomalous"/>
  </Choices>
  <{tag}Labels name="region" toName="image">
    <Label value="anomaly" background="#ff3b30"/>
  </{tag}Labels>
  <Image name="image" value="$image" zoom="true" zoomControl="true" brightnessControl="true"/>
</View>
"""


def export_label_studio(
    selection: Selection,
    save: str,
    *,
    shape: Shape = "brush",
    url_prefix: str | None = None,
    relative_to: str | None = None,
    pictures: str | None = None,
) -> Exported:
    """Write tasks to import, and beside them, as `.xml`, the labelling setup that they need.

    Args:    url_prefix: before each file's name; where None, that of local files, and nothing before URIs of stores.
    Raises:  InputError: as `choose` and `names_for`; the images have no masks; or a row of the table is damaged.
    """
    with choose(selection) as chosen, json_lists(1) as (tasks,):
        chosen.require_masks()
        names = names_for(chosen, relative_to=relative_to, pictures=pictures)
        columns, shapes = chosen.columns, 0
        version = f"{chosen.record.get('model_id')} {selection.label_set or 'run'}"
        for row in chosen.rows([*COLUMNS, *columns]):
            found = _regions(row, shape)
            shapes += len(found)
            tasks.append(_task(row, found, columns, url=_url(row, names, url_prefix), version=version))
        with whole_text_file(_setup_uri(save)) as out:
            out.write(_SETUP.format(tag=_TAGS[shape]))
        written = write_list(save, tasks)  # last: where it is, all is
        unmarked, run_id = chosen.images - chosen.masks, chosen.record["run_id"]
        setup = open_root(_setup_uri(save)).uri()
        return Exported(run_id, tasks.count, shapes, unmarked, names.folder, (written, setup))


_TAGS: Mapping[Shape, str] = {"brush": "Brush", "rectangle": "Rectangle"}


def _setup_uri(save: str) -> str:
    return save.removesuffix(".json") + ".xml"


def _url(row: Row, names: Names, prefix: str | None) -> str:
    """Stores are Label Studio's own matter: it signs `s3://…` for a storage that is connected to the project."""
    in_store = "://" in (names.folder if names.are_pictures else row["image_uri"])
    if prefix is None and in_store:
        uri: str = row["image_uri"]
        return names.folder + names.of(row) if names.are_pictures else uri
    if prefix is None:
        return LOCAL_FILES + quote(posixpath.basename(names.folder.rstrip("/")) + "/" + names.of(row))
    return prefix + quote(names.of(row))


def _task(row: Row, regions: list[dict[str, Any]], columns: list[str], *, url: str, version: str) -> dict[str, Any]:
    ours = {"image": url, "pred_score": short(row["pred_score"])}
    ours |= {name: row[name] for name in ("image_id", "image_uri", "category", "pred_label")}
    theirs = {f"column_{name}" if name in ours else name: row[name] for name in columns}
    result = [*regions, *_verdict(row)]
    predictions = [{"model_version": version, "score": ours["pred_score"], "result": result}]
    return {"data": theirs | ours, "predictions": predictions if result else []}


def _verdict(row: Row) -> list[dict[str, Any]]:
    if row["pred_label"] is None:
        return []
    value = {"choices": [VERDICTS[row["pred_label"]]]}
    return [{"id": "verdict", "from_name": "verdict", "to_name": "image", "type": "choices", "value": value}]


def _regions(row: Row, shape: Shape) -> list[dict[str, Any]]:
    if not row["mask_area"]:
        return []
    width, height = row["width"], row["height"]
    kind = f"{shape}labels"
    about = {"from_name": "region", "to_name": "image", "type": kind, "image_rotation": 0}
    about |= {"original_width": width, "original_height": height}
    return [
        about
        | {"id": f"region-{at}", "score": short(part.score)}
        | {"value": _value(part, shape, width, height) | {kind: [LABEL]}}
        for at, part in enumerate(checked_parts(row), start=1)
    ]


def _value(part: Part, shape: Shape, width: int, height: int) -> dict[str, Any]:
    if shape == "brush":
        return {"format": "rle", "rle": label_studio_rle(part, (height, width))}
    x, y, across, down = part.box_xywh
    percent = {"x": x / width, "y": y / height, "width": across / width, "height": down / height}
    return {name: 100 * share for name, share in percent.items()} | {"rotation": 0}
