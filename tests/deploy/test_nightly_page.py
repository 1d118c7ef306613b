"""docs/nightly.md and docs/monitoring.md: commands that the programs take, costs that were measured."""

from __future__ import annotations

import datetime
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import tyro

from jobs.score import Options

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/nightly.md").read_text()
MONITORING = (ROOT / "docs/monitoring.md").read_text()
RESULTS = ROOT / "benchmarks/results"
CPU_HOUR = 0.05  # dollars, the page's example

Rows = dict[str, list[str]]


def table(text: str) -> Rows:
    """A Markdown table's rows by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def section(text: str, heading: str) -> str:
    return text.partition(heading)[2].partition("\n## ")[0]


def number(text: str) -> float:
    return float(text.strip("$").replace(",", ""))


def fastest(model: str, precision: str) -> float:
    """Images/s of the model alone, of the batches that were measured."""
    rows = table(section((RESULTS / "model-cpu.md").read_text(), f"## {model}").partition("Milliseconds")[0])
    return max(number(row[0]) for name, row in rows.items() if name.startswith(f"ours, {precision},"))


JOB = table((RESULTS / "pipeline-cpu.md").read_text())
MEASURED = {
    "`embedded`, float32, whole job, JPEG 0.3 MP": number(JOB["JPEG, 0.3 MP"][0]),
    "the same, JPEG 2 MP": number(JOB["JPEG, 2 MP"][0]),
    "the same, JPEG 12 MP (no `--scaled-jpeg`)": number(JOB["JPEG, 12 MP"][0]),
    "`embedded`, bfloat16, model alone: a lower bound": fastest("embedded", "bfloat16"),
    "`embedded`, int8, model alone: a lower bound": fastest("embedded", "int8"),
    "ViT-L/14 at 518 px, float32, model alone": fastest("ViT-L/14", "float32"),
    "ViT-L/14 at 518 px, bfloat16, model alone": fastest("ViT-L/14", "bfloat16"),
    "ViT-L/14 at 518 px, int8, model alone": fastest("ViT-L/14", "int8"),
}


def test_costs_on_cpus_are_what_was_measured() -> None:
    """Each row: the images/s of its benchmark on two cores, the hours and dollars that follow, and no row besides."""
    rows = {name: row for name, row in table(section(PAGE, "**CPUs**").partition("**GPUs")[0]).items()
            if name not in {"10⁶ images", "---"}}  # fmt: skip
    assert rows.keys() == MEASURED.keys()
    for name, images_per_s in MEASURED.items():
        hours = 1e6 * 2 / 3600 / images_per_s
        told = [number(cell) for cell in rows[name]]
        assert told == [images_per_s, round(hours), round(hours * CPU_HOUR, 2 if hours < 1000 else None)], name


def test_what_gpu_machines_can_be_fed_with_is_what_was_measured() -> None:
    """Eight CPUs, by the seconds of decoding on the page; and that is all that is said of GPUs' speed."""
    assert "no GPU was measured" in PAGE
    told = re.search(r"eight CPUs decode at most ([\d,]+)\s+images/s of 0.3 MP, (\d+) of 2 MP and (\d+) of 12 MP", PAGE)
    assert told
    for text, size in zip(told.groups(), ("0.3 MP", "2 MP", "12 MP"), strict=True):
        decode_ms = number(JOB[f"JPEG, {size}"][8])
        assert number(text) == pytest.approx(8 / decode_ms * 1e3, rel=0.003, abs=0.5)


def test_gpu_machines_table_is_a_division() -> None:
    rows = table(section(PAGE, "**GPUs").partition("A GPU machine")[0])
    for name, told in rows.items():
        if not re.fullmatch(r"[\d,]+", name):
            continue
        hours = 1e6 / 3600 / number(name)
        assert [number(cell) for cell in told] == [round(hours, 1), round(hours * 0.4, 2), round(hours, 2)]


def test_sizes_of_tables_are_what_was_measured() -> None:
    """Of the packaged model, and of maps of 37×37."""
    told = re.search(r"([\d.]+) kB an image of `embedded`, ([\d.]+) kB with a map of 37×37", PAGE)
    measured = re.search(
        r"([\d,]+) rows with a map of 37×37 and no mask, (\d+) MB", (RESULTS / "iceberg.md").read_text()
    )
    assert told
    assert measured
    most = max(number(row[10]) for name, row in JOB.items() if re.search(r"\d MP$", name))
    assert float(told[1]) == pytest.approx(most / 1e3, abs=0.01)
    assert float(told[2]) == pytest.approx(number(measured[2]) * 1e3 / number(measured[1]), abs=0.05)


def test_every_night_has_categories_and_thresholds() -> None:
    """As the page has them: cron's and systemd's on a workstation, cron's on AWS, each as jobs/score.py takes it."""
    workstation, aws = section(PAGE, "## One workstation"), section(PAGE, "## AWS\n")
    blocks = re.findall(
        r"INPUT=\S+\n\s*OUTPUT=\S+\n\s*THRESHOLDS=(\S+)\n(?:\s*LOGS=\S+\n)?\s*SCORE_ARGS=(.*)\n", workstation
    )
    assert len(blocks) == 2
    nights = [["--thresholds", thresholds, *more.split()] for thresholds, more in blocks]
    nights += [shlex.split(found) for found in re.findall(r"^0 22 .*?night\.sh (.*)$", aws, re.MULTILINE)]
    assert len(nights) == 3
    for arguments in nights:
        config = tyro.cli(Options, args=["--input", "a", *arguments]).config()
        assert "{category}" in (config.path_fields or "")
        assert config.thresholds


@pytest.mark.parametrize(
    ("status", "said"), [("committed", ""), ("stopped  ", "last night is not committed\n"), (None, "last")]
)
def test_a_night_that_is_missing_is_told(status: str | None, said: str, tmp_path: Path) -> None:
    """The page's line for cron, where Prometheus is gone: nothing where last night's run is committed."""
    (line,) = re.findall(r"^ *0 9 \* \* \*  cd \S+ && (.*)$", MONITORING, re.MULTILINE)
    night = f"night-{datetime.datetime.now().astimezone().date() - datetime.timedelta(days=1)}"
    rows = ["run               status     when (UTC)", f"{night}  {status}  2026-11-23 21:00"]
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(rows if status else rows[:1]) + "\nEND\n")
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", line.replace(r"\%", "%")], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.startswith(said)
    assert (done.stdout == "") == (said == "")
