"""Published CoPS weights, a `.pth` with one key `prompt_learner`, as tensors under our names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cops.errors import CheckpointError, ConfigError
from cops.torch_files import read_torch_file

LEARNED = "prompt_learner."  # before the name of everything that CoPS learns
ENCODER = "vae_encoder."  # training alone needs it
DEEP = re.compile(r"compound_prompts_text\.(\d+)$")


def read_published(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a published file as float32, `prompt_learner.` before each name. It is read without unpickling.

    Raises:  CheckpointError: the file is absent, is no weights file, or would need objects unpickled.
    """
    loaded = read_torch_file(path)
    learned = loaded.get("prompt_learner") if isinstance(loaded, Mapping) else None
    if not isinstance(learned, Mapping):
        keys = sorted(map(str, loaded))[:6] if isinstance(loaded, Mapping) else type(loaded).__name__
        raise CheckpointError(f"{path} has no key 'prompt_learner', which published CoPS weights have; it has {keys}")
    if wrong := [str(name) for name, value in learned.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"{path}: these entries are no tensors: {', '.join(wrong[:6])}")
    return normalise_names(learned)


def normalise_names(learned: Mapping[str, Any]) -> dict[str, Tensor]:
    """Published names with their prefix, float32; the VAE's encoder is left out, since inference does not need it.

    Raises:  ConfigError: there is something else than tensors.
    """
    if set(learned) == {"prompt_learner"} and isinstance(learned["prompt_learner"], Mapping):
        learned = learned["prompt_learner"]  # a published file as `torch.load` gives it
    if wrong := [str(name) for name, value in learned.items() if not isinstance(value, Tensor)]:
        raise ConfigError(f"expected a state dict of tensors; these are none: {', '.join(wrong[:6])}")
    named = {name.removeprefix(LEARNED): tensor.detach().float() for name, tensor in learned.items()}
    return {LEARNED + name: tensor for name, tensor in named.items() if not name.startswith(ENCODER)}


def count_deep_layers(learned: Mapping[str, Tensor]) -> int:
    """Number of deep prompts among the tensors."""
    return sum(DEEP.search(name) is not None for name in learned)
