"""The page of the commands: what each job says to `--help`, asked for when the site is built. A hook of MkDocs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGE = "reference/commands.md"
NO_JOBS = {"__init__.py"}
COLUMNS = 84
FRAME = re.compile(r"^[╭╰]─*|─*[╮╯]$")
SUBCOMMANDS = re.compile(r"\{([a-z][a-z,-]*)\}$", re.MULTILINE)
INTRODUCTION = """# Commands

What each job answers to `--help`, as of this version. In a checkout they are given as `.venv/bin/python jobs/score.py …`,
or `python -m jobs.score …`. Exit codes of all of them: 0 done, 1 failed, 2 wrong use, 3 done, but too many bad images, 130
stopped; [operations](../operations.md#exit-codes) says what to do about each.
"""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, PAGE, content=commands_page()))
    return files


@cache
def commands_page() -> str:
    commands = [["-m", "cops"], *([f"jobs/{name}"] for name in job_files())]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sections = list(pool.map(_section, commands))
    return "\n".join([INTRODUCTION, *sections])


def job_files() -> list[str]:
    """The files in jobs/ that can be started."""
    files = sorted(path for path in (ROOT / "jobs").glob("*.py") if path.name not in NO_JOBS)
    return [path.name for path in files if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


def _section(command: list[str]) -> str:
    """A job's help and, where it has commands of its own, theirs."""
    general = help_text(command)
    usage = general.partition("\n\n")[0]
    parts = [f"## {_title(command)}", _fenced(general)]
    found = SUBCOMMANDS.search(usage)
    for name in found[1].split(",") if found else ():
        parts += [f"### {_title(command)} {name}", _fenced(help_text([*command, name]))]
    return "\n\n".join(parts) + "\n"


def help_text(command: list[str]) -> str:
    """Raises:  CalledProcessError: the job has no help to give, which ends the building of the site."""
    world = os.environ | {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    asked = [sys.executable, *command, "--help"]
    done = subprocess.run(asked, cwd=ROOT, env=world, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


def _title(command: list[str]) -> str:
    return f"python {' '.join(command)}" if command[0] == "-m" else command[0]


def _fenced(text: str) -> str:
    return f"```text\n{without_frames(text).strip()}\n```"


def without_frames(text: str) -> str:
    """A help text as people with a narrow page want it: groups under their names, no boxes, no line too long."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("╭"):
            lines += ["", f"{FRAME.sub('', line).strip(' ─')}:"]
        elif line.startswith("│"):
            lines.append(line.strip("│").rstrip())
        elif not line.startswith("╰"):
            lines += textwrap.wrap(line, COLUMNS) or [""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
