"""The roles' policies say what cluster.yaml does, and nothing broader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/aws"
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
KINDS = CLUSTER["available_node_types"]
POLICIES = {path.stem: json.loads(path.read_text())["Statement"] for path in sorted(FOLDER.glob("*.json"))}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(policy: str, action: str) -> list[dict[str, Any]]:
    return [one for one in POLICIES[policy] if action in listed(one["Action"])]


EVERYWHERE = ("ec2:Describe", "ssmmessages:", "ec2messages:", "ssm:UpdateInstanceInformation")


@pytest.mark.parametrize("policy", POLICIES)
def test_only_looking_and_being_reached_is_allowed_everywhere(policy: str) -> None:
    """No wildcard in an action; `*` as a resource for ec2:Describe… and a machine's own channels alone."""
    for one in POLICIES[policy]:
        actions = listed(one["Action"])
        assert one["Effect"] == "Allow"
        assert not [action for action in actions if "*" in action]
        if "*" in listed(one["Resource"]):
            assert all(action.startswith(EVERYWHERE) for action in actions)


def test_a_session_is_one_of_ssh_to_the_head() -> None:
    """Without the check of the document a session by the default one, a shell, is allowed by the tag alone."""
    starts = statements("launcher-policy", "ssm:StartSession")
    assert len(starts) == 2
    for one in starts:
        assert one["Condition"]["BoolIfExists"] == {"ssm:SessionDocumentAccessCheck": "true"}
    tagged, document = starts
    assert tagged["Condition"]["StringEquals"] == {"ssm:resourceTag/ray-cluster-name": CLUSTER["cluster_name"]}
    assert document["Resource"].endswith(":document/AWS-StartSSHSession")
    assert "AWS-StartSSHSession" in CLUSTER["auth"]["ssh_proxy_command"]


def test_the_head_reads_no_parameters_but_the_public_ones() -> None:
    """AmazonSSMManagedInstanceCore would let it read every one of the account: passwords lie there."""
    allowed = {action for policy in ("head-policy", "session-policy", "data-policy") for one in POLICIES[policy]
               for action in listed(one["Action"]) if action.startswith("ssm:")}  # fmt: skip
    assert allowed == {"ssm:GetParameters", "ssm:UpdateInstanceInformation"}
    (parameters,) = statements("head-policy", "ssm:GetParameters")
    assert parameters["Resource"].endswith("::parameter/aws/service/*")
    guide = (ROOT / "docs/nightly.md").read_text()
    assert "session-policy.json" in guide
    assert "policy/AmazonSSMManagedInstanceCore" not in guide


@pytest.mark.parametrize(
    ("policy", "kinds"), [("head-policy", ["spot-gpu", "on-demand-gpu"]), ("launcher-policy", ["head"])]
)
def test_who_starts_which_machines(policy: str, kinds: list[str]) -> None:
    """The head starts workers, who calls `ray up` the head; of this cluster, with IMDSv2, with a role of their own."""
    (start,) = [one for one in statements(policy, "ec2:RunInstances") if "instance/" in str(one["Resource"])]
    wanted = start["Condition"]["StringEquals"]
    assert {wanted["ec2:InstanceType"]} == {KINDS[kind]["node_config"]["InstanceType"] for kind in kinds}
    assert wanted["ec2:MetadataHttpTokens"] == "required"
    assert wanted["aws:RequestTag/ray-cluster-name"] == CLUSTER["cluster_name"]
    (role,) = statements(policy, "iam:PassRole")
    assert {role["Resource"].rpartition("/")[2]} == {
        KINDS[kind]["node_config"]["IamInstanceProfile"]["Name"] for kind in kinds
    }


@pytest.mark.parametrize("policy", ["head-policy", "launcher-policy"])
def test_machines_of_others_are_out_of_reach(policy: str) -> None:
    """They can be neither ended nor given the cluster's tag."""
    (end,) = statements(policy, "ec2:TerminateInstances")
    assert end["Condition"]["StringEquals"] == {"aws:ResourceTag/ray-cluster-name": CLUSTER["cluster_name"]}
    for one in statements(policy, "ec2:CreateTags"):
        assert set(one["Condition"]["StringEquals"]) <= {"ec2:CreateAction", "aws:ResourceTag/ray-cluster-name"}


def test_workers_have_the_data_and_nothing_else() -> None:
    """What Ray's AWS code calls is not in the policy that workers have."""
    assert {action.partition(":")[0] for one in POLICIES["data-policy"] for action in listed(one["Action"])} == {"s3"}


def test_the_image_may_be_looked_up() -> None:
    """cluster.yaml names it by a public parameter, which whoever starts a machine has to read."""
    named = {kind["node_config"]["ImageId"] for kind in KINDS.values()}
    for policy in ("head-policy", "launcher-policy"):
        (allowed,) = statements(policy, "ssm:GetParameters")
        prefix = allowed["Resource"].rpartition(":parameter")[2].rstrip("*")
        assert all(re.fullmatch(rf"resolve:ssm:{prefix}\S+", image) for image in named)
