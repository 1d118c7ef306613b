"""What is shown of the highest scores: names are anybody's, pictures may be gone."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.model import ModelCard
from pipeline.top import TopImage, contact_sheet, top_table

CARD = ModelCard(
    method="cops",
    name="tiny",
    model_id="m",
    precision="float32",
    image_size=56,
    sigma_px=4.0,
    trained=False,
    provenance={},
)


def row(**fields: Any) -> dict[str, Any]:
    patches = np.linspace(0, 0.8, 64, dtype="<f2")
    scores = {"pred_score": 0.5, "class_score": 0.125, "patch_score_max": 0.8, "pixel_threshold": None}
    kept = {"patch_scores": patches.tobytes(), "map_size": [8, 8], "category": None, "image_uri": "/in/a.png"}
    return scores | kept | fields


def test_the_table_by_hand() -> None:
    """Rank, three scores, category cut to its width, the whole name."""
    lines = top_table([row(category="a very long category"), row(image_uri="/in/b\n.png")]).split("\n")
    assert len(lines) == 3
    assert lines[1] == "  1   0.500   0.125   0.800  a very long ca  /in/a.png"
    assert lines[2] == "  2   0.500   0.125   0.800  -               /in/b\\n.png"


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
def test_the_contact_sheet_is_a_png(count: int) -> None:
    """Any number of pictures, of any shape, some of them gone: one PNG with all cells."""
    sizes = [(224, 100), (1, 224), (30, 20)]
    pictures = [Image.new("RGB", sizes[at % 3], "grey") if at % 4 != 3 else None for at in range(count)]
    top = [TopImage(row(image_uri=f"/in/\x00日本\n{'x' * 90}{at}.png"), picture) for at, picture in enumerate(pictures)]
    sheet = Image.open(io.BytesIO(contact_sheet(top, CARD, title="run r")))
    sheet.load()
    assert sheet.format == "PNG"
    assert sheet.height >= (count + 3) // 4 * 224
    assert len(set(np.asarray(sheet.convert("RGB")).reshape(-1, 3)[:, 0])) > 10


def test_a_sheet_of_zeros_has_a_scale() -> None:
    """Where no patch has any score there is still a scale, not a division by nothing."""
    quiet = row(patch_score_max=0.0, patch_scores=bytes(128), pixel_threshold=0.25)
    assert contact_sheet([TopImage(quiet, Image.new("RGB", (64, 64)))], CARD, title="t")[:4] == b"\x89PNG"


def test_the_scale_is_shared(tmp_path: Path) -> None:
    """The same picture and map look the same beside any other: colours are not stretched picture by picture."""
    picture = Image.new("RGB", (224, 224), "grey")
    weak, strong = row(patch_scores=np.full(64, 0.2, "<f2").tobytes(), patch_score_max=0.2), row()
    alone = Image.open(io.BytesIO(contact_sheet([TopImage(weak, picture)], CARD, title="t"))).convert("RGB")
    beside = Image.open(
        io.BytesIO(contact_sheet([TopImage(weak, picture), TopImage(strong, picture)], CARD, title="t"))
    ).convert("RGB")
    place = (124, 160)  # within the first cell
    assert alone.getpixel(place) != beside.getpixel(place)
