"""Every image of a dataset read and checked once: which can be used, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cops.training.fit import Team
from pipeline.datasets import Dataset, LabelledImage, read_dataset
from pipeline.datasets.pixels import Example, Flawed, read_encoded
from pipeline.errors import InputError
from pipeline.training.config import Data
from pipeline.training.features import FeatureSource, Usable
from pipeline.training.progress import Pace

_AT_ONCE = 16  # images that are read while their forerunners are looked at
_SHOWN = 5  # flawed images that are named

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """A dataset's images, in its own order."""

    name: str
    usable: tuple[Usable, ...]
    flawed: tuple[Flawed, ...]
    unmarked: int = 0
    """Anomalous images without a mask, which no training step can use."""

    def digest(self) -> str:
        """SHA-256 over what is used: contents of images and masks, and labels. Names and order do not count."""
        lines = sorted(f"{one.content_hash} {one.item.label}\n" for one in self.usable)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What checkpoint and log say of it."""
        labels = Counter(one.item.label for one in self.usable)
        return {
            "name": self.name,
            "hash": self.digest(),
            "normal": labels[0],
            "anomalous": labels[1],
            "flawed": dict(sorted(Counter(one.problem for one in self.flawed).items())),
            "unmarked": self.unmarked,
        }


def open_dataset(data: Data) -> Dataset:
    """The dataset, its remarks told.

    Raises:  InputError: it is laid out in another way; the first thing missing is named.
    """
    dataset = read_dataset(data.name, data.uri)
    for remark in dataset.remarks:
        log.warning("%s: %s", dataset.name, remark)
    return dataset


def check_for_training(dataset: Dataset) -> None:
    """Raises:  InputError: nothing can be learned of it, as its labels and mask names show."""
    if not dataset.count(1):
        raise InputError(
            f"{dataset.root}: expected normal and anomalous images to train on, found {dataset.count(0):,} normal "
            "images and no anomalous one"
        )
    if not any(image.label and image.mask_uri for image in dataset.images):
        raise InputError(
            f"{dataset.root}: expected masks of the anomalous images, found none for any of {dataset.count(1):,}; "
            "training needs to know where an image is anomalous"
        )
    if not dataset.count(0):
        log.warning("%s has no normal image: what is learned hardly tells whole images apart", dataset.name)


def survey(dataset: Dataset, source: FeatureSource, team: Team, *, masks_needed: bool) -> Survey:
    """Read and check every image, each process its share; features of the usable ones are in the cache then.

    Args:    masks_needed: leave out anomalous images without a mask.
    Raises:  RunError: the cache cannot be written.   StoreError: the store does not answer.
    """
    wanted = [one for one in dataset.images if one.mask_uri or not one.label or not masks_needed]
    share = range(team.rank, len(wanted), team.size)
    pace = Pace(f"reading {dataset.name}", len(share))
    found: list[tuple[int, Usable | Flawed]] = []
    for at, seen in zip(share, _look_ahead([wanted[at] for at in share], source), strict=True):
        found.append((at, source.take(seen) if isinstance(seen, Example) else seen))
        pace.step(1)
    verdicts = [verdict for _, verdict in sorted((pair for part in team.gather(found) for pair in part), key=_place)]
    return Survey(
        dataset.name,
        tuple(one for one in verdicts if isinstance(one, Usable)),
        tuple(one for one in verdicts if isinstance(one, Flawed)),
        len(dataset.images) - len(wanted),
    )


def report(survey: Survey) -> None:
    """Counts, and the first of the flawed images by name."""
    told = survey.describe()
    log.info("%s: %s normal and %s anomalous images", survey.name, f"{told['normal']:,}", f"{told['anomalous']:,}")
    for problem, count in told["flawed"].items():
        log.warning("%s: %s images are not used: %s", survey.name, f"{count:,}", problem.replace("_", " "))
    for flawed in survey.flawed[:_SHOWN]:
        log.warning("  %s: %s", flawed.item.image_uri, flawed.message)
    if len(survey.flawed) > _SHOWN:
        log.warning("  and %s more", f"{len(survey.flawed) - _SHOWN:,}")


def require_usable(survey: Survey) -> None:
    """Raises:  InputError: of the images that a training needs, none is usable."""
    told = survey.describe()
    if told["anomalous"]:
        return
    why = ", ".join(f"{count:,} {problem}" for problem, count in told["flawed"].items())
    first = survey.flawed[0]
    raise InputError(
        f"{survey.name}: no anomalous image can be used ({why}); the first: {first.item.image_uri}: {first.message}"
    )


def _place(pair: tuple[int, Usable | Flawed]) -> int:
    return pair[0]


def _look_ahead(items: Sequence[LabelledImage], source: FeatureSource) -> Iterator[Usable | Flawed | Example]:
    """The images, read and decoded by a thread of its own while the model is busy with the ones before."""

    def look(part: Sequence[LabelledImage]) -> list[Usable | Flawed | Example]:
        return [source.look(encoded) for encoded in read_encoded(part, source.rules)]

    parts = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
    with ThreadPoolExecutor(1, thread_name_prefix="look") as thread:
        coming = [thread.submit(look, part) for part in parts[:1]]
        while coming:
            seen = coming.pop().result()
            parts = parts[1:]
            if parts:
                coming.append(thread.submit(look, parts[0]))
            yield from seen
