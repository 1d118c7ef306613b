"""A training's folder: what is in it, and how an epoch is committed.

    training.json           what is trained on what; the same command goes on, another is refused
    log.jsonl               a header, and a line for each epoch
    loss.png                the curves
    messages.log            what was said on stderr from the first image on
    epochs/NN.safetensors   a checkpoint of each epoch
    best.safetensors        the best of them
    state.safetensors       parameters, optimiser and the epochs so far: what a restart goes on from

An epoch is done when `state.safetensors` has it. Best checkpoint, curves and, at last, log are made from it and can be
again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pipeline.errors import ClaimError, InputError, RunError
from pipeline.storage import open_root, write_atomic

STATE = "cops-training-state/1"  # the metadata under this name are the epochs
_WAIT_S = 30.0  # a worker of a killed driver may live for a moment
_LOOK_EVERY_S = 0.5

log = logging.getLogger(__name__)
Epoch = dict[str, Any]


@dataclass(frozen=True)
class State:
    """What a restart goes on from: the trainer's tensors, and what was logged of each epoch."""

    tensors: dict[str, Tensor]
    epochs: list[Epoch]


@dataclass(frozen=True)
class Folder:
    """Raises RunError where it cannot be written."""

    root: Path

    @classmethod
    def at(cls, output: str) -> Folder:
        """Raises:  InputError: something there is no folder."""
        root = Path(open_root(output).path)
        if found := next((path for path in (root, *root.parents) if path.exists() and not path.is_dir()), None):
            raise InputError(f"--output: expected a folder, {found} is none")
        return cls(root)

    @property
    def about(self) -> Path:
        return self.root / "training.json"

    @property
    def log(self) -> Path:
        return self.root / "log.jsonl"

    @property
    def curves(self) -> Path:
        return self.root / "loss.png"

    @property
    def messages(self) -> Path:
        return self.root / "messages.log"

    @property
    def best(self) -> Path:
        return self.root / "best.safetensors"

    @property
    def state(self) -> Path:
        return self.root / "state.safetensors"

    def checkpoint(self, epoch: int) -> Path:
        return self.root / "epochs" / f"{epoch:02d}.safetensors"

    def write(self, path: Path, content: bytes) -> None:
        try:
            write_atomic(LocalFileSystem(), os.fspath(path), content)
        except OSError as exc:
            raise RunError(f"cannot write {path}: {exc}") from exc

    def read_about(self) -> dict[str, Any] | None:
        """What an earlier command began here; None where nothing was."""
        try:
            found: dict[str, Any] = json.loads(self.about.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise RunError(f"cannot read {self.about}: {exc}") from exc
        return found

    def write_about(self, about: Mapping[str, Any]) -> None:
        self.write(self.about, json.dumps(about, indent=1).encode())

    def read_state(self) -> State | None:
        """None where no epoch was finished.

        Raises:  RunError: the file is damaged.
        """
        if not self.state.exists():
            return None
        try:
            with safe_open(self.state, "pt") as file:
                epochs = json.loads((file.metadata() or {})[STATE])
                return State({name: file.get_tensor(name) for name in file.keys()}, epochs)  # noqa: SIM118 -- no mapping
        except (OSError, SafetensorError, ValueError, KeyError) as exc:
            raise RunError(f"{self.state} cannot be read ({exc}); begin anew with another --output") from exc

    def write_state(self, tensors: Mapping[str, Tensor], epochs: Sequence[Epoch]) -> None:
        on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        self.write(self.state, save(on_cpu, {STATE: json.dumps(list(epochs))}))

    def write_best(self, epoch: int) -> None:
        """That epoch's checkpoint as the best one."""
        path = self.checkpoint(epoch)
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise RunError(f"cannot read {path}: {exc}") from exc
        self.write(self.best, content)

    def has_published(self, epochs: int) -> bool:
        """Whether all that is made of so many epochs is there."""
        try:
            lines = self.log.read_bytes().count(b"\n")
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise RunError(f"cannot read {self.log}: {exc}") from exc
        return lines == 1 + epochs and self.best.exists() and self.curves.exists()

    def write_log(self, header: Mapping[str, Any], epochs: Sequence[Epoch]) -> None:
        lines = [{"event": "start", **header}, *({"event": "epoch", **epoch} for epoch in epochs)]
        self.write(self.log, "".join(json.dumps(line) + "\n" for line in lines).encode())

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """One process writes here at a time; the system frees the claim of a process that ends, however it ends.

        Raises:  ClaimError: another training goes on here.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".claim").open("w")
        except OSError as exc:
            raise InputError(f"--output: cannot write to {self.root}: {exc}") from exc
        with file:
            deadline = time.monotonic() + _WAIT_S
            while not _lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise ClaimError(f"another process trains in {self.root}; wait for it, or give another --output")
                time.sleep(_LOOK_EVERY_S)
            yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
