"""Decoding in strips: the same pixels, in the memory that a task reserves."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from cops import images
from pipeline.decode import PEAK_BYTES_PER_PIXEL, DecodeRules, decode_image

SIDE = 3000
NOISE = np.random.default_rng(0).integers(0, 65536, (13, 11, 4), dtype=np.uint16)
BYTES = (NOISE >> 8).astype(np.uint8)
GREEN = DecodeRules(alpha_background="#00ff00")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, metadata=None, **options)
    return out.getvalue()


def png16(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


PICTURES = {
    "rgba": saved(Image.fromarray(BYTES), "PNG"),
    "grey and alpha": saved(Image.fromarray(BYTES).convert("LA"), "PNG"),
    "palette": saved(Image.fromarray(BYTES[:, :, 0]).convert("P"), "PNG", transparency=bytes(range(256))),
    "named grey": saved(Image.fromarray(BYTES[:, :, 0] // 64), "PNG", transparency=2),
    "named colour": saved(Image.fromarray(BYTES[:, :, :3] // 128), "PNG", transparency=(1, 0, 1)),
    "gif": saved(Image.fromarray(BYTES[:, :, 0]).convert("P"), "GIF", transparency=7),
    "16-bit grey": png16(NOISE[:, :, 0]),
    "16-bit colour": png16(NOISE[:, :, :3]),
    "16-bit alpha": png16(NOISE),
    "premultiplied": tiff(NOISE, photometric="rgb", extrasamples=["assocalpha"]),
    "white is 0": tiff(NOISE[:, :, 0], photometric="miniswhite"),
    "float": tiff((NOISE[:, :, 0] / 65535).astype(np.float32)),
    "float colour": tiff((NOISE[:, :, :3] / 65535).astype(np.float32), photometric="rgb"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_strips_make_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row, in a few strips or in one: the same pixels, to the last bit."""
    shown = []
    for strip_px in (1, 45, 10**9):
        monkeypatch.setattr(images, "STRIP_PX", strip_px)
        shown.append(np.asarray(decode_image(PICTURES[name], GREEN).rgb))
    assert len(np.unique(shown[0])) > 2
    np.testing.assert_array_equal(shown[0], shown[2])
    np.testing.assert_array_equal(shown[1], shown[2])


DECODE = """
import sys
from pathlib import Path
from pipeline.decode import DecodeRules, decode_to_side

def most_kb():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])

small, large = (Path(name).read_bytes() for name in sys.argv[1:])
decode_to_side(small, DecodeRules(), 518)
before = most_kb()
decode_to_side(large, DecodeRules(), 518)
print((most_kb() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("dtype", "channels", "limit"),
    [
        (np.uint16, 4, PEAK_BYTES_PER_PIXEL),
        (np.uint8, 4, 10),
        (np.float32, 3, 28),
        (np.float64, 1, PEAK_BYTES_PER_PIXEL),
    ],
)
def test_decoding_stays_within_what_a_task_reserves(dtype: type, channels: int, limit: int, tmp_path: Path) -> None:
    """Measured in a process of its own: alpha of 8 and of 16 bits, which once took 20 and 68 bytes a pixel; floats."""
    paths = []
    for side in (8, SIDE):
        values = np.zeros((side, side, channels)[: 2 if channels == 1 else 3], dtype)
        kind = {"photometric": "minisblack" if channels == 1 else "rgb"}
        kind |= {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        paths.append(tmp_path / f"{side}.tif")
        paths[-1].write_bytes(tiff(values, **kind))
    command = [sys.executable, "-c", DECODE, *map(str, paths)]
    root = Path(__file__).parent.parent.parent
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert 4 < int(found.stdout) / SIDE**2 < limit
