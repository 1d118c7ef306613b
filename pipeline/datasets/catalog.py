"""The 13 datasets of the paper, each with its layout and the counts of Table S1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.config import DatasetName
from pipeline.datasets.items import Dataset, LabelledImage, Tree, count_by_label, mask_remarks
from pipeline.datasets.layouts import CategoryFolders, ImagesAndMasks, LabelTable, Visa, YesNo
from pipeline.datasets.plain import read_plain
from pipeline.errors import InputError


class Layout(Protocol):
    """How a dataset lies on disk."""

    def read(self, tree: Tree) -> Iterator[LabelledImage]: ...


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A dataset of Table S1: its layout, and how many categories, normal and anomalous images its test set has."""

    title: str
    layout: Layout
    categories: int
    normal: int
    anomalous: int


def _polyps(*folders: tuple[str, str]) -> ImagesAndMasks:
    return ImagesAndMasks(folders=folders, category="colon")


DATASETS: dict[DatasetName, Entry] = {
    "mvtec-ad": Entry(title="MVTec-AD", layout=CategoryFolders(), categories=15, normal=467, anomalous=1258),
    "visa": Entry(title="VisA", layout=Visa(), categories=12, normal=962, anomalous=1200),
    "btad": Entry(
        title="BTAD", layout=CategoryFolders(normal="ok", anomalous="ko"), categories=3, normal=451, anomalous=290
    ),
    "mpdd": Entry(title="MPDD", layout=CategoryFolders(), categories=6, normal=176, anomalous=282),
    "dtd-synthetic": Entry(title="DTD-Synthetic", layout=CategoryFolders(), categories=12, normal=357, anomalous=947),
    "headct": Entry(
        title="HeadCT",
        layout=LabelTable(table="labels.csv", folder="head_ct", number="id", label="hemorrhage", category="brain"),
        categories=1,
        normal=100,
        anomalous=100,
    ),
    "brainmri": Entry(title="BrainMRI", layout=YesNo(category="brain"), categories=1, normal=98, anomalous=155),
    "br35h": Entry(title="Br35H", layout=YesNo(category="brain"), categories=1, normal=1500, anomalous=1500),
    "isic": Entry(
        title="ISIC",
        layout=ImagesAndMasks(
            folders=(("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),),
            category="skin",
            suffixes=("_Segmentation",),
        ),
        categories=1,
        normal=0,
        anomalous=379,
    ),
    "cvc-colondb": Entry(
        title="CVC-ColonDB", layout=_polyps(("images", "masks")), categories=1, normal=0, anomalous=380
    ),
    "cvc-clinicdb": Entry(
        title="CVC-ClinicDB",
        layout=_polyps(("PNG/Original", "Ground Truth"), ("Original", "Ground Truth"), ("images", "masks")),
        categories=1,
        normal=0,
        anomalous=612,
    ),
    "kvasir": Entry(title="Kvasir", layout=_polyps(("images", "masks")), categories=1, normal=0, anomalous=1000),
    "endo": Entry(title="Endo", layout=_polyps(("images", "masks")), categories=1, normal=0, anomalous=200),
}


def read_dataset(name: DatasetName, uri: str) -> Dataset:
    """The test images of one of the paper's datasets, from its own layout under any fsspec root; `plain`: of one's own.

    Raises:  InputError: there is no such dataset, or the layout is another; the first thing missing is named.
    """
    if name == "plain":
        return read_plain(uri)
    if name not in DATASETS:
        raise InputError(f"unknown dataset {name!r}; there are {', '.join(DATASETS)} and plain")
    entry, tree = DATASETS[name], Tree.at(uri)
    images = tuple(entry.layout.read(tree))
    remarks = (*_count_remarks(entry, images), *mask_remarks(images))
    return Dataset(name=name, root=tree.root.uri(), images=images, remarks=remarks)


def _count_remarks(entry: Entry, images: tuple[LabelledImage, ...]) -> Iterator[str]:
    labels = count_by_label(images)
    found = (len({image.category for image in images}), labels[0], labels[1])
    expected = (entry.categories, entry.normal, entry.anomalous)
    differences = [
        f"{there:,} instead of {wanted:,} {name}"
        for name, there, wanted in zip(("categories", "normal", "anomalous images"), found, expected, strict=True)
        if there != wanted
    ]
    if differences:
        listed = ", ".join(differences)
        yield f"{entry.title} has {listed} (Table S1): its figures are not those of the whole dataset"
