"""The code of a page, run as a reader runs it, and what the page shows of its output, held against what came."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = ("bash", "python", "sql")  # what else is fenced is shown, and not run
CHECKOUT = "/srv/cops-inspection"  # what pages call the folder that a reader works in
ANY = "…"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT_CODE = re.compile(r"# ends with exit code (\d+)\s*\Z")
_SQL = "import duckdb, sys; duckdb.sql(sys.argv[1]).show(max_width=200)"
_MEASURED = {"s", "s,", "min", "ms", "images/s", "images/s.", "images/s,", "kB", "MB", "GB", "MB)", "kB)"}
_FREE = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d(:\d\d)?|[0-9a-f]{16,}")  # today, now, and hashes of weights
_NUMBER = re.compile(r"[-(]*\d[\d,]*(\.\d+)?[%),.;:]*")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One block of code, the exit code that it should end with, and what is shown of its output, if anything."""

    language: str
    code: str
    line: int
    shown: str | None
    exit_code: int = 0


def steps(page: str) -> Iterator[Step]:
    """The blocks to run, in order. A block of `text` that follows shows what the one before it prints."""
    fences = list(_FENCE.finditer(page))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] in RUN:
            is_shown = following is not None and following[1] == "text"
            code = _EXIT_CODE.search(fence[2])
            yield Step(
                language=fence[1],
                code=fence[2],
                line=page[: fence.start()].count("\n") + 1,
                shown=following[2] if following is not None and is_shown else None,
                exit_code=int(code[1]) if code else 0,
            )


def run_step(step: Step, folder: Path) -> str:
    """What it prints on stdout, the folder called as pages call it.

    Raises:  AssertionError: it ended with another exit code than the page says.
    """
    command = {
        "bash": ["bash", "-euo", "pipefail", "-c", step.code],
        "python": [sys.executable, "-c", step.code],
        "sql": [sys.executable, "-c", _SQL, step.code],
    }[step.language]
    done = subprocess.run(command, cwd=folder, env=_world(), capture_output=True, text=True, check=False, timeout=600)
    said = f"line {step.line}:\n{step.code}\n{done.stdout}\n{done.stderr[-4000:]}"
    assert done.returncode == step.exit_code, f"exit code {done.returncode} instead of {step.exit_code}, {said}"
    return done.stdout.replace(str(folder), CHECKOUT)


def _world() -> dict[str, str]:
    """This checkout's packages first, this interpreter as `python`, and terminals as wide as the page."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "160", "PYTHONUTF8": "1"}


def differences(shown: str, came: str) -> list[str]:
    """The lines shown that did not come, in their order; empty where the page tells the truth.

    `…` stands for the rest of a line, alone for any lines. Decimals may differ by 0.02 or 2 %, as they do from one
    processor to another; what is measured (seconds, images/s, sizes of files), dates, times and hashes may be anything.
    Everything else, numbers of images above all, has to be the same.
    """
    wanted = [line for line in shown.splitlines() if line.strip()]
    left = [line for line in came.splitlines() if line.strip()]
    missing: list[str] = []
    skipping = False
    for line in wanted:
        if line.strip() == ANY:
            skipping = True
            continue
        at = next((n for n, other in enumerate(left) if is_alike(line, other)), None) if skipping else 0
        if at is None or at >= len(left) or not is_alike(line, left[at]):
            missing.append(f"shown: {line}\n came: {left[0] if left else '(nothing)'}")
            left = left[1:]
        else:
            left = left[at + 1 :]
        skipping = False
    if left and not skipping:
        missing.append(f"came, but is not shown: {left[0]}")
    return missing


def is_alike(shown: str, came: str) -> bool:
    """Whether a line shown and a line that came say the same."""
    wanted, found = _tokens(shown), _tokens(came)
    if ANY in wanted:
        end = wanted.index(ANY)
        wanted, found = wanted[:end], found[:end]
    if len(wanted) != len(found):
        return False
    units = [*wanted[1:], ""]
    return all(_is_alike(*each) for each in zip(wanted, found, units, strict=True))


def _tokens(line: str) -> list[str]:
    return re.sub("[─━]+", "─", line).split()


def _is_alike(wanted: str, found: str, unit: str) -> bool:
    if wanted == found or (_FREE.fullmatch(wanted) and _FREE.fullmatch(found)):
        return True
    if not (_NUMBER.fullmatch(wanted) and _NUMBER.fullmatch(found)):
        return False
    if unit in _MEASURED:
        return True
    numbers = [float(re.sub(r"[^\d.-]|\.$", "", token.rstrip("%),.;:"))) for token in (wanted, found)]
    return "." in wanted.rstrip(".") and abs(numbers[0] - numbers[1]) <= max(0.02, 0.02 * abs(numbers[0]))
