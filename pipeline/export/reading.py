"""What people decided in review, read from COCO files (CVAT, FiftyOne) and from Label Studio's JSON."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from pipeline.errors import InputError
from pipeline.export.label_studio import VERDICTS
from pipeline.masks import Mask, decode

_OPAQUE = 127  # of 8 bits
_CHANNELS = 4
_HEADER = (32, 5, 4, 4, 4, 4)
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))


@dataclass(frozen=True)
class Reviewed:
    """One picture that somebody looked at.

    Args:    name: as the tool has it.   image_id: ours, where the tool kept it.   verdict: 0, 1, or None where only
             the shapes speak.   shapes: of defects, as the tool wrote them.   size_hw: of the picture, as the tool saw
             it; None where it does not tell.   left_out: the labels of its other shapes.   changed_at: when, and the
             annotation's number; None where the tool does not tell.
    """

    name: str
    image_id: str | None
    verdict: int | None
    shapes: tuple[Mapping[str, Any], ...]
    size_hw: tuple[int, int] | None
    left_out: tuple[str, ...]
    changed_at: tuple[str, int] | None

    @property
    def label(self) -> int:
        return int(bool(self.shapes)) if self.verdict is None else self.verdict

    @property
    def is_contradictory(self) -> bool:
        return self.verdict == 0 and bool(self.shapes)

    def mask(self, size_hw: tuple[int, int]) -> Mask:
        """All shapes in one.

        Raises:  ValueError: one is damaged, or was drawn on a picture of another size.
        """
        if self.size_hw is not None and self.size_hw != size_hw:
            height, width = self.size_hw
            raise ValueError(f"drawn on {width}×{height} pixels; the picture has {size_hw[1]}×{size_hw[0]}")
        marked: Mask = np.zeros(size_hw, bool)
        for shape in self.shapes:
            marked |= _label_studio_mask(shape, size_hw) if "value" in shape else _coco_mask(shape, size_hw)
        return marked


def merged(several: Sequence[Reviewed]) -> Reviewed:
    """What holds of a picture that a file has more than once, in whatever order.

    Label Studio: what was changed last, of two at one time the anomalous one. COCO, which tells no time: all shapes.
    Raises:  ValueError: they were drawn on pictures of several sizes.
    """
    first, *others = several
    if not others:
        return first
    if first.changed_at is not None:
        return max(several, key=lambda one: (one.changed_at, one.label))
    if len({one.size_hw for one in several}) > 1:
        raise ValueError("drawn on pictures of several sizes")
    shapes = tuple(shape for one in several for shape in one.shapes)
    return replace(first, shapes=shapes, left_out=tuple(label for one in several for label in one.left_out))


def reviewed_in(document: Any, labels: Collection[str]) -> Iterator[Reviewed]:
    """Args:    labels: which shapes are of defects.
    Raises:  ValueError: the document is neither of both, or lacks what it must have.
             InputError: it has none of these labels.
    """
    try:
        if isinstance(document, dict) and {"images", "annotations"} <= document.keys():
            yield from _of_coco(document, labels)
        elif isinstance(document, list) and all(isinstance(task, dict) and "annotations" in task for task in document):
            yield from _of_label_studio(document, labels)
        else:
            raise ValueError(f"a {type(document).__name__} that is neither")
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"{type(exc).__name__}: {exc}") from exc


def _of_coco(document: Mapping[str, Any], labels: Collection[str]) -> Iterator[Reviewed]:
    """A picture without annotations is normal."""
    known = {category["id"]: str(category["name"]) for category in document.get("categories", ())}
    if document["annotations"] and known and not set(labels) & set(known.values()):
        raise InputError(f"--labels: the file has none of {', '.join(labels)}; it has {', '.join(known.values())}")
    shapes: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in document["images"]}
    left_out: dict[Any, list[str]] = {number: [] for number in shapes}
    for annotation in document["annotations"]:
        number, label = annotation["image_id"], known[annotation["category_id"]]
        if label in labels:
            shapes[number].append(annotation)
        else:
            left_out[number].append(label)
    for image in document["images"]:
        number, size = image["id"], (int(image["height"]), int(image["width"]))
        found, others = tuple(shapes[number]), tuple(left_out[number])
        yield Reviewed(str(image["file_name"]), image.get("image_id"), None, found, size, others, None)


def _of_label_studio(tasks: Sequence[Mapping[str, Any]], labels: Collection[str]) -> Iterator[Reviewed]:
    """Of a task, the annotation that was changed last; one without any was not reviewed."""
    for task in tasks:
        done = [one for one in task["annotations"] if not one.get("was_cancelled")]
        if not done:
            continue
        last = max(done, key=_changed_at)
        drawn = [one for one in last["result"] if str(one["type"]).endswith("labels")]
        shapes = tuple(one for one in drawn if not set(labels).isdisjoint(_labels(one)))
        left_out = tuple(", ".join(_labels(one)) for one in drawn if one not in shapes)
        data, verdict, size = task["data"], _verdict(last["result"]), _size(shapes)
        name = str(data.get("image"))
        yield Reviewed(name, data.get("image_id"), verdict, shapes, size, left_out, _changed_at(last))


def _changed_at(annotation: Mapping[str, Any]) -> tuple[str, int]:
    return str(annotation.get("updated_at", "")), int(annotation.get("id", 0))


def _labels(shape: Mapping[str, Any]) -> list[str]:
    return [str(label) for label in shape["value"][shape["type"]]]


def _verdict(results: Sequence[Mapping[str, Any]]) -> int | None:
    choices = [choice for one in results if one["type"] == "choices" for choice in one["value"]["choices"]]
    known = [VERDICTS.index(choice) for choice in choices if choice in VERDICTS]
    return max(known) if known else None


def _size(shapes: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    sizes = {(int(one["original_height"]), int(one["original_width"])) for one in shapes}
    if len(sizes) > 1:
        raise ValueError(f"shapes on pictures of several sizes in one task: {sizes}")
    return next(iter(sizes), None)


def _coco_mask(shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    segmentation = shape.get("segmentation")
    if isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], str):
        if tuple(segmentation["size"]) != size_hw:
            raise ValueError(f"a mask of {segmentation['size']}")
        return decode(segmentation)
    if isinstance(segmentation, Mapping):
        return _of_runs(segmentation["counts"], size_hw)
    return _drawn(segmentation, size_hw) if segmentation else _of_box(shape["bbox"], size_hw)


def _of_runs(counts: Sequence[int], size_hw: tuple[int, int]) -> Mask:
    """Runs as numbers, column by column."""
    runs = np.asarray(counts, np.int64)
    if runs.ndim != 1 or runs.min() < 0 or runs.sum() != size_hw[0] * size_hw[1]:
        raise ValueError("a mask whose runs do not fill its picture")
    mask: Mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size_hw, order="F")
    return mask


def _of_box(box_xywh: Sequence[float], size_hw: tuple[int, int]) -> Mask:
    x, y, width, height = (float(value) for value in box_xywh)
    return _drawn([[x, y, x + width, y, x + width, y + height, x, y + height]], size_hw)


def _drawn(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Mask:
    if not all(len(polygon) >= 6 and np.isfinite(polygon).all() for polygon in polygons):
        raise ValueError("a polygon of less than three points, or with none that can be drawn")
    runs = coco.merge(coco.frPyObjects([list(polygon) for polygon in polygons], *size_hw))
    mask: Mask = coco.decode(runs).astype(bool)
    return mask


def _label_studio_mask(shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    """Raises:  ValueError: a shape that is no brush, rectangle or polygon."""
    value = shape["value"]
    match shape["type"]:
        case "brushlabels":
            return unpacked(value["rle"], size_hw)
        case "rectanglelabels":
            return _drawn([_corners(value, size_hw)], size_hw)
        case "polygonlabels":
            return _drawn([_pixels(value["points"], size_hw)], size_hw)
    raise ValueError(f"expected brushlabels, rectanglelabels or polygonlabels, got {shape['type']!r}")


def _pixels(points: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> list[float]:
    """From percent of the picture's sides."""
    height, width = size_hw
    return [part for x, y in points for part in (x / 100 * width, y / 100 * height)]


def _corners(value: Mapping[str, Any], size_hw: tuple[int, int]) -> list[float]:
    """Of a rectangle, which is turned about its upper left corner."""
    left, top, width, height = _pixels([(value["x"], value["y"]), (value["width"], value["height"])], size_hw)
    turn = math.radians(float(value.get("rotation", 0)))
    across = [(width * right, height * down) for right, down in _CORNERS]
    return [
        part
        for x, y in across
        for part in (left + x * math.cos(turn) - y * math.sin(turn), top + x * math.sin(turn) + y * math.cos(turn))
    ]


def unpacked(rle: Sequence[int], size_hw: tuple[int, int]) -> Mask:
    """A mask from Label Studio's runs: shapes.label_studio_rle tells how they are packed.

    Raises:  ValueError: they are no such runs, or of a picture of another size.
    """
    data = bytes(rle)
    bits = _Bits(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else "")
    count, word, *sizes = (bits.take(length) for length in _HEADER)
    if count != _CHANNELS * size_hw[0] * size_hw[1]:
        raise ValueError(f"a brush on {count // _CHANNELS} pixels; the picture has {size_hw[0] * size_hw[1]}")
    values: npt.NDArray[np.uint8] = np.zeros(count, np.uint8)
    at = 0
    while at < count:
        is_run = bits.take(1)
        end = at + 1 + bits.take(sizes[bits.take(2)] + 1)
        if end > count:
            raise ValueError("a brush that is longer than its picture")
        values[at:end] = bits.take(word + 1) if is_run else [bits.take(word + 1) for _ in range(at, end)]
        at = end
    mask: Mask = values.reshape(*size_hw, _CHANNELS)[..., 3] > _OPAQUE
    return mask


class _Bits:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, length: int) -> int:
        found = self.text[self.at : self.at + length]
        if len(found) < length:
            raise ValueError("a brush that breaks off")
        self.at += length
        return int(found, 2)
