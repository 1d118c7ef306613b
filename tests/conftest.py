"""Small makers of pictures and shards, shared by all tests."""

import io
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("untimed", deadline=None)  # no machine is too slow for a test
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def encode_image() -> Callable[..., bytes]:
    """An array or a Pillow image, encoded: `encode_image(pixels, "PNG", **options of Pillow's save)`."""

    def encode(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: Any) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        out = io.BytesIO()
        image.save(out, form, **options)
        return out.getvalue()

    return encode


@pytest.fixture(scope="session")
def make_tar() -> Callable[..., bytes]:
    """A tar of (name, bytes) members; a `TarInfo` in place of a name is taken as it is."""

    def make(members: Iterable[tuple[str | tarfile.TarInfo, bytes]], *, form: int = tarfile.USTAR_FORMAT) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for member, data in members:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return make
