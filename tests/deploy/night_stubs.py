"""Programs in place of the jobs, of Ray and of AWS, that note how they are called and end as a test wants."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Notes its arguments, and ends with the next of the codes that are in a file for its first word. jobs/runs.py tells a
# state.
_STUB = """#!{python}
import pathlib, sys, time
folder = pathlib.Path({folder!r})
words = [word for word in sys.argv[1:] if not word.startswith("--")]
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
def planned(name, otherwise):
    plan = folder / name
    lines = plan.read_text().splitlines() if plan.exists() else []
    plan.write_text("\\n".join(lines[1:]))
    return lines[0] if lines else otherwise
name = pathlib.Path(words[0]).name
if name == "runs.py":
    print('{{"state": {{"status": "' + planned("state", "stopped") + '"}}}}')
code = planned(name, "0")
{more}
sys.exit(int(code))
"""


class Programs:
    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("python", "ray"):
            stub = folder / name
            stub.write_text(_STUB.format(python=sys.executable, folder=str(folder), more=more))
            stub.chmod(0o755)

    def plan(self, program: str, *ends: object) -> None:
        """With what it ends or what it says, one call after the other; with 0 after that."""
        (self.folder / program).write_text("\n".join(map(str, ends)))

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def environment(programs: Programs, **more: str) -> dict[str, str]:
    logs = programs.folder.parent / "logs"
    home = {"HOME": str(programs.folder.parent), "LOGS": str(logs), "PAUSE_S": "0"}
    return {**os.environ, **home, "PYTHON": str(programs.folder / "python"), "BIN": str(programs.folder), **more}


def log_of(programs: Programs) -> str:
    (log,) = (programs.folder.parent / "logs").glob("night-*.log")
    return log.read_text()
