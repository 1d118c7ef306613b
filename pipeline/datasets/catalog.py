"""The 13 datasets of the paper, each with its layout and the counts of Table S1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config import DatasetName
from pipeline.datasets.items import Dataset, LabelledImage, Tree, count_by_label, mask_remarks
from pipeline.datasets.layouts import CategoryFolders, ImagesAndMasks, read_headct, read_visa, read_yes_and_no
from pipeline.datasets.plain import read_plain
from pipeline.errors import InputError

Reader = Callable[[Tree], Iterator[LabelledImage]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A dataset of Table S1: the reader of its layout, and what its test set holds."""

    title: str
    read: Reader
    categories: int
    normal: int
    anomalous: int
    has_masks: bool = True


def _polyps(*folders: tuple[str, str]) -> Reader:
    return ImagesAndMasks(folders=folders, category="colon").read


DATASETS: dict[DatasetName, Entry] = {
    "mvtec-ad": Entry(title="MVTec-AD", read=CategoryFolders().read, categories=15, normal=467, anomalous=1258),
    "visa": Entry(title="VisA", read=read_visa, categories=12, normal=962, anomalous=1200),
    "btad": Entry(
        title="BTAD", read=CategoryFolders(normal="ok", anomalous="ko").read, categories=3, normal=451, anomalous=290
    ),
    "mpdd": Entry(title="MPDD", read=CategoryFolders().read, categories=6, normal=176, anomalous=282),
    "dtd-synthetic": Entry(
        title="DTD-Synthetic", read=CategoryFolders().read, categories=12, normal=357, anomalous=947
    ),
    "headct": Entry(title="HeadCT", read=read_headct, categories=1, normal=100, anomalous=100, has_masks=False),
    "brainmri": Entry(title="BrainMRI", read=read_yes_and_no, categories=1, normal=98, anomalous=155, has_masks=False),
    "br35h": Entry(title="Br35H", read=read_yes_and_no, categories=1, normal=1500, anomalous=1500, has_masks=False),
    "isic": Entry(
        title="ISIC",
        read=ImagesAndMasks(
            folders=(("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),),
            category="skin",
            suffixes=("_Segmentation",),
        ).read,
        categories=1,
        normal=0,
        anomalous=379,
    ),
    "cvc-colondb": Entry(title="CVC-ColonDB", read=_polyps(("images", "masks")), categories=1, normal=0, anomalous=380),
    "cvc-clinicdb": Entry(
        title="CVC-ClinicDB",
        read=_polyps(("PNG/Original", "Ground Truth"), ("Original", "Ground Truth"), ("images", "masks")),
        categories=1,
        normal=0,
        anomalous=612,
    ),
    "kvasir": Entry(title="Kvasir", read=_polyps(("images", "masks")), categories=1, normal=0, anomalous=1000),
    "endo": Entry(title="Endo", read=_polyps(("images", "masks")), categories=1, normal=0, anomalous=200),
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
    images = tuple(entry.read(tree))
    remarks = (*_count_remarks(entry, images), *tree.remarks, *mask_remarks(images, has_masks=entry.has_masks))
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
