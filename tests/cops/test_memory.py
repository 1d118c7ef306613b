"""How many pictures fit a GPU: by what one and two of them take."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cops
from cops.memory import largest_batch
from cops.transfer import Download

MIB = 2**20


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (10_000, 38),  # 40 % of it: 4,000 = 300 of the first + 37 × 100
        (1_100, 2),  # 440 = 300 + 1 × 100
        (500, 1),  # even one takes more than its share: it is tried all the same
    ],
)
def test_what_fits_the_free_memory(free, expected, monkeypatch):
    """With a fixed part of 200 MiB and 100 MiB a picture, 50 of them held by torch and free to use again."""
    ran = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ((free - 50) * MIB, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1050 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000 * MIB)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (1200 + 100 * ran[-1]) * MIB)
    assert largest_batch(ran.append, torch.device("cuda")) == expected
    assert ran == [1, 1, 2, 2]


def test_threads_of_one_model_measure_once(tiny_checkpoint, monkeypatch):
    """An actor works on two calls at a time: what both take at once would be neither's."""
    model = cops.from_checkpoint(tiny_checkpoint)
    measured = []

    def measure(run, device):
        measured.append(device.type)
        time.sleep(0.2)  # for the other thread to come by
        return 7

    monkeypatch.setattr("cops.model.largest_batch", measure)
    monkeypatch.setattr(cops.CoPS, "device", torch.device("cuda"))
    blank = torch.zeros(4, 2 + model.grid**2)
    monkeypatch.setattr(cops.CoPS, "_begin_batch", lambda *_: Download(blank, None))
    images = np.zeros((4, 112, 112, 3), np.uint8)
    with ThreadPoolExecutor(2) as threads:
        assert [len(found.pred_score) for found in threads.map(model.predict, [images] * 2)] == [4, 4]
    assert measured == ["cuda"]


@pytest.mark.gpu
def test_a_batch_that_fits_is_found_and_scored(tiny_checkpoint):
    """On the card itself: remembered by the model, and never more than was asked for."""
    model = cops.from_checkpoint(tiny_checkpoint, device="cuda")
    model.predict(np.zeros((4, 112, 112, 3), np.uint8), batch_size=4)
    found = model._largest_batch
    assert found is not None and found > 4
    model.predict(np.zeros((4, 112, 112, 3), np.uint8), batch_size=4)
    assert model._largest_batch == found
