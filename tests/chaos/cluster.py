"""The chaos harness' Ray cluster, and what can be found among its processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from real_parts import clean_environment, descendants

HERE = Path(__file__).resolve().parent
_PATIENCE_S = 120.0


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
            everything = list(descendants(self.process.pid))
            self.process.stdin.close()
            try:
                self.process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                for pid in everything:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.process.wait()
            self.process = None

    def _answer(self) -> str:
        assert self.process and self.process.stdout
        answers = select.select([self.process.stdout], [], [], _PATIENCE_S)[0]
        line = self.process.stdout.readline().strip() if answers else ""
        if not line:
            raise RuntimeError(f"the cluster does not answer within {_PATIENCE_S:.0f} s")
        return line


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
