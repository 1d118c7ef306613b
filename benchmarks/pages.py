"""What result pages have in common: tables, and a footer with hardware, versions and commit."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["|" + "|".join(cells) + "|" for cells in (header, ["---"] * len(header), *rows)]


def footer(*told: str, device: str = "cpu") -> list[str]:
    """What it ran on; `told` comes first."""
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, check=False).stdout.decode().strip()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return [*told, f"{hardware(device)}; {versions}, commit {commit or 'unknown'}, {datetime.date.today()}."]


def hardware(device: str) -> str:
    """The processor, its cores and the GPU, where one is used."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{os.cpu_count()} cores ({names[0] if names else platform.machine()})"
    if not device.startswith("cuda"):
        return cpu
    return f"{torch.cuda.get_device_name(device)}, {cpu}"


def write(page: Sequence[str], path: Path) -> None:
    """Print a page and keep it."""
    text = "\n".join(page) + "\n"
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
