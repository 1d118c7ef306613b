"""A cluster without machines, as an autoscaler keeps it: a run asks for them, waits, and goes on when they come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from real_parts import ROOT, clean_environment

import pipeline

_NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.add_node(num_cpus=2, num_gpus=1)
cluster.shutdown()
"""

_DRIVER = """
import logging, sys, dataclasses
logging.basicConfig(level=logging.INFO, format="%(message)s")
from pipeline import execution, machines
from pipeline.config import ScoreConfig
from pipeline.errors import RunError
from pipeline.run import score
config = ScoreConfig(inputs=(sys.argv[1],), output=sys.argv[2], run_id="r", device="cuda", actors="1:2")
execution.connect()
execution.START_S = 2.0
try:
    execution.plan_execution(config)
except RunError as error:
    print("error:", error, flush=True)
execution.START_S, machines._TELL_EVERY_S = 120.0, 1.0
chosen = execution.plan_execution(config)
assert (chosen.device, chosen.min_actors, chosen.max_actors) == ("cuda", 1, 2), chosen
import ray
left = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
assert not left, left  # what was asked for is given back, or no actor would have it
result = score(config, execution=dataclasses.replace(chosen, device="cpu", batch_size=3))  # GPUs are counted, not there
print("counts", result.record["counts"])
"""


def test_a_run_waits_for_the_first_machine(archives: Path, tmp_path: Path) -> None:
    """Told what it waits for; ended with the reason where none comes in time; every image once where one comes."""
    environment = clean_environment(PYTHONPATH=str(ROOT))
    nodes = subprocess.Popen(
        [sys.executable, "-c", _NODES], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert nodes.stdin
    assert nodes.stdout
    driver = None
    try:
        address = nodes.stdout.readline().strip()
        command = [sys.executable, "-c", _DRIVER, str(archives / "images/images"), str(tmp_path / "out")]
        driver = subprocess.Popen(
            command, env=environment | {"RAY_ADDRESS": address}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        assert driver.stdout
        said = []
        for line in driver.stdout:
            said.append(line)
            if line.startswith("waiting for 1 GPU"):
                break
        nodes.stdin.write("more\n")
        nodes.stdin.flush()
        said.append(driver.communicate(timeout=200)[0])
    finally:
        if driver:
            driver.kill()
        nodes.stdin.close()
        nodes.wait(60)
    log = "".join(said)
    assert driver.returncode == 0, log[-3000:]
    assert "error: the cluster was asked for 1 GPU and had not got so many free in 0 minutes; it has none, on 0" in log
    assert "waiting for 1 GPU: the cluster has none, on 0 machines that take work" in log
    assert "'planned': 24, 'scored': 24" in log
    assert pipeline.open_run(str(tmp_path / "out")).scores.count_rows() == 24
