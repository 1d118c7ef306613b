"""Labelled images and a model's file, written once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_training import write_checkpoint, write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "parts")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """For fixtures of every scope: results are equal to the bit for one number of threads, not across two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
