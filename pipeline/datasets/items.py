"""A labelled image, a dataset of them, and the tree of files that a layout is read from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from pipeline.errors import InputError
from pipeline.sources.items import is_hidden, is_image
from pipeline.sources.walk import walk_files
from pipeline.storage import Root, open_root

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image with what is known of it. `label`: 0 normal, 1 anomalous."""

    image_uri: str
    mask_uri: str | None
    label: int
    category: str
    kind: str
    """`good`, or the kind of defect; `anomaly` where a dataset tells none apart."""
    image_path: str = field(default="", repr=False)
    """What the image is read by, where that may not be its URI: a signed address, whose signature no table holds."""
    mask_path: str = field(default="", repr=False)
    """Likewise of the mask."""
    unique: str = field(default="", repr=False)
    """Tells apart two images of one URI, as in a `PlanItem`."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset's test images, in the order of their paths. `remarks` are what a user has to know of them."""

    name: str
    root: str
    images: tuple[LabelledImage, ...]
    remarks: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(image.category for image in self.images))

    def count(self, label: int) -> int:
        return sum(image.label == label for image in self.images)


@dataclass(frozen=True)
class Tree:
    """The files under a dataset's root, listed once; paths are relative to it."""

    root: Root
    files: tuple[str, ...]
    remarks: list[str] = field(default_factory=list)
    """What its reader left out."""

    @classmethod
    def at(cls, uri: str) -> Tree:
        """Raises:  InputError: there is nothing there, or it may not be listed."""
        root = open_root(uri)
        prefix = root.path.rstrip("/") + "/"
        files = (path.removeprefix(prefix) for path, _ in walk_files(root))
        found = tuple(sorted(path for path in files if not is_hidden(path)))
        if not found:
            there = "a folder without files" if root.fs.exists(root.path) else "nothing there"
            raise InputError(f"{root.uri()}: expected a dataset's folder, found {there}")
        return cls(root, found)

    @cached_property
    def _children(self) -> dict[str, dict[str, None]]:
        """Names in each folder, in order; those of folders end in a slash."""
        children: dict[str, dict[str, None]] = defaultdict(dict)
        for path in self.files:
            parts = path.split("/")
            for depth, part in enumerate(parts):
                above = "/".join(parts[:depth])
                children[above][part + ("/" if depth < len(parts) - 1 else "")] = None
        return children

    @cached_property
    def _paths(self) -> frozenset[str]:
        """Of files and folders."""
        return frozenset(self.files) | self._children.keys()

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder."""
        return [name.rstrip("/") for name in self._children.get(folder, {}) if name.endswith("/")]

    def images(self, folder: str) -> list[str]:
        """Paths of the image files right in a folder."""
        names = self._children.get(folder, {})
        return [join(folder, name) for name in names if not name.endswith("/") and is_image(name)]

    def has(self, path: str) -> bool:
        return path in self._paths

    def uri(self, path: str) -> str:
        return self.root.uri(self.root.join(path))

    def find_folder(self, *names: str) -> str | None:
        """The path of the highest folder of one of these names, the first name first; letter case does not count."""
        for name in names:
            wanted = name.lower()
            below = [path for path in self._children if path.lower() == wanted or path.lower().endswith(f"/{wanted}")]
            if below:
                return min(below, key=lambda path: (path.count("/"), path))
        return None

    def missing(self, what: str, folder: str = "") -> InputError:
        """An error that names what a layout lacks, and what is there."""
        found = list(self._children.get(folder, {}))
        shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        return InputError(
            f"{self.uri(folder) if folder else self.root.uri()}: expected {what}; found {shown or 'nothing'}"
        )


class MaskFolder:
    """Masks of a folder by the name of their image, whatever suffix and ending a dataset gives them."""

    def __init__(self, tree: Tree, folder: str, suffixes: Sequence[str]) -> None:
        self._of_stem: dict[str, str] = {}
        for path in tree.images(folder):
            stem = PurePosixPath(path).stem
            ending = next((suffix for suffix in suffixes if suffix and stem.endswith(suffix)), "")
            self._of_stem[stem.removesuffix(ending)] = path

    def of(self, image: str) -> str | None:
        return self._of_stem.get(PurePosixPath(image).stem)


def join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def count_by_label(images: Iterable[LabelledImage]) -> Counter[int]:
    return Counter(image.label for image in images)


def mask_remarks(images: Sequence[LabelledImage], *, has_masks: bool) -> Iterator[str]:
    """What is odd about a dataset's masks, by their names alone.

    Args:    has_masks: whether it comes with masks, so that every anomalous image should have one.
    """
    lacking = [image for image in images if image.label == 1 and image.mask_uri is None]
    if has_masks and lacking:
        yield (
            f"{len(lacking):,} anomalous images have no mask; the first: {lacking[0].image_uri}. No pixel metric "
            "counts them, no training step uses them"
        )
    if surplus := sum(image.label == 0 and image.mask_uri is not None for image in images):
        yield (
            f"{surplus:,} normal images have a mask; where it marks something, the image is left out of training and "
            "of pixel metrics"
        )
