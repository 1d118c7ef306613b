"""What is wrong with a dataset is counted, named and never used."""

import logging

import numpy as np
import pytest
from PIL import Image
from small_training import PartOf, source_of, write_images

from cops.training.fit import Team
from pipeline.datasets.plain import read_plain
from pipeline.errors import InputError
from pipeline.training.config import Data
from pipeline.training.survey import check_for_training, open_dataset, report, require_usable, survey


def spoiled(root):
    """One image of each flaw, one that is unmarked; 5 normal and 7 anomalous before."""
    write_images(root, anomalous=7)
    truth, test = root / "part/ground_truth", root / "part/test"
    Image.fromarray(np.ones((64, 81), bool)).save(truth / "spot/5_mask.png")
    Image.fromarray(np.zeros((64, 80), bool)).save(truth / "spot/6_mask.png")
    (truth / "spot/7_mask.png").write_bytes(b"no picture")
    (truth / "spot/8_mask.png").unlink()
    (test / "spot/9.png").write_bytes(b"")
    Image.fromarray(np.arange(64 * 80).reshape(64, 80) == 1000).save(truth / "spot/11_mask.png")  # one pixel
    (truth / "good").mkdir()
    Image.fromarray(np.ones((64, 80), bool)).save(truth / "good/0_mask.png")
    return root


def read(root, team=None, *, masks_needed=True):
    dataset, source = source_of(root, None)
    return survey(dataset, source, team or Team(), masks_needed=masks_needed)


def test_flaws_are_counted_by_kind(tmp_path, caplog):
    """And the first of them named, with what is wrong."""
    found = read(spoiled(tmp_path / "parts"))
    told = found.describe()
    assert told["flawed"] == {
        "empty_mask": 1,
        "mask_lost_in_resizing": 1,
        "mask_of_a_normal_image": 1,
        "mask_of_another_size": 1,
        "unreadable_image": 1,
        "unreadable_mask": 1,
    }
    assert (told["normal"], told["anomalous"], told["unmarked"]) == (4, 1, 1)
    with caplog.at_level(logging.WARNING):
        report(found)
    assert "spot/5.png: the mask has 81×64 pixels, the image 80×64" in caplog.text


def test_validation_counts_what_nobody_marked(tmp_path):
    """For metrics of images, which need no mask."""
    found = read(spoiled(tmp_path / "parts"), masks_needed=False)
    assert found.describe()["anomalous"] == 2
    assert [one.has_mask for one in found.usable if one.item.image_uri.endswith("8.png")] == [False]


def test_two_processes_survey_what_one_does(images):
    """Each its share; together the whole, in the dataset's order."""
    dataset, source = source_of(images, None)
    given = []

    class Listening(PartOf):
        def gather(self, value):
            given.append(value)
            return super().gather(value)

    survey(dataset, source, Listening(1, 2), masks_needed=True)
    whole = survey(dataset, source, PartOf(0, 2, others=given), masks_needed=True)
    assert len(given[0]) == 5  # of 11
    assert whole == read(images)


def test_the_hash_is_of_contents_and_labels(images, tmp_path):
    """Other names change nothing; another image, or one image less, does."""
    first = read(images).digest()
    moved = write_images(tmp_path / "moved", category="other")
    assert read(moved).digest() == first
    next(moved.rglob("good/0.png")).unlink()
    assert read(moved).digest() != first
    assert read(write_images(tmp_path / "other", seed=1)).digest() != first


def test_labels_are_part_of_the_hash(images, tmp_path):
    """The same bytes as normal and as anomalous are two datasets."""
    manifests = []
    for label in (0, 1):
        picture = next(images.rglob("good/0.png"))
        manifests.append(tmp_path / f"{label}.csv")
        manifests[-1].write_text(f"uri,label\n{picture},{label}\n")
    one, other = (read(path, masks_needed=False).digest() for path in manifests)
    assert one != other


def test_remarks_are_told_of_every_dataset_that_is_opened(tmp_path, caplog):
    """Of one to train on as of one to validate on."""
    root = spoiled(tmp_path / "parts")
    with caplog.at_level(logging.WARNING):
        open_dataset(Data(name="plain", uri=str(root)))
    assert "parts: 1 anomalous images have no mask; the first: " in caplog.text
    assert "parts: 1 normal images have a mask" in caplog.text


def test_a_dataset_without_anomalous_images_is_refused(tmp_path):
    """Before any image is read; says what there is."""
    dataset = read_plain(str(write_images(tmp_path / "parts", anomalous=0)))
    with pytest.raises(InputError, match="found 5 normal images and no anomalous one"):
        check_for_training(dataset)


def test_a_dataset_without_masks_is_refused(tmp_path):
    """Likewise."""
    root = write_images(tmp_path / "parts")
    for mask in root.rglob("*_mask.png"):
        mask.unlink()
    with pytest.raises(InputError, match="found none for any of 6"):
        check_for_training(read_plain(str(root)))


def test_a_dataset_of_flaws_alone_is_refused(tmp_path):
    """With the kinds, and the first of them."""
    root = write_images(tmp_path / "parts", anomalous=2)
    for mask in root.rglob("*_mask.png"):
        Image.fromarray(np.zeros((64, 80), bool)).save(mask)
    with pytest.raises(InputError, match=r"no anomalous image can be used \(2 empty_mask\); the first: .*5.png"):
        require_usable(read(root))
