"""jobs/train.py as a user starts it: killed and started again, by several workers, and its model in jobs/score.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_parts import ROOT, Job, clean_environment
from small_training import assert_same_tensors, content, write_checkpoint, write_images

import cops
import pipeline

EPOCHS = 6


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / "train.py"), *arguments]


def environment() -> dict[str, str]:
    return clean_environment(OMP_NUM_THREADS="1")  # as many threads as Ray's workers have


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=200, env=environment())  # noqa: PLW1510


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A dataset, a validation set, a model, and a cache that every run shares."""
    root = tmp_path_factory.mktemp("given")
    arguments = ["--dataset", "plain", "--data", str(write_images(root / "parts"))]
    arguments += ["--validation-dataset", "plain", "--validation-data", str(write_images(root / "others", seed=1))]
    arguments += ["--model", str(write_checkpoint(root / "small.safetensors")), "--cache", str(root / "features")]
    return [*arguments, "--epochs", str(EPOCHS), "--batch-size", "4", "--metric", "pixel_auroc", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "out"
    done = run(*given, "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert f"Training of {EPOCHS} epochs is done" in done.stdout
    assert "by the highest pixel_auroc" in done.stdout
    assert f"epoch {EPOCHS} of {EPOCHS}: loss" in done.stderr
    return output


def losses(output: Path) -> list[float]:
    lines = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "epoch"]


def kill_when(path: Path, arguments: list[str]) -> None:
    """Start the command, and kill -9 as soon as it has written a file."""
    job = subprocess.Popen(command(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not path.exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert path.exists(), "it did not come so far"


def test_a_killed_training_goes_on_to_the_same_weights(given: list[str], trained: Path, tmp_path: Path) -> None:
    """Killed while it reads and in an epoch: every checkpoint and the state are those of the undisturbed one, bit for
    bit; the log has each epoch once.
    """
    output = tmp_path / "out"
    arguments = [*given, "--output", str(output), "--cache", str(tmp_path / "features")]
    kill_when(output / ".claim", arguments)
    assert not (output / "training.json").exists(), "it had read all before it was killed"
    kill_when(output / "epochs" / "03.safetensors", arguments)
    assert not (output / "epochs" / f"{EPOCHS:02d}.safetensors").exists(), "it was done before it was killed"
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "going on after epoch" in done.stderr
    for number in range(1, EPOCHS + 1):
        name = f"epochs/{number:02d}.safetensors"
        assert_same_tensors(output / name, trained / name)
        assert content(output / name)[0] == content(trained / name)[0]
    assert_same_tensors(output / "state.safetensors", trained / "state.safetensors")
    assert_same_tensors(output / "best.safetensors", trained / "best.safetensors")
    assert losses(output) == losses(trained)


def test_two_workers_train_what_one_trains(given: list[str], trained: Path, tmp_path: Path) -> None:
    """By Ray Train: losses, weights and scores to tolerance; the driver shows what the first worker says."""
    done = run(*given, "--output", str(tmp_path), "--cache", str(tmp_path / "features"), "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert f"epoch {EPOCHS} of {EPOCHS}: loss" in done.stderr
    assert losses(tmp_path) == pytest.approx(losses(trained), rel=1e-4)
    one, both = content(trained / "state.safetensors")[1], content(tmp_path / "state.safetensors")[1]
    for name in one:
        if name.startswith("parameter"):
            np.testing.assert_allclose(both[name], one[name], atol=2e-3, err_msg=name)
    picture = [Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))]
    expected, found = (cops.load(output / "best.safetensors").predict(picture) for output in (trained, tmp_path))
    np.testing.assert_allclose(found.patch_scores, expected.patch_scores, atol=1e-3)
    assert found.pred_score == pytest.approx(expected.pred_score, abs=1e-3)
    assert not (tmp_path / ".ray").exists()


def test_the_best_checkpoint_scores_an_archive(given: list[str], trained: Path, job: Job, tmp_path: Path) -> None:
    """jobs/score.py takes it as it is; the run record tells what it was trained on."""
    images = given[given.index("--data") + 1]
    job("--input", images, "--model", str(trained / "best.safetensors"), "--output", str(tmp_path), "--limit", "4")
    record = pipeline.open_run(str(tmp_path)).record
    assert record["counts"]["scored"] == 4
    assert record["model"]["trained"] is True
    assert record["model"]["provenance"]["auxiliary_dataset"]["name"] == "parts"
    assert record["warnings"] == []


def test_a_wrong_layout_is_said_without_a_traceback(given: list[str], tmp_path: Path) -> None:
    """The first thing missing and what was found; exit code 2; nothing is left."""
    (tmp_path / "data" / "photos").mkdir(parents=True)
    (tmp_path / "data" / "photos" / "1.png").touch()
    done = run(*given, "--dataset", "mvtec-ad", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "expected a folder for each category, with a folder 'test' in it; found photos/" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
