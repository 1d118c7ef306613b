"""Labelled images of one's own: a folder, or a manifest with labels and masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.datasets.items import Dataset, LabelledImage, MaskFolder, Tree, join, mask_remarks
from pipeline.datasets.layouts import ANOMALY, GOOD, CategoryFolders
from pipeline.errors import InputError
from pipeline.sources.manifest import manifest_items
from pipeline.storage import open_root

_MANIFESTS = (".parquet", ".csv", ".jsonl")
_FIELDS = ("label", "mask_uri", "category", "kind")
_SUFFIXES = ("_mask", "_Segmentation")


def read_plain(uri: str) -> Dataset:
    """A labelled folder or manifest.

    A folder is laid out as MVTec AD (`test/KIND`, `ground_truth/KIND`, for each category or for one alone), or as
    `images/[CATEGORY/]KIND/*` with `masks/[CATEGORY/]KIND/*`; normal images are in folders named `good`. A manifest has
    `uri` and `label` (0 normal, 1 anomalous), and where there are any `mask_uri` and `category`.

    Raises:  InputError: it is laid out in another way; the first thing missing is named.
    """
    if uri.lower().endswith(_MANIFESTS):
        root = open_root(uri)
        name = PurePosixPath(root.path).stem
        images = tuple(_of_manifest(uri))
    else:
        tree = Tree.at(uri)
        root, name = tree.root, PurePosixPath(tree.root.path).name
        images = tuple(_of_images_folder(tree) if tree.has("images") else CategoryFolders().read(tree))
    if not images:
        raise InputError(f"{root.uri()}: expected labelled images, found none")
    return Dataset(name=name, root=root.uri(), images=images, remarks=tuple(mask_remarks(images)))


def _of_images_folder(tree: Tree) -> Iterator[LabelledImage]:
    name = PurePosixPath(tree.root.path).name
    single = GOOD in tree.folders("images")
    for category in ("",) if single else tree.folders("images"):
        folder = join("images", category)
        if GOOD not in tree.folders(folder):
            raise tree.missing(f"a folder {GOOD!r} of normal images", folder)
        for kind in tree.folders(folder):
            masks = MaskFolder(tree, join("masks", category, kind), _SUFFIXES)
            for path in tree.images(join(folder, kind)):
                mask = masks.of(path)
                yield LabelledImage(
                    image_uri=tree.uri(path),
                    mask_uri=tree.uri(mask) if mask else None,
                    label=int(kind != GOOD),
                    category=category or name,
                    kind=kind,
                )


def _of_manifest(uri: str) -> Iterator[LabelledImage]:
    root = open_root(uri)
    for number, item in enumerate(manifest_items(root, root.path, wanted_fields=_FIELDS)):
        place = f"{root.uri()}#{number}"
        if item.bad:
            raise InputError(f"{place}: {item.bad.message}")
        label = _label(item.fields.get("label"), place)
        yield LabelledImage(
            image_uri=item.image_uri,
            mask_uri=_beside(root.uri(), item.fields.get("mask_uri")),
            label=label,
            category=str(item.fields.get("category") or PurePosixPath(root.path).stem),
            kind=str(item.fields.get("kind") or (ANOMALY if label else GOOD)),
        )


def _label(value: object, place: str) -> int:
    known = {
        "0": 0,
        "1": 1,
        "0.0": 0,
        "1.0": 1,
        "False": 0,
        "True": 1,
        GOOD: 0,
        "normal": 0,
        ANOMALY: 1,
        "anomalous": 1,
    }
    if (label := known.get(str(value))) is None:
        raise InputError(f"{place}: expected label 0 (normal) or 1 (anomalous), got {value!r}")
    return label


def _beside(manifest: str, mask: object) -> str | None:
    """A mask's URI; relative ones are relative to the manifest."""
    if mask is None or str(mask) in ("", "nan"):
        return None
    text = str(mask)
    return text if "://" in text or text.startswith("/") else f"{manifest.rpartition('/')[0]}/{text}"
