"""The chaos harness' Ray cluster, and what can be found among its processes."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from real_parts import clean_environment

HERE = Path(__file__).resolve().parent


class Nodes:
    """The cluster, in a process of its own; whole again whenever it is asked for."""

    def __init__(self, count: int, environment: dict[str, str], spill: Path) -> None:
        self.count, self.environment, self.spill = count, environment, spill
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def up(self) -> str:
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(HERE / "nodes.py"), str(self.count), str(self.spill)]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=clean_environment(**self.environment),
            )  # fmt: skip
            self.address = self._answer()
        return self.address

    def tell(self, what: str) -> None:
        """`lose`, `behead`, `hog` or `free`, as nodes.py has them."""
        assert self.process and self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        self._answer()
        if what == "behead":
            self.down()

    def workers(self, title: str) -> list[int]:
        """Processes of the cluster whose title Ray has set to this."""
        assert self.process
        return [pid for pid in descendants(self.process.pid) if title in title_of(pid)]

    def down(self) -> None:
        if self.process and self.process.stdin:
            self.process.stdin.close()
            self.process.wait(60)
            self.process = None

    def _answer(self) -> str:
        assert self.process and self.process.stdout
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError("the cluster did not come up")
        return line


def descendants(pid: int) -> Iterator[int]:
    children = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children[parent].append(int(folder.name))
    waiting = [pid]
    while waiting:
        for child in children[waiting.pop()]:
            yield child
            waiting.append(child)


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
