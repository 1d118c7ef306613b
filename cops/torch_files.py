"""torch's own files, read without unpickling objects."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cops.errors import CheckpointError, unreadable

# What torch's restricted unpickler raises on bytes that are no pickle at all depends on the bytes. What is called
# .safetensors, torch reads as such.
DAMAGED = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)


def read_torch_file(path: str | Path) -> Any:
    """What `torch.save` wrote, as long as it is tensors, numbers, strings and containers of them.

    Raises:  CheckpointError: the file is absent, damaged, or holds other objects, of which none is made.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise CheckpointError(f"there is no file {path}") from exc
    except pickle.UnpicklingError as exc:
        raise CheckpointError(
            f"{path} refused: it holds more than tensors, or is no torch file. Nothing was run"
        ) from exc
    except DAMAGED as exc:
        what = next(iter(str(exc).splitlines()), "")
        raise unreadable(f"{path} is no readable torch file ({type(exc).__name__}: {what})", exc) from exc
