"""Labelled images of one's own: a folder, or a manifest with labels and masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from pipeline.datasets.items import Dataset, LabelledImage, MaskFolder, Tree, join, mask_remarks
from pipeline.datasets.layouts import ANOMALY, GOOD, CategoryFolders
from pipeline.errors import InputError
from pipeline.sources.items import PlanItem, is_image
from pipeline.sources.manifest import Resolver, manifest_items
from pipeline.storage import open_root, redact

_MANIFESTS = (".parquet", ".csv", ".jsonl")
_FIELDS = ("label", "mask_uri", "category", "kind")
_SUFFIXES = ("_mask", "_Segmentation")


def read_plain(uri: str) -> Dataset:
    """A labelled folder or manifest.

    A folder is laid out as MVTec AD (`test/KIND`, `ground_truth/KIND`, for each category or for one alone), or as
    `images/[CATEGORY/]KIND/*` with `masks/[CATEGORY/]KIND/*`; normal images are in folders named `good`. Where there
    are none, each image has a mask. A manifest has a row an image, with `uri` and `label` (0 normal, 1 anomalous), and
    where there are any `mask_uri` and `category`.

    Raises:  InputError: it is laid out in another way, the first thing missing is named; or a row of the manifest names
             what may not be read, or tells of an image another thing than a row above.
    """
    if uri.lower().endswith(_MANIFESTS):
        root = open_root(uri)
        name = PurePosixPath(root.path).stem
        images, remarks = tuple(_once(_of_manifest(uri), root.uri())), []
        has_masks = any(image.mask_uri for image in images)
    else:
        tree = Tree.at(uri)
        root, name = tree.root, PurePosixPath(tree.root.path).name
        by_images = tree.has("images")
        images = tuple(_of_images_folder(tree) if by_images else CategoryFolders().read(tree))
        has_masks = tree.has("masks") or not by_images  # MVTec AD's layout is none without them
        remarks = list(_left_out(tree, images, "images" if by_images else "test"))
    if not images:
        raise InputError(f"{root.uri()}: expected labelled images, found none")
    remarks += mask_remarks(images, has_masks=has_masks)
    return Dataset(name=name, root=root.uri(), images=images, remarks=tuple(remarks))


def _of_images_folder(tree: Tree) -> Iterator[LabelledImage]:
    name = PurePosixPath(tree.root.path).name
    first = tree.folders("images")
    single = GOOD in first or not any(tree.folders(join("images", folder)) for folder in first)
    for category in ("",) if single else first:
        folder = join("images", category)
        found = [image for kind in tree.folders(folder) for image in _of_kind(tree, category, kind, name)]
        if GOOD not in tree.folders(folder) and not all(image.mask_uri for image in found):
            raise tree.missing(f"a folder {GOOD!r} of normal images, or a mask for every image", folder)
        yield from found


def _of_kind(tree: Tree, category: str, kind: str, name: str) -> Iterator[LabelledImage]:
    masks = MaskFolder(tree, join("masks", category, kind), _SUFFIXES)
    for path in tree.images(join("images", category, kind)):
        mask = masks.of(path)
        yield LabelledImage(
            image_uri=tree.uri(path),
            mask_uri=tree.uri(mask) if mask else None,
            label=int(kind != GOOD),
            category=category or name,
            kind=kind,
        )


def _left_out(tree: Tree, images: Sequence[LabelledImage], folder: str) -> Iterator[str]:
    """A remark on image files in folders of that name which the layout has no place for."""
    read = {image.image_uri for image in images}
    within = [path for path in tree.files if is_image(path) and folder in path.split("/")[:-1]]
    if strays := [path for path in within if tree.uri(path) not in read]:
        yield (
            f"{len(strays):,} images lie in {folder!r} but not right in the folder of a kind, and are left out; the "
            f"first: {strays[0]}"
        )


def _once(images: Iterable[LabelledImage], manifest: str) -> Iterator[LabelledImage]:
    """Each image once; a row may come again as long as it says the same."""
    seen: dict[str, LabelledImage] = {}
    for image in images:
        before = seen.setdefault(image.image_uri + image.unique, image)
        told = [_row(one) for one in (before, image)]
        if before is image:
            yield image
        elif told[0] != told[1]:
            raise InputError(
                f"{manifest}: expected one row for each image, with one mask of all its defects; {image.image_uri} has "
                f"two: {told[0]}, and {told[1]}"
            )


def _row(image: LabelledImage) -> str:
    return f"label {image.label}, category {image.category!r}, kind {image.kind!r}, mask {image.mask_uri or 'none'}"


def _of_manifest(uri: str) -> Iterator[LabelledImage]:
    root = open_root(uri)
    resolve = Resolver(root, root.path)
    for number, item in enumerate(manifest_items(root, root.path, wanted_fields=_FIELDS)):
        place = f"{root.uri()}#{number}"
        if item.bad:
            raise InputError(f"{place}: {item.bad.message}")
        label = _label(item.fields.get("label"), place)
        mask = _mask(item.fields.get("mask_uri"), resolve, place)
        yield LabelledImage(
            image_uri=item.image_uri,
            image_path=item.path,
            unique=item.unique,
            mask_uri=mask.image_uri if mask else None,
            mask_path=mask.path if mask else "",
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


def _mask(value: object, resolve: Resolver, place: str) -> PlanItem | None:
    """The file that a row's `mask_uri` names; what may be named is what an image's `uri` may name."""
    if value is None or str(value).strip() in ("", "nan"):
        return None
    found = resolve.item({"uri": value}, place)
    if found.bad:
        shown = f" {redact(value)}" if isinstance(value, str) else ""
        raise InputError(f"{place}: mask_uri{shown}: {found.bad.message}")
    return found
