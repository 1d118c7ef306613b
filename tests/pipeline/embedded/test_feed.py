"""Training batches and labelled sets: the same again from the same numbers, and words that the model knows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import cops
from cops.texts import tokenize
from pipeline.datasets.plain import read_plain
from pipeline.embedded.captions import (
    ANOMALOUS,
    FLAWS,
    NORMAL,
    NOUNS,
    STATES,
    anomalous_texts,
    caption,
    normal_texts,
    state_texts,
    vocabulary,
)
from pipeline.embedded.damage import KINDS
from pipeline.embedded.feed import Phase, Pictures, batches
from pipeline.embedded.labelled import unseen_pictures, unseen_products, world_pictures, write_set
from pipeline.embedded.objects import _OUTLINES
from pipeline.embedded.pool import Pool
from pipeline.embedded.surfaces import FAMILIES
from pipeline.embedded.world import NOUNS as NOUNS_OF_SAMPLES
from pipeline.embedded.world import STATES_OF_SAMPLES, twins
from pipeline.errors import InputError, RunError
from pipeline.samples.catalog import stream


@pytest.fixture(scope="module")
def config() -> cops.CopsConfig:
    words = vocabulary()
    arch = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 96, "patch_size": 12, "layers": 1, "width": 32, "head_width": 16},
        "text_cfg": {"context_length": 32, "vocab_size": len(words), "layers": 1, "width": 32, "heads": 2},
    }
    ends = {"sot_id": 0, "stop_id": words.index(269), "eot_id": len(words) - 1}
    return cops.CopsConfig(backbone=arch, image_size=96, heads=2, deep_layers=0, vocabulary=words, **ends)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    drawn = Pool(tmp_path_factory.mktemp("world"), seed=0, count=120, side=96)
    drawn.draw(workers=2)
    return drawn


WINDOWS, WHOLE = Phase(steps=2, pairs=4, grid=4), Phase(steps=2, pairs=4, grid=8)


def test_a_pool_holds_what_the_world_draws_and_begins_again(pool: Pool) -> None:
    """Pictures and words, bit for bit; beyond its count they come again."""
    drawn, kept = twins(0, 17, 96), pool[17]
    assert np.array_equal(kept.damaged, drawn.damaged) and np.array_equal(kept.mask, drawn.mask)
    assert (kept.noun, kept.state) == (drawn.noun, drawn.state)
    assert np.array_equal(pool[120 + 17].normal, kept.normal)
    before = (pool.folder / "normal.npy").stat().st_mtime_ns
    pool.draw(workers=1)  # done already
    assert (pool.folder / "normal.npy").stat().st_mtime_ns == before


def test_a_pool_whose_drawing_was_stopped_draws_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves alone what is there."""
    monkeypatch.setattr("pipeline.embedded.pool._AT_ONCE", 2)
    pool = Pool(tmp_path, seed=0, count=5, side=48)
    pool.draw(workers=1)
    whole = np.load(tmp_path / "normal.npy")
    np.save(tmp_path / "normal.npy", np.zeros_like(whole))
    pool._words_of(range(2, 4)).unlink()
    pool.draw(workers=1)
    again = np.load(tmp_path / "normal.npy")
    assert np.array_equal(again[2:4], whole[2:4]) and not again[[0, 1, 4]].any()
    assert (pool[3].noun, pool[3].state) == (twins(0, 3, 48).noun, twins(0, 3, 48).state)


def test_views_of_one_picture_differ_each_time(config: cops.CopsConfig, pool: Pool) -> None:
    """A picture that comes again is mirrored, turned or lit otherwise."""
    pictures = Pictures(config, WHOLE, pool, seed=0, first=5, count=121)
    assert not torch.equal(pictures[0].pixels, pictures[120].pixels)


@pytest.mark.parametrize("phase", [WINDOWS, WHOLE])
def test_batches_go_on_where_they_were_left(config: cops.CopsConfig, pool: Pool, phase: Phase) -> None:
    """A training that goes on sees what it would have seen."""
    all_of_them = list(batches(config, phase, pool, seed=0, first=3, steps=2, workers=0))
    last = next(iter(batches(config, phase, pool, seed=0, first=3 + phase.pairs, steps=1, workers=0)))
    assert torch.equal(all_of_them[1].pixels, last.pixels) and list(all_of_them[1].captions) == list(last.captions)
    assert last.pixels.shape == (8, 3, 12 * phase.grid, 12 * phase.grid) and last.coverage.shape == (8, phase.grid**2)


def test_a_process_of_its_own_gives_the_same(config: cops.CopsConfig, pool: Pool) -> None:
    """Views are of the number of the picture, not of who draws them."""
    here, there = (next(iter(batches(config, WINDOWS, pool, seed=0, first=0, steps=1, workers=n))) for n in (0, 1))
    assert torch.equal(here.pixels, there.pixels) and torch.equal(here.coverage, there.coverage)


def test_coverage_is_where_twins_differ(config: cops.CopsConfig, pool: Pool) -> None:
    """The share of each patch that is called damaged follows the change of its pixels."""
    pictures = Pictures(config, WHOLE, pool, seed=0, first=0, count=120)
    inside, outside = [], []
    for at in range(120):
        pair = pictures[at]
        change = (pair.pixels[0] - pair.pixels[1]).abs().amax(dim=0).reshape(8, 12, 8, 12).mean(dim=(1, 3)).reshape(-1)
        assert not pair.coverage[0].any()
        damaged = pair.coverage[1] > 0.5
        if damaged.any():
            inside.append(float(change[damaged].mean()))
            outside.append(float(change[pair.coverage[1] == 0].mean()))
    assert len(inside) > 15 and np.mean(outside) < 0.05 * np.mean(inside)


def test_a_window_without_its_defect_is_called_normal(config: cops.CopsConfig, pool: Pool) -> None:
    """What a view does not show, it is not called."""
    pictures = Pictures(config, WINDOWS, pool, seed=0, first=0, count=120)
    pairs = [pictures[at] for at in range(120)]
    without = [pair for pair in pairs if pair.kinds[1] < 0]
    assert 0 < len(without) < 40
    assert all(float(pair.coverage[1].sum()) * 144 <= 6.001 for pair in without)
    assert all(pair.kinds[0] == -1 for pair in pairs)


def test_every_word_of_a_caption_is_in_the_vocabulary(config: cops.CopsConfig) -> None:
    """Of all captions and texts that training uses."""
    rng = stream(0, 1)
    texts = [caption(noun, state, rng) for noun in NOUNS for state in (None, *STATES) for _ in range(4)]
    texts += normal_texts() + anomalous_texts() + state_texts()
    tokenize(texts, config, length=32)
    said = {word for text in texts for word in text.split()}
    assert {*NORMAL, *ANOMALOUS, *FLAWS, *STATES, *NOUNS} <= said


def test_what_the_world_draws_has_a_word() -> None:
    """And no word is of something that is never drawn."""
    drawn = {noun for _, nouns in FAMILIES.values() for noun in nouns} | {noun for _, noun in _OUTLINES}
    assert drawn | set(NOUNS_OF_SAMPLES.values()) == set(NOUNS)
    assert set(KINDS) == set(STATES) and set(STATES_OF_SAMPLES.values()) <= set(STATES)


@pytest.mark.parametrize(
    ("draw", "count"),
    [
        (lambda: world_pictures(2, 6, 64), 12),
        (lambda: unseen_pictures(0, normal=1, of_a_kind=1, side=64), 9 * 6),
        (lambda: unseen_products(0, normal=1, of_a_kind=1, side=64), None),
    ],
)
def test_labelled_sets_are_read_as_any_dataset_is(draw, count: int | None, tmp_path: Path) -> None:
    """By the reader of plain datasets, every anomalous image with a mask that marks something."""
    manifest = write_set(tmp_path / "set", draw(), {})
    dataset = read_plain(str(manifest))
    assert count is None or len(dataset.images) == count
    assert dataset.count(0) and dataset.count(1) and not dataset.remarks
    for image in dataset.images:
        assert (image.mask_uri is not None) == (image.label == 1)
        if image.mask_uri:
            mask = cv2.imread(image.mask_uri, cv2.IMREAD_UNCHANGED)
            assert mask.shape == (64, 64) and mask.any()


def test_a_set_that_was_not_finished_is_drawn_again(tmp_path: Path) -> None:
    """A manifest says that a set is whole; then nothing is drawn."""

    def broken():
        yield from list(world_pictures(2, 2, 64))[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path, broken(), {"seed": 2})
    assert len(read_plain(str(write_set(tmp_path, world_pictures(2, 2, 64), {"seed": 2}))).images) == 4
    before = (tmp_path / "manifest.csv").stat().st_mtime_ns
    write_set(tmp_path, broken(), {"seed": 2})  # whole: nothing is drawn
    assert (tmp_path / "manifest.csv").stat().st_mtime_ns == before


def test_a_set_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """Pictures of one seed are never taken for those of another."""
    write_set(tmp_path, world_pictures(2, 1, 64), {"seed": 2})
    with pytest.raises(InputError, match="begun otherwise: seed was 2, is now 3"):
        write_set(tmp_path, world_pictures(3, 1, 64), {"seed": 3})


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    """Whose manifest would be taken for the set's."""
    (tmp_path / "manifest.csv").write_text("uri,label\n")
    with pytest.raises(InputError, match=r"expected a new or empty folder.*found manifest\.csv"):
        write_set(tmp_path, world_pictures(2, 1, 64), {"seed": 2})


def test_pictures_too_small_for_their_defects_are_refused(tmp_path: Path) -> None:
    """Rather than called anomalous without a defect."""
    with pytest.raises(InputError, match=r"expected room for a defect of kind '\w+', got 8 px a side"):
        list(unseen_pictures(0, normal=0, of_a_kind=2, side=8))


def test_a_disk_too_small_for_the_pool_is_said(tmp_path: Path) -> None:
    """Before anything is drawn: a full disk under a memory map ends a process without a word."""
    with pytest.raises(RunError, match=r"needs 699\.0 GB, the disk has \d+\.\d GB free"):
        Pool(tmp_path / "world", seed=0, count=1_000_000, side=316).draw(1)
    assert not list(tmp_path.glob("world/*"))
