"""The page of the commands: what each job says to `--help`, asked for when the site is built. A hook of MkDocs.

Started as a script, this file asks the jobs, all in one process, because torch and Ray take seconds to import.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGE = "reference/commands.md"
COLUMNS = 84
FRAME = re.compile(r"^[╭╰]─*|─*[╮╯]$")
SUBCOMMANDS = re.compile(r"\{([a-z][a-z,-]*)\}$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """What stands in the repository, and below it what the jobs say."""
    return f"{markdown}\n{all_help()}" if page.file.src_uri == PAGE else markdown


@cache
def all_help() -> str:
    """Raises:  CalledProcessError: a job has no help to give, which ends the building of the site."""
    world = os.environ | {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    asked = [sys.executable, __file__]
    done = subprocess.run(  # noqa: S603 -- this file
        asked, cwd=ROOT, env=world, check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    return "\n".join(_section(title, text) for title, text in json.loads(done.stdout))


def job_files() -> list[str]:
    """The files in jobs/ that can be started."""
    files = sorted((ROOT / "jobs").glob("*.py"))
    return [f"jobs/{path.name}" for path in files if '__name__ == "__main__"' in path.read_text("utf-8")]


def ask_all() -> list[tuple[str, str]]:
    """Each command with what it says, and after it the commands that it has."""
    found: list[tuple[str, str]] = []
    for command in ("python -m cops", *job_files()):
        general = help_text(command)
        found.append((command, general))
        inner = SUBCOMMANDS.search(general.partition("\n\n")[0])
        found += [(f"{command} {name}", help_text(command, name)) for name in (inner[1].split(",") if inner else ())]
    return found


def help_text(command: str, *words: str) -> str:
    """What a command says to `--help`; it is started in this process."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)  # frames are drawn in Unicode
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        sys.argv = [command, *words, "--help"]
        if command.startswith("python -m "):
            runpy.run_module(command.removeprefix("python -m "), run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command, run_name="__main__")  # below ROOT: a path as people give it
    text = said.buffer.getvalue().decode()
    if not text.startswith("usage: "):
        raise RuntimeError(f"{command}: expected a help text, got {text!r}")
    return text


def _section(title: str, text: str) -> str:
    level = "###" if " " in title.removeprefix("python -m ") else "##"
    return f"{level} {title}\n\n```text\n{without_frames(text).strip()}\n```\n"


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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask_all()))
