"""What goes into an archive: the settings, and entry i with its bytes, as a function of both alone."""

import datetime as dt
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.samples.catalog import CATEGORIES, Picture, draw, stream

Format = Literal["images", "webdataset", "parquet", "manifest"]
Encoding = Literal["jpg", "png", "mixed"]
Outcome = Literal["scored", "quarantined", "nothing"]

_KINDS_STREAM, _CODEC_STREAM = 10, 11
_PNG_SHARE = 0.2  # of a mixed archive
_FIRST_DAY = dt.date(2026, 1, 5)
_PICTURES_A_DAY = 400
_LINES = 4
FOLDER_PART = 64  # pictures that one worker writes into a folder before it takes the next


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The sample archive's settings."""

    output: str = "samples/"
    """Folder or URI (any fsspec one, as s3://bucket/prefix) that the archive is written to."""
    count: int = 120
    """Number of pictures, hostile files not counted."""
    format: Format = "images"
    """A tree of image files, WebDataset tar shards, Parquet files, or a tree with a manifest."""
    seed: int = 0
    """Another seed draws other products and other pictures; the same one the same bytes in every format."""
    size: int = 256
    """Width and height of the pictures, px."""
    anomaly_rate: float = 0.25
    """Share of defective pictures, in [0, 1]."""
    hostile: int = 0
    """Number of broken, odd or oddly named files to strew in, with a list of them in hostile.json."""
    shard_size: int = 1000
    """Pictures in one tar or Parquet file."""
    categories: str = ""
    """Comma-separated categories; all of them if empty."""
    encoding: Encoding = "mixed"
    """JPEG, PNG, or mostly JPEG with some PNG."""
    workers: int = 0
    """Processes; 0: one per core for large archives, one for small ones."""

    def __post_init__(self) -> None:
        for name, least in {"count": 1, "seed": 0, "hostile": 0, "shard_size": 1, "workers": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name.replace('_', '-')} must be at least {least}, not {getattr(self, name)}")
        if not 32 <= self.size <= 8192:
            raise ValueError(f"size must be from 32 to 8192 px, not {self.size}")
        if not 0 <= self.anomaly_rate <= 1:
            raise ValueError(f"anomaly-rate must be from 0 to 1, not {self.anomaly_rate}")
        unknown = sorted(set(self.category_names) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"unknown categories {', '.join(unknown)}; known are {', '.join(CATEGORIES)}")
        if len(set(self.category_names)) < len(self.category_names):
            raise ValueError(f"categories are named twice: {self.categories}")

    @property
    def category_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.categories.split(",") if name.strip()) or tuple(CATEGORIES)

    @property
    def part_size(self) -> int:
        return self.shard_size if self.format in {"webdataset", "parquet"} else FOLDER_PART

    @property
    def parts(self) -> int:
        return math.ceil(self.count / self.part_size)


@dataclass(frozen=True, kw_only=True)
class Hostility:
    """Why an entry is hostile, and what a careful reader makes of it."""

    kind: str
    what: str
    expected: Outcome
    reason: str | None = None
    """Where it is quarantined: the code that quarantine should hold."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the archive; `label`, `defect` and `mask_png` are unknown (None) for hostile ones."""

    name: str
    """`category/good or defect/number.suffix`, the same in every format"""
    image_bytes: bytes
    category: str
    label: int | None
    defect: str | None
    mask_png: bytes | None
    line: str
    captured: dt.date
    index: int
    hostility: Hostility | None = None

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]


@cache
def _kinds(seed: int, category: str) -> tuple[str, ...]:
    """The category's defects in an order of the seed's own."""
    kinds = CATEGORIES[category].defects
    order = stream(seed, _KINDS_STREAM, zlib.crc32(category.encode())).permutation(len(kinds))
    return tuple(kinds[n] for n in order)


def fate(settings: Settings, index: int) -> tuple[str, str | None]:
    """Category and defect (None: normal) of picture `index`.

    Categories take turns, and so do a category's defects, so that every prefix holds its share of each.
    """
    names = settings.category_names
    category, turn = names[index % len(names)], index // len(names)
    phase = zlib.crc32(category.encode()) % 997 / 997
    before, after = (math.floor((turn + n) * settings.anomaly_rate + phase) for n in (0, 1))
    if after == before:
        return category, None
    kinds = _kinds(settings.seed, category)
    return category, kinds[before % len(kinds)]


def when_and_where(index: int) -> tuple[dt.date, str]:
    """The day a picture was taken and the production line."""
    return _FIRST_DAY + dt.timedelta(days=index // _PICTURES_A_DAY), f"line-{index % _LINES + 1}"


def encode(image: UInt8[np.ndarray, "h w *c"], suffix: str, *, quality: int = 92) -> bytes:
    """A colour or grey picture as a JPEG or PNG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 2]
    done, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, options)
    assert done
    return data.tobytes()


def picture(settings: Settings, index: int) -> Picture:
    """Picture `index` of the archive before it is encoded."""
    category, defect = fate(settings, index)
    return draw(category, defect, seed=settings.seed, index=index, size_px=settings.size)


def entry(settings: Settings, index: int) -> Entry:
    """Picture `index` as a file."""
    category, defect = fate(settings, index)
    drawn = picture(settings, index)
    codec = stream(settings.seed, _CODEC_STREAM, index)
    quality = int(codec.integers(88, 97))
    as_png = codec.uniform() < _PNG_SHARE if settings.encoding == "mixed" else settings.encoding == "png"
    suffix = ".png" if as_png else ".jpg"
    captured, line = when_and_where(index)
    return Entry(
        name=f"{category}/{defect or 'good'}/{index:06d}{suffix}",
        image_bytes=encode(drawn.image, suffix, quality=quality),
        category=category,
        label=int(defect is not None),
        defect=defect,
        mask_png=encode(drawn.mask.astype(np.uint8) * 255, ".png") if defect else None,
        line=line,
        captured=captured,
        index=index,
    )


def pictures(settings: Settings, part: int) -> Iterator[Entry]:
    """The pictures of one part (a shard, or a run of files in a folder), without the hostile files."""
    first = part * settings.part_size
    for index in range(first, min(first + settings.part_size, settings.count)):
        yield entry(settings, index)
