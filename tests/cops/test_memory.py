"""How many pictures fit a GPU: by what one and two of them take."""

import numpy as np
import pytest
import torch

import cops
from cops.memory import largest_batch

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


@pytest.mark.gpu
def test_a_batch_that_fits_is_found_and_scored(tiny_checkpoint):
    """On the card itself: remembered by the model, and never more than was asked for."""
    model = cops.from_checkpoint(tiny_checkpoint, device="cuda")
    model.predict(np.zeros((4, 112, 112, 3), np.uint8), batch_size=4)
    found = model._largest_batch
    assert found is not None and found > 4
    model.predict(np.zeros((4, 112, 112, 3), np.uint8), batch_size=4)
    assert model._largest_batch == found
