"""The same job on S3 and on Ray clusters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_parts import KEYS, ROOT, Job, Store, clean_environment, free_port, upload, use

import pipeline
from pipeline.claim import take_claim
from pipeline.errors import ClaimError
from pipeline.layout import RunLayout
from pipeline.storage import create_once, open_root


def check_s3_run(store: Store, archives: Path, job: Job, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    source = archives / form / ("images" if form == "images" else "")
    fs = upload(store, source, f"bucket/{form}")
    output = f"s3://bucket/out-{form}"
    done = job("--input", f"s3://bucket/{form}", "--output", output, "--run-id", "r", **store.environment)
    assert KEYS[1] not in done.stdout + done.stderr
    use(store, monkeypatch)
    run = pipeline.open_run(output)
    table = run.scores.to_table()
    assert table.num_rows == len(set(table["image_id"].to_pylist())) == 24
    assert all(uri.startswith(f"s3://bucket/{form}/") for uri in table["image_uri"].to_pylist())
    assert not fs.exists(f"bucket/out-{form}/runs/r/")


@pytest.mark.parametrize("form", ["images", "webdataset", "parquet"])
def test_the_whole_run_on_s3(
    form: str, rclone: Store, archives: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Input and output in a bucket: every image once, no secret printed, the record the last thing written."""
    check_s3_run(rclone, archives, job, monkeypatch, form)


@pytest.mark.debian
def test_the_whole_run_on_ceph(ceph: Store, archives: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on S3 proper: what the lighter server ignores is enforced here."""
    check_s3_run(ceph, archives, job, monkeypatch, "webdataset")


@pytest.mark.debian
def test_the_store_lets_one_writer_create(ceph: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit or claim that exists is refused by the store itself, and a running claim by us."""
    use(ceph, monkeypatch)
    root = open_root("s3://bucket/once")
    monkeypatch.setattr(type(root.fs), "exists", lambda *_, **__: False)  # as if both had looked before either wrote
    create_once(root.fs, root.join("x.json"), b"first")
    with pytest.raises(FileExistsError):
        create_once(root.fs, root.join("x.json"), b"second")
    monkeypatch.undo()
    use(ceph, monkeypatch)
    assert root.fs.cat_file(root.join("x.json")) == b"first"
    layout = RunLayout.at("s3://bucket/out", "r")
    with take_claim(layout), pytest.raises(ClaimError, match="being worked on"):
        take_claim(layout)


_TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
cluster.add_node(num_cpus=2, num_gpus=1)
import ray
ray.init(address=cluster.address, log_to_driver=False)
from pipeline.config import ScoreConfig
from pipeline.execution import Execution, plan_execution
from pipeline.run import score
config = ScoreConfig(inputs=(sys.argv[1],), output=sys.argv[2], run_id="r")
chosen = plan_execution(config)
assert (chosen.device, chosen.max_actors, chosen.num_gpus) == ("cuda", 2, 1.0), chosen
pool = {"min_actors": 2, "max_actors": 2, "num_gpus": 1.0, "num_cpus": 0.0, "threads": 1}
execution = Execution(device="cpu", batch_size=3, calls_per_actor=2, **pool)
result = score(config, execution=execution)
print("counts", result.record["counts"])
ray.shutdown()
cluster.shutdown()
"""


def test_two_nodes_with_a_gpu_each(archives: Path, tmp_path: Path) -> None:
    """One actor a GPU on each node (the GPUs are counted, not there); every image once."""
    command = [sys.executable, "-c", _TWO_NODES, str(archives / "images/images"), str(tmp_path / "out")]
    environment = clean_environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'planned': 24, 'scored': 24" in done.stdout
    assert pipeline.open_run(str(tmp_path / "out")).scores.count_rows() == 24


@pytest.mark.timeout(500)
def test_ray_job_submit(archives: Path, tmp_path: Path) -> None:
    """A head on loopback; the job brings its own code by --working-dir and its exit code comes back."""
    folder = Path(sys.executable).parent
    binary = str(folder / "ray")
    gcs, dashboard = free_port(), free_port()
    token = tmp_path / "token"
    token.write_text("0" * 64)
    environment = clean_environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", PYTHONPATH="")
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment["PATH"] = f"{folder}:{environment['PATH']}"  # the job's "python" is the head's
    start = [binary, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--port={gcs}"]
    start += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", "--object-store-memory=500000000"]
    start += ["--min-worker-port=20000", "--max-worker-port=20999", f"--temp-dir={_short_folder()}"]
    # Their defaults are taken where another Ray runs on this machine.
    start += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    head = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        submitted = _submit(binary, dashboard, archives / "images/images", tmp_path / "out", environment)
        assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
    finally:
        head.terminate()
        head.wait(120)
        shutil.rmtree(_short_folder(), ignore_errors=True)
    run = pipeline.open_run(str(tmp_path / "out"))
    assert (run.scores.count_rows(), run.record["git_commit"]) == (24, "c0ffee")


def _short_folder() -> str:
    """Ray's socket paths must stay short, shorter than pytest's folders are."""
    return f"/tmp/ray-{os.getpid()}"


def _submit(
    binary: str, dashboard: int, images: Path, output: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    address = f"http://127.0.0.1:{dashboard}"
    job = ["python", "jobs/score.py", "--input", str(images), "--output", str(output), "--top", "0"]
    commit = ["--runtime-env-json", '{"env_vars": {"COPS_GIT_COMMIT": "c0ffee"}}']  # as `make submit` does
    command = [binary, "job", "submit", "--address", address, "--working-dir", str(ROOT), *commit, "--", *job]
    deadline = time.monotonic() + 150  # the dashboard's agents are the last to come up
    while True:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=250, env=environment, cwd=ROOT
        )
        if done.returncode == 0 or "score.py" in done.stdout or time.monotonic() > deadline:
            return done
        time.sleep(2)


def test_a_cluster_that_does_not_answer(archives: Path, tmp_path: Path, job: Job) -> None:
    """As when its head is lost while a job starts: told with its address, and nothing is begun."""
    address = f"127.0.0.1:{free_port()}"
    arguments = ["--input", str(archives / "images/images"), "--output", str(tmp_path), "--run-id", "r"]
    done = job(*arguments, check=False, RAY_ADDRESS=address, RAY_gcs_server_port_wait_time_s="1")
    assert done.returncode == 1
    assert f"error: the Ray cluster at {address} (RAY_ADDRESS) cannot be joined" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())
