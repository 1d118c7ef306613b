"""How datasets lie on disk: each reader knows one layout and names the first thing that is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.datasets.items import LabelledImage, MaskFolder, Tree, join
from pipeline.errors import InputError

GOOD = "good"
ANOMALY = "anomaly"
Found = Iterator[LabelledImage]
_BRAIN = "brain"
_HEADCT_TABLE = "labels.csv"
_VISA_TABLE = "split_csv/1cls.csv"


@dataclass(frozen=True, kw_only=True)
class CategoryFolders:
    """`CATEGORY/test/KIND/*` with masks in `CATEGORY/ground_truth/KIND/*`: MVTec AD's layout, which many follow."""

    normal: str = GOOD
    anomalous: str | None = None
    """The folder of anomalous images; None where each kind of defect has its own."""

    def read(self, tree: Tree) -> Found:
        if tree.has("test"):
            yield from self._category(tree, "", tree.root.path.rstrip("/").rpartition("/")[2])
            return
        categories = [name for name in tree.folders() if tree.has(join(name, "test"))]
        if not categories:
            raise tree.missing("a folder for each category, with a folder 'test' in it")
        for name in categories:
            yield from self._category(tree, name, name)

    def _category(self, tree: Tree, folder: str, category: str) -> Found:
        test = join(folder, "test")
        kinds = tree.folders(test)
        if self.anomalous and self.anomalous not in kinds:
            raise tree.missing(f"a folder {self.anomalous!r} of anomalous images", test)
        if self.normal not in kinds:
            raise tree.missing(f"a folder {self.normal!r} of normal images", test)
        truth = join(folder, "ground_truth")
        if not tree.has(truth):
            raise tree.missing("a folder 'ground_truth' of masks", folder)
        for kind in kinds:
            yield from _labelled(
                tree,
                join(test, kind),
                MaskFolder(tree, join(truth, kind), ("_mask",)),
                kind=GOOD if kind == self.normal else kind,
                category=category,
            )


def read_visa(tree: Tree) -> Found:
    """VisA as published, a table telling what is tested; or rearranged as MVTec AD, as its authors offer."""
    if any(tree.has(join(name, "test")) for name in tree.folders()):
        yield from CategoryFolders().read(tree)
        return
    for row in _table(tree, _VISA_TABLE, ("object", "split", "label", "image", "mask")):
        if row["split"] == "test":
            yield _visa_image(tree, row)


def _visa_image(tree: Tree, row: dict[str, str]) -> LabelledImage:
    if row["label"] not in ("normal", ANOMALY):
        raise InputError(f"{tree.uri(_VISA_TABLE)}: expected label 'normal' or 'anomaly', got {row['label']!r}")
    label = int(row["label"] == ANOMALY)
    if not tree.has(row["image"]):
        raise tree.missing(f"{row['image']}, which {_VISA_TABLE} names", row["object"])
    mask = row["mask"] if row["mask"] and tree.has(row["mask"]) else None
    return LabelledImage(
        image_uri=tree.uri(row["image"]),
        mask_uri=tree.uri(mask) if mask else None,
        label=label,
        category=row["object"],
        kind=ANOMALY if label else GOOD,
    )


def read_yes_and_no(tree: Tree) -> Found:
    """Anomalous brain scans in `yes`, normal ones in `no`; no masks. Other folders beside them are not labelled."""
    for name, kind in (("no", GOOD), ("yes", ANOMALY)):
        folder = tree.find_folder(name)
        if folder is None:
            raise tree.missing(f"a folder {name!r} of {'anomalous' if kind == ANOMALY else 'normal'} images")
        yield from _labelled(tree, folder, None, kind=kind, category=_BRAIN)


def read_headct(tree: Tree) -> Found:
    """Numbered brain scans in one folder, their labels in a table; no masks."""
    folder = tree.find_folder("head_ct/head_ct", "head_ct")
    if folder is None:
        raise tree.missing("a folder 'head_ct' of images")
    of_number = _by_number(tree, folder)
    for at, row in enumerate(_table(tree, _HEADCT_TABLE, ("id", "hemorrhage")), start=1):
        number, label = row["id"], row["hemorrhage"]
        place = f"{tree.uri(_HEADCT_TABLE)}, row {at}"
        if not number.isdecimal():
            raise InputError(f"{place}: expected a number as id, got {number!r}")
        if label not in ("0", "1"):
            raise InputError(f"{place}: expected hemorrhage 0 or 1, got {label!r}")
        path = of_number.get(number.lstrip("0"))
        if path is None:
            raise tree.missing(f"image {number}, which row {at} of {_HEADCT_TABLE} names", folder)
        kind = ANOMALY if label == "1" else GOOD
        yield LabelledImage(image_uri=tree.uri(path), mask_uri=None, label=int(label), category=_BRAIN, kind=kind)


def _by_number(tree: Tree, folder: str) -> dict[str, str]:
    """Images by the number that their name is, without leading zeros; others are left out, which is remarked."""
    stems = {path: path.rpartition("/")[2].split(".")[0] for path in tree.images(folder)}
    if odd := [path for path, stem in stems.items() if not stem.isdecimal()]:
        tree.remarks.append(f"{len(odd):,} images have no number for a name and are left out; the first: {odd[0]}")
    return {stem.lstrip("0"): path for path, stem in stems.items() if stem.isdecimal()}


@dataclass(frozen=True, kw_only=True)
class ImagesAndMasks:
    """Anomalous images in one folder and their masks in another."""

    folders: tuple[tuple[str, str], ...]
    """Names of the two folders, as releases of the dataset call them."""
    category: str
    suffixes: tuple[str, ...] = ()

    def read(self, tree: Tree) -> Found:
        for images, masks in self.folders:
            folder = tree.find_folder(images)
            if folder is None:
                continue
            beside = join(folder.rpartition("/")[0], masks)
            truth = beside if tree.has(beside) else tree.find_folder(masks)
            if truth is None:
                raise tree.missing(f"a folder {masks!r} of masks beside {images!r}", folder.rpartition("/")[0])
            yield from _labelled(
                tree, folder, MaskFolder(tree, truth, self.suffixes), kind=ANOMALY, category=self.category
            )
            return
        raise tree.missing(" or ".join(f"a folder {images!r} of images" for images, _ in self.folders))


def _labelled(tree: Tree, folder: str, masks: MaskFolder | None, *, kind: str, category: str) -> Found:
    images = tree.images(folder)
    if not images:
        raise tree.missing("images", folder)
    for path in images:
        mask = masks.of(path) if masks else None
        yield LabelledImage(
            image_uri=tree.uri(path),
            mask_uri=tree.uri(mask) if mask else None,
            label=int(kind != GOOD),
            category=category,
            kind=kind,
        )


def _table(tree: Tree, path: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV table; names and values without the blanks around them.

    Raises:  InputError: it is not there, no CSV in UTF-8, or lacks a column.
    """
    if not tree.has(path):
        raise tree.missing(path, path.rpartition("/")[0] if tree.has(path.rpartition("/")[0]) else "")
    try:
        text = tree.root.fs.cat_file(tree.root.join(path)).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        rows, names = list(reader), [name.strip() for name in reader.fieldnames or ()]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"{tree.uri(path)}: expected a CSV table in UTF-8; {exc}") from exc
    if lacking := [name for name in columns if name not in names]:
        raise InputError(
            f"{tree.uri(path)}: expected columns {', '.join(columns)}; {', '.join(lacking)} missing in {names}"
        )
    for row in rows:
        yield {
            name.strip(): (value or "").strip()
            for name, value in row.items()
            if isinstance(value, str) or value is None
        }
