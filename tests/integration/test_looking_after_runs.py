"""jobs/runs.py on real runs of jobs/score.py, as an operator starts both: damage, a killed run, S3."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from real_parts import KEYS, ROOT, Job, Store, clean_environment, score_command

import pipeline
from pipeline.parts import parquet_bytes

Damage = Callable[[Path], None]


def look(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """jobs/runs.py, as a script starts it."""
    command = [sys.executable, str(ROOT / "jobs" / "runs.py"), *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env=clean_environment(**environment),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def scored(archives: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images archive and a bad file, in several parts of both tables."""
    images, output = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("scored")
    pictures = sorted((archives / "images/images").rglob("*.*g"))
    for number in range(40):
        (images / f"{number:02d}\x1b[2J.jpg").write_bytes(pictures[number % len(pictures)].read_bytes())
    (images / "bad.jpg").write_bytes(b"no picture")
    options = ["--image-threshold", "0.5", "--pixel-threshold", "0.3", "--max-error-fraction", "1", "--run-id", "r"]
    job("--input", str(images), "--output", str(output), *options)
    return output


@pytest.fixture
def output(scored: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(scored, tmp_path / "out"))


def parts(output: Path) -> list[Path]:
    return sorted(output.glob("scores/run_id=r/*.parquet"))


def test_a_run_is_as_recorded(scored: Path) -> None:
    """What the pipeline writes passes every check; list and show tell what the record says."""
    done = look("verify", "r", "--output", str(scored))
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("Run r is as recorded: 41 rows in ")
    (state,) = json.loads(look("list", "--output", str(scored), "--json").stdout)
    assert (state["status"], state["scored"], state["quarantined"]) == ("committed", 40, 1)
    shown = look("show", "--output", str(scored)).stdout
    assert "1  decode: not_an_image" in shown
    assert "image_threshold  0.5" in shown


def cut(output: Path) -> None:
    parts(output)[0].write_bytes(parts(output)[0].read_bytes()[:-100])


def lose(output: Path) -> None:
    parts(output)[0].unlink()


def rot(output: Path) -> None:
    """One bit, in the middle of the largest column."""
    group = pq.read_metadata(parts(output)[0]).row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    largest = max(columns, key=lambda column: column.total_compressed_size)
    data = bytearray(parts(output)[0].read_bytes())
    data[(largest.dictionary_page_offset or largest.data_page_offset) + largest.total_compressed_size // 2] ^= 1
    parts(output)[0].write_bytes(data)


def add(output: Path) -> None:
    shutil.copy(parts(output)[0], parts(output)[0].with_name("part-00001-1-1234567890abcdef.parquet"))


def miscount(output: Path) -> None:
    record = json.loads((output / "runs/r.json").read_text())
    record["counts"]["scored"] -= 1
    (output / "runs/r.json").write_text(json.dumps(record))


def repeat(output: Path) -> None:
    """A part holds an image of another one, and the record agrees with that."""
    first, second = parts(output)[:2]
    one, other = (pq.read_table(path, partitioning=None) for path in (first, second))
    second.write_bytes(parquet_bytes(pa.concat_tables([other.slice(1), one.slice(0, 1)], promote_options="default")))
    record = json.loads((output / "runs/r.json").read_text())
    for file in record["files"]:
        if file["path"].endswith(second.name):
            file["num_bytes"] = second.stat().st_size
            del file["footer_sha256"]
    (output / "runs/r.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "expected "),
        (lose, "is missing"),
        (rot, "cannot be read whole"),
        (add, "is not in the record"),
        (miscount, "counts.scored is 39, its files hold 40"),
        (repeat, "1 images are in the tables more than once"),
    ],
)
def test_damage_is_found(output: Path, damage: Damage, words: str) -> None:
    """Exit code 1, and a line that says what and where."""
    damage(output)
    done = look("verify", "--all", "--output", str(output))
    assert done.returncode == 1
    assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_a_discarded_id_can_be_used_again(output: Path, archives: Path, job: Job) -> None:
    """With another model, say. A run that lost its record by other hands is not mixed with a new one: that is refused,
    until what is left is discarded.
    """
    again = ["--input", str(archives / "images/images"), "--output", str(output), "--run-id", "r"]
    (output / "runs/r.json").unlink()
    refused = job(*again, check=False)
    assert refused.returncode == 2
    assert "`jobs/runs.py discard r` removes them" in refused.stderr
    assert look("discard", "r", "--output", str(output)).returncode == 2
    assert look("discard", "r", "--yes", "--output", str(output)).returncode == 0
    assert [path for path in output.rglob("*") if path.is_file()] == []
    job(*again)
    assert pipeline.open_run(str(output)).scores.count_rows() == 24


def test_a_run_that_goes_on_and_is_stopped(archives: Path, tmp_path: Path) -> None:
    """Listed with its process, refused to discard while that lives; afterwards it is stopped, and can be discarded.

    The process is held by SIGSTOP, or it might be done before it is looked at.
    """
    output = str(tmp_path / "out")
    arguments = ["--input", str(archives / "images/images"), "--output", output, "--run-id", "night"]
    driver = subprocess.Popen(score_command(*arguments), env=clean_environment(), stderr=subprocess.PIPE, text=True)
    assert driver.stderr
    try:
        next(line for line in driver.stderr if "planned" in line)
        driver.send_signal(signal.SIGSTOP)
        (state,) = json.loads(look("list", "--output", output, "--json").stdout)
        assert (state["status"], state["holder"]["pid"], state["planned"]) == ("in progress", driver.pid, 24)
        refused = look("discard", "night", "--yes", "--output", output)
        assert refused.returncode == 1
        assert f"being worked on by {state['holder']['host']} (process {driver.pid})" in refused.stderr
    finally:
        driver.kill()
        driver.wait()
    assert "night: stopped; last held by " in look("list", "--output", output).stdout
    assert "no record" in look("verify", "night", "--output", output).stderr
    assert look("discard", "night", "--yes", "--output", output).returncode == 0
    assert look("list", "--output", output).returncode == 2


def test_on_s3(rclone: Store, archives: Path, job: Job) -> None:
    """Verified, damaged, found, discarded, without a file of this machine."""
    output = ["--output", "s3://bucket/kept"]
    job("--input", str(archives / "images/images"), *output, "--run-id", "r", **rclone.environment)
    config = {"request_checksum_calculation": "when_required"}
    fs = s3fs.S3FileSystem(key=KEYS[0], secret=KEYS[1], endpoint_url=rclone.endpoint, config_kwargs=config)
    sound = look("verify", *output, **rclone.environment)
    assert (sound.returncode, sound.stdout[:36]) == (0, "Run r is as recorded: 24 rows in 1 f")
    (part,) = fs.ls("bucket/kept/scores/run_id=r", detail=False)
    data = bytearray(fs.cat_file(part))
    data[len(data) // 3] ^= 1
    fs.pipe_file(part, bytes(data))
    damaged = look("verify", *output, **rclone.environment)
    assert (damaged.returncode, "cannot be read whole" in damaged.stdout) == (1, True)
    discarded = look("discard", "r", "--yes", *output, **rclone.environment)
    assert discarded.returncode == 0, discarded.stderr
    fs.invalidate_cache()
    assert fs.find("bucket/kept") == []
    assert KEYS[1] not in sound.stdout + sound.stderr + damaged.stdout + discarded.stdout
