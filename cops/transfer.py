"""Between host and device without waiting: page-locked memory, and uploads on a stream of their own."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True)
class Download:
    """Values on their way from the device."""

    values: Tensor
    done: torch.cuda.Event | None

    def wait(self) -> np.ndarray:
        """The values, once they have come."""
        if self.done is not None:
            self.done.synchronize()
        arrived: np.ndarray = self.values.numpy()
        return arrived


def upload(pixels: UInt8[np.ndarray, "*b"], device: torch.device) -> UInt8[Tensor, "*b"]:
    """An array of any memory layout, on the device; what is asked of the device from here on sees it whole."""
    on_gpu = device.type == "cuda"
    host = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=on_gpu)
    np.copyto(host.numpy(), pixels)
    if not on_gpu:
        return host
    stream, current = _upload_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        there = host.to(device, non_blocking=True)
    current.wait_stream(stream)
    there.record_stream(current)
    return there


def download(values: Tensor) -> Download:
    """Begin to bring values to the host."""
    if values.device.type != "cuda":
        return Download(values, None)
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(values.device))
    return Download(host, done)


@cache
def _upload_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
