"""How many pictures a GPU's memory takes at once."""

from collections.abc import Callable

import torch

_SHARE = 0.4  # of the memory that is free: two batches may be under way


def largest_batch(run: Callable[[int], object], device: torch.device) -> int:
    """The number of pictures whose batch fits, by what one and two of them take; at least 1.

    Args:    run: scores so many pictures, to the end.
    """
    peaks = [_peak_bytes(run, count, device) for count in (1, 2)]
    each = max(1, peaks[1] - peaks[0])
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what torch holds and may reuse
    return max(1, int((_SHARE * free - peaks[0]) // each) + 1)


def _peak_bytes(run: Callable[[int], object], count: int, device: torch.device) -> int:
    run(count)  # what a first run alone takes, such as workspaces
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run(count)
    return torch.cuda.max_memory_allocated(device) - before
