"""A labelled dataset as a source of images to score: what is known of each image becomes columns of the tables."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa

from pipeline.datasets.items import Dataset, LabelledImage
from pipeline.sources.images import unreadable_name
from pipeline.sources.items import PlanItem

COLUMNS = {"label": pa.int8(), "defect": pa.string(), "mask_uri": pa.string()}  # beside `category`


def labelled_items(dataset: Dataset) -> Iterator[PlanItem]:
    """One item per image, from each category's normal and anomalous ones in turn: `--limit` so sees some of all."""
    for image in _in_turn(dataset):
        yield PlanItem(
            image_uri=image.image_uri,
            path=image.image_path or image.image_uri,
            relative=image.image_uri.removeprefix(dataset.root.rstrip("/") + "/"),
            fields={
                "category": image.category,
                "label": image.label,
                "defect": image.kind,
                "mask_uri": image.mask_uri,
            },
            unique=image.unique,
            bad=None if "://" in image.image_uri else unreadable_name(image.image_uri),
        )


def _in_turn(dataset: Dataset) -> Iterator[LabelledImage]:
    groups: dict[tuple[str, int], list[LabelledImage]] = defaultdict(list)
    for image in dataset.images:
        groups[image.category, image.label].append(image)
    rounds = itertools.zip_longest(*groups.values())
    return (image for one_of_each in rounds for image in one_of_each if image is not None)
