"""cluster.yaml is what it should be, and the lint that says so finds each thing that it looks for."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import lint

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "cluster.yaml"
TEXT = FILE.read_text(encoding="utf-8")

Config = dict[str, Any]
Break = Callable[[Config], Any]


GONE = object()
SPOT, DEMAND, HEAD = (f"available_node_types/{name}" for name in ("spot-gpu", "on-demand-gpu", "head"))
START, WORKER_START = "head_start_ray_commands", "worker_start_ray_commands"


def put(path: str, value: Any) -> Break:
    """Another value at a path of names and numbers; GONE takes away what is there."""

    def change(config: Any) -> None:
        *way, last = (int(name) if name.isdigit() else name for name in path.split("/"))
        for name in way:
            config = config[name]
        if value is GONE:
            del config[last]
        else:
            config[last] = value

    return change


def swap(section: str, old: str, new: str = "") -> Break:
    def change(config: Config) -> None:
        before = config[section]
        config[section] = [line.replace(old, new) for line in before]
        assert config[section] != before, f"{old} is not in {section}"

    return change


def test_the_cluster_is_as_it_should_be() -> None:
    """Ray's own schema, EC2's own call and our rules find nothing; ids of one's own account are to be filled in."""
    assert lint.lint(TEXT) == []
    assert [finding.where for finding in lint.to_fill_in(TEXT)] == ["line 34", "line 35"]


NODE, DISK, STORE = "node_config", "node_config/BlockDeviceMappings/0/Ebs", "--object-store-memory=4294967296"
MARKET = "node_config/InstanceMarketOptions"
CARD = [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]
BROKEN: list[tuple[str, Break, str]] = [
    ("a name that Ray does not know", put("max_nodes", 8), "Ray: Additional properties .*max_nodes"),
    ("fewer workers than there must be", put(f"{SPOT}/min_workers", 99), "Ray: .*max_workers"),
    ("a misspelt name of EC2's", put(f"{HEAD}/{NODE}/MetaDataOptions", {}), "head: EC2: Unknown .*MetaDataOptions"),
    ("a wrong type", put(f"{HEAD}/{DISK}/VolumeSize", "150"), "head: EC2: Invalid type .*VolumeSize"),
    ("an unknown machine", put(f"{SPOT}/{NODE}/InstanceType", "g6.3xlarge"), "spot-gpu: InstanceType g6.3xlarge"),
    ("CPUs that it has not", put(f"{SPOT}/resources/CPU", 16), "spot-gpu: resources: g6.2xlarge has CPU: 8"),
    ("no GPU declared", put(f"{SPOT}/resources/GPU", GONE), "spot-gpu: resources: g6.2xlarge has .*GPU: 1"),
    ("more memory than it has", put(f"{SPOT}/resources/memory", 30 * 2**30), "spot-gpu: .* 1 to 25 GiB"),
    ("memory left to be guessed", put(f"{SPOT}/resources/memory", GONE), "spot-gpu: .* 1 to 25 GiB"),
    ("a head that works", put(f"{HEAD}/resources/CPU", 4), "head: .* runs no work"),
    ("a head that is too small", put(f"{HEAD}/{NODE}/InstanceType", "m7i.large"), "head: m7i.large has 8 GiB"),
    ("a spot head", put(f"{HEAD}/{MARKET}", {"MarketType": "spot"}), "head: a spot head"),
    ("a lasting request", put(f"{SPOT}/{MARKET}/SpotOptions/SpotInstanceType", "persistent"), "spot-gpu: SpotOptions"),
    ("a spot kind by name alone", put(f"{SPOT}/{MARKET}", GONE), "spot-gpu: a kind is spot where its name"),
    ("no spot", put(SPOT, GONE), "expected a kind of spot workers"),
    ("no fall-back", put(DEMAND, GONE), "one on demand to fall back on"),
    ("a fall-back without bound", put(f"{DEMAND}/max_workers", GONE), "on-demand-gpu: expected max_workers"),
    ("machines that stay", put(f"{DEMAND}/min_workers", 1), "on-demand-gpu: min_workers"),
    ("another size", put(f"{DEMAND}/resources/memory", 2**30), "on-demand-gpu: .* those of a spot kind"),
    ("two kinds of GPU", put(f"{DEMAND}/{NODE}/InstanceType", "g5.2xlarge"), "one family of workers"),
    ("public addresses", put("provider/use_internal_ips", False), "provider: expected use_internal_ips"),
    ("a public head", put("provider/use_external_head_ip", True), "provider: .* no use_external_head_ip"),
    ("a group that Ray makes", put("provider/security_group", {"GroupName": "x"}), "provider: security_group"),
    ("no group", put(f"{SPOT}/{NODE}/SecurityGroupIds", GONE), "spot-gpu: expected SecurityGroupIds"),
    ("no subnet", put(f"{HEAD}/{NODE}/SubnetIds", GONE), "head: expected SubnetIds"),
    ("a public card", put(f"{HEAD}/{NODE}/NetworkInterfaces", CARD), "head: AssociatePublicIpAddress"),
    ("another region's way in", put("provider/region", "us-east-1"), "auth: .* region eu-central-1"),
    ("IMDSv1", put(f"{SPOT}/{NODE}/MetadataOptions/HttpTokens", "optional"), "spot-gpu: .*IMDSv2"),
    ("many hops", put(f"{SPOT}/{NODE}/MetadataOptions/HttpPutResponseHopLimit", 2), "spot-gpu: .*HopLimit: 1"),
    ("a plain disk", put(f"{HEAD}/{DISK}/Encrypted", False), "head: .*Encrypted: true"),
    ("no disk named", put(f"{HEAD}/{NODE}/BlockDeviceMappings", GONE), "head: .*Encrypted: true"),
    ("a disk that stays", put(f"{HEAD}/{DISK}/DeleteOnTermination", False), "head: .*DeleteOnTermination"),
    ("no role", put(f"{SPOT}/{NODE}/IamInstanceProfile", GONE), "spot-gpu: expected an IamInstanceProfile"),
    ("the head's role", put(f"{SPOT}/{NODE}/IamInstanceProfile/Name", "cops-ray-head"), "spot-gpu: .*the head's"),
    ("no tags on disks", put(f"{SPOT}/{NODE}/TagSpecifications/1", GONE), "spot-gpu: TagSpecifications"),
    ("user data", put(f"{SPOT}/{NODE}/UserData", "#!/bin/sh"), "spot-gpu: UserData"),
    ("machines that idle", put("idle_timeout_minutes", 600), "idle_timeout_minutes: expected 1 to 30"),
    ("machines that are stopped", put("provider/cache_stopped_nodes", GONE), "provider: expected cache_stopped"),
    ("no end of the night", put("initialization_commands", []), "initialization_commands: .*shutdown"),
    ("an end in a week", swap("initialization_commands", "+840", "+10080"), "initialization_commands: .*shutdown"),
    ("a stop", put(f"{HEAD}/{NODE}/InstanceInitiatedShutdownBehavior", GONE), "head: expected InstanceInitiated"),
    ("orphans", put(f"{WORKER_START}/1", GONE), "worker_start_ray_commands: expected a worker that ends"),
    ("no token asked for", swap(WORKER_START, "RAY_AUTH_MODE=token"), "worker_start.*RAY_AUTH_MODE=token"),
    ("no token brought", lambda c: c["file_mounts"].pop("~/.ray/auth_token"), "file_mounts: .*auth_token"),
    ("a dashboard for all", swap(START, "127.0.0.1", "0.0.0.0"), "head_start.*--dashboard-host=0.0.0.0"),
    ("no workers kept", swap(WORKER_START, "RAY_num_workers_soft_limit=16"), "worker_start.*soft_limit"),
    ("a guessed object store", swap(START, STORE), "head_start.*object-store"),
    ("no NVMe", swap(WORKER_START, "--object-spilling-directory=$SPILL"), "worker_start.*spilling"),
    ("metrics anywhere", swap(WORKER_START, "--metrics-export-port=8080"), "worker_start.*metrics-export-port"),
    ("the other autoscaler", swap(START, "RAY_enable_autoscaler_v2=0"), "head_start.*autoscaler_v2=0"),
    ("no autoscaler", swap(START, "--autoscaling-config=~/ray_bootstrap_config.yaml"), "head_start.*autoscaling-c"),
    ("no scorer", swap(START, "=spot_first.score", "="), "head_start.*SCORER=spot_first.score"),
    ("what is newest", swap("setup_commands", "-c ~/cops/constraints.txt"), "setup_commands: .*with -c"),
    ("any version", swap("head_setup_commands", "boto3==1.43.117", "boto3"), "head_setup_commands: boto3: expected"),
    ("an upgrade", swap("head_setup_commands", "pip install", "pip install --upgrade"), "head_setup.*neither --up"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_broken_is_found(change: Break, expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One change to the good file, and a finding that names it; nothing but findings is printed by Ray meanwhile."""
    config = copy.deepcopy(yaml.safe_load(TEXT))
    # Aliases are one object in Python: each kind gets its own, so that one alone is broken.
    config["available_node_types"] = {
        name: copy.deepcopy(spec) for name, spec in config["available_node_types"].items()
    }
    assert lint.lint(yaml.safe_dump(config)) == []
    change(config)
    found = "\n".join(map(str, lint.lint(yaml.safe_dump(config))))
    assert re.search(expected, found), found
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# AKIA" + "ABCDEFGHIJKLMNOP", "an AWS access key"),
        ("# -----BEGIN RSA " + "PRIVATE KEY-----", "a private key"),
        ("# export RAY_AUTH_" + "TOKEN=abc", "a token or key given"),
        ("# aws_secret_access_key: x", "a token or key given"),
        ("# " + "0123456789abcdef" * 4, "what looks like a token"),
    ],
)
def test_secrets_are_found_wherever_they_stand(line: str, expected: str) -> None:
    """In comments, too; what was found is not repeated."""
    (finding,) = lint.no_secrets(TEXT + line + "\n")
    assert expected in str(finding)
    assert line[2:] not in str(finding)


def test_every_rule_has_something_that_it_finds() -> None:
    """A rule that never fires would be no rule: with everything broken at once, each of them says something."""
    config = yaml.safe_load(TEXT)
    for _, change, _ in BROKEN:
        try:
            change(config)
        except (AssertionError, KeyError, IndexError):
            continue  # what it would have broken is gone already
    assert [rule.__name__ for rule in lint.RULES if not list(rule(config))] == []


@pytest.mark.parametrize("text", ["", "[]", "a: b", "a: [", "available_node_types: 3"])
def test_what_describes_no_cluster_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/lint.py", tmp_path / "x.yaml"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "x.yaml: expected" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_command(tmp_path: Path) -> None:
    """1 while ids are to be filled in, each with its line; 0 when they are."""
    command = [sys.executable, str(ROOT / "deploy/lint.py")]
    done = subprocess.run([*command, str(FILE)], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "line 34: subnet-00000000000000000: to be filled in" in done.stdout
    filled = tmp_path / "mine.yaml"
    filled.write_text(TEXT.replace("-00000000000000000", "-0a1b2c3d4e5f60718"))
    done = subprocess.run([*command, str(filled)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{filled}: nothing found\n", "")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2
