"""What Ray does not look at in cluster.yaml: `python deploy/lint.py cluster.yaml` says what is amiss, a line each.

Ray's schema ends at a machine's `node_config`, and knows nothing of money or of who may reach what. Exit codes: 0
nothing found; 1 findings, or ids still to be filled in; 2 the file cannot be read.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

GIB = 2**30
# Of Amazon's own tables: virtual CPUs, GPUs, memory in GiB. One kind of GPU a cluster: precisions below float32 promise
# their tolerance for one device.
INSTANCES: Mapping[str, tuple[int, int, int]] = {
    "m7i.large": (2, 0, 8), "m7i.xlarge": (4, 0, 16), "m7i.2xlarge": (8, 0, 32), "m7i.4xlarge": (16, 0, 64),
    "m6i.xlarge": (4, 0, 16), "m6i.2xlarge": (8, 0, 32), "r7i.large": (2, 0, 16), "r7i.xlarge": (4, 0, 32),
    "c7i.4xlarge": (16, 0, 32), "c7i.8xlarge": (32, 0, 64), "c7a.8xlarge": (32, 0, 64), "m7a.4xlarge": (16, 0, 64),
    "g4dn.2xlarge": (8, 1, 32), "g4dn.4xlarge": (16, 1, 64), "g5.2xlarge": (8, 1, 32), "g5.4xlarge": (16, 1, 64),
    "g6.2xlarge": (8, 1, 32), "g6.4xlarge": (16, 1, 64), "g6.12xlarge": (48, 4, 192), "g6e.2xlarge": (8, 1, 64),
    "g6e.4xlarge": (16, 1, 128), "p5.4xlarge": (16, 1, 256),
}  # fmt: skip
_DRIVER_GIB = 4  # of ten million images: docs/design.md
_HEAD_GIB = 2.5  # Ray's servers, the dashboard and the system beside it
_SYSTEM_GIB = 3  # of a worker, beside what Ray hands out
_LONGEST_NIGHT_MIN = 24 * 60
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_SECRETS = {
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a token or key given as it is": re.compile(
        r"(?i)(?:RAY_AUTH_TOKEN|secret_?access_?key|session_token|password)['\"]?\s*[=:]\s*['\"]?[^\s'\"]"
    ),
    "what looks like a token": re.compile(r"\b[0-9a-f]{40,}\b"),
}
_ZEROS = re.compile(r"\b(?:subnet|sg|ami|vpc)-0+\b")


@dataclass(frozen=True)
class Finding:
    """Where in the file, and what is amiss there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Node:
    """One kind of machine of the cluster."""

    name: str
    is_head: bool
    spec: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.spec.get("node_config") or {}

    @property
    def is_spot(self) -> bool:
        return (self.config.get("InstanceMarketOptions") or {}).get("MarketType") == "spot"

    def has(self, resource: str) -> int:
        return int((self.spec.get("resources") or {}).get(resource, -1))

    def finding(self, what: str) -> Finding:
        return Finding(self.name, what)


Config = Mapping[str, Any]
Rule = Callable[[Config], Iterator[Finding]]


def nodes_of(config: Config) -> list[Node]:
    head = config.get("head_node_type")
    return [Node(name, name == head, spec) for name, spec in (config.get("available_node_types") or {}).items()]


def workers_of(config: Config) -> list[Node]:
    return [node for node in nodes_of(config) if not node.is_head]


def ray_schema(config: Config) -> Iterator[Finding]:
    """Ray's own: names, types, sums of workers."""
    from jsonschema import ValidationError  # noqa: PLC0415 -- Ray takes seconds
    from ray.autoscaler._private.util import prepare_config, validate_config  # noqa: PLC0415

    logging.disable(logging.WARNING)  # its remarks on Docker, which is not used
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            validate_config(prepare_config(copy.deepcopy(dict(config))))
    except ValidationError as exc:
        yield Finding(".".join(map(str, exc.absolute_path)) or "file", f"Ray: {exc.message}")
    except (KeyError, ValueError) as exc:
        yield Finding("file", f"Ray: {exc}")
    finally:
        logging.disable(logging.NOTSET)


def ec2_call(config: Config) -> Iterator[Finding]:
    """A node's config is what EC2's RunInstances is called with: its names and types are held against that call's."""
    from botocore.validate import ParamValidator  # noqa: PLC0415 -- what comes with the extra s3

    call = _run_instances()
    for node in nodes_of(config):
        given = {name: value for name, value in node.config.items() if name != "SubnetIds"}  # which is Ray's own
        report = ParamValidator().validate(given | {"MinCount": 1, "MaxCount": 1}, call)
        if report.has_errors():
            for line in report.generate_report().splitlines():
                yield node.finding(f"EC2: {line}")


def machine_sizes(config: Config) -> Iterator[Finding]:
    """What is declared is what the machine has: Ray would start machines for work that they then have no room for."""
    store = _bytes_option(" ".join(config.get("worker_start_ray_commands") or []), "object-store-memory")
    head_store = _bytes_option(" ".join(config.get("head_start_ray_commands") or []), "object-store-memory")
    for node in nodes_of(config):
        kind = str(node.config.get("InstanceType"))
        if kind not in INSTANCES:
            yield node.finding(f"InstanceType {kind}: expected one of {', '.join(INSTANCES)}")
            continue
        cpus, gpus, gib = INSTANCES[kind]
        if node.is_head:
            if (node.has("CPU"), node.has("GPU")) != (0, 0):
                yield node.finding("resources: expected CPU: 0 and GPU: 0, so that the head runs no work")
            if gib * GIB < (_DRIVER_GIB + _HEAD_GIB) * GIB + head_store:
                yield node.finding(
                    f"{kind} has {gib} GiB: too little for the driver, Ray's servers and the object store"
                )
            continue
        if (node.has("CPU"), max(0, node.has("GPU"))) != (cpus, gpus):
            yield node.finding(f"resources: {kind} has CPU: {cpus}, GPU: {gpus}; got {dict(node.spec['resources'])}")
        if not 0 < node.has("memory") <= (gib - _SYSTEM_GIB) * GIB - store:
            most = (gib - _SYSTEM_GIB) - store / GIB
            yield node.finding(f"resources: expected memory of 1 to {most:g} GiB ({kind}, beside the object store)")


def spot_first(config: Config) -> Iterator[Finding]:
    """Spot, and as a fall-back the same machine on demand, fewer of them; never a head that is taken back."""
    spot = [node for node in workers_of(config) if node.is_spot]
    on_demand = [node for node in workers_of(config) if not node.is_spot]
    for node in nodes_of(config):
        if node.is_head and node.is_spot:
            yield node.finding("a spot head: when it is taken back the whole run stops")
        options = (node.config.get("InstanceMarketOptions") or {}).get("SpotOptions") or {}
        if node.is_spot and options.get("SpotInstanceType", "one-time") != "one-time":
            yield node.finding("SpotOptions: expected one-time; a persistent request starts machines nobody asked for")
        if node.is_spot != node.name.startswith("spot-") and not node.is_head:
            yield node.finding("a kind is spot where its name begins with spot-, and only there: deploy/spot_first.py")
        if not node.is_head and node.spec.get("max_workers") is None:
            yield node.finding("expected max_workers of its own, which bounds what it costs")
        if node.spec.get("min_workers"):
            yield node.finding("min_workers: machines that are never given back")
    if not spot or not on_demand:
        yield Finding("available_node_types", "expected a kind of spot workers and one on demand to fall back on")
    for node in on_demand:
        if spot and not any(node.spec.get("resources") == other.spec.get("resources") for other in spot):
            yield node.finding("resources: expected those of a spot kind, or Ray chooses by size and not by price")
    if len({node.config.get("InstanceType", "").partition(".")[0] for node in workers_of(config)}) > 1:
        yield Finding(
            "available_node_types", "expected one family of workers: below float32 scores differ between GPUs"
        )


def private_network(config: Config) -> Iterator[Finding]:
    """No address that the world reaches, no door that it may knock at."""
    provider = config.get("provider") or {}
    if provider.get("use_internal_ips") is not True or provider.get("use_external_head_ip"):
        yield Finding("provider", "expected use_internal_ips: true, and no use_external_head_ip")
    if provider.get("security_group"):
        yield Finding(
            "provider", "security_group: Ray makes one that lets the world in at port 22; name your own group"
        )
    for node in nodes_of(config):
        for name in ("SubnetIds", "SecurityGroupIds"):
            if not node.config.get(name):
                yield node.finding(f"expected {name}; without them Ray takes or makes some that the world may reach")
        if any(card.get("AssociatePublicIpAddress") for card in node.config.get("NetworkInterfaces") or []):
            yield node.finding("AssociatePublicIpAddress: expected private addresses alone")
    proxy, region = (config.get("auth") or {}).get("ssh_proxy_command", ""), provider.get("region")
    if (named := re.search(r"--region[ =](\S+)", proxy)) and named[1] != region:
        yield Finding("auth", f"ssh_proxy_command: region {named[1]}, and the cluster's is {region}")


def locked_machines(config: Config) -> Iterator[Finding]:
    """IMDSv2, encrypted disks that go with the machine, a role each, tags to find and to bill them by."""
    heads = {_profile(node) for node in nodes_of(config) if node.is_head}
    for node in nodes_of(config):
        metadata = node.config.get("MetadataOptions") or {}
        if metadata.get("HttpTokens") != "required":
            yield node.finding("MetadataOptions: expected HttpTokens: required (IMDSv2)")
        if metadata.get("HttpPutResponseHopLimit", 2) != 1:
            yield node.finding("MetadataOptions: expected HttpPutResponseHopLimit: 1")
        disks = [disk.get("Ebs") or {} for disk in node.config.get("BlockDeviceMappings") or []]
        if not disks or any(disk.get("Encrypted") is not True for disk in disks):
            yield node.finding("BlockDeviceMappings: expected every volume with Encrypted: true")
        if any(disk.get("DeleteOnTermination") is not True for disk in disks):
            yield node.finding("BlockDeviceMappings: expected DeleteOnTermination: true, or disks stay and cost")
        if not _profile(node):
            yield node.finding("expected an IamInstanceProfile, and no keys")
        elif not node.is_head and _profile(node) in heads:
            yield node.finding("IamInstanceProfile: the head's, which may start machines; a worker needs none of that")
        tagged = {spec.get("ResourceType") for spec in node.config.get("TagSpecifications") or [] if spec.get("Tags")}
        if not {"instance", "volume"} <= tagged:
            yield node.finding("TagSpecifications: expected tags for instance and volume")
        if "UserData" in node.config:
            yield node.finding("UserData: readable by every process of the machine; use setup_commands or file_mounts")


def night_ends(config: Config) -> Iterator[Finding]:
    """Whatever becomes of the driver, of the head or of whoever started them, nothing runs on."""
    idle = config.get("idle_timeout_minutes", 5)
    if not 1 <= idle <= 30:
        yield Finding("idle_timeout_minutes", f"expected 1 to 30, got {idle}")
    if (config.get("provider") or {}).get("cache_stopped_nodes", True):
        yield Finding("provider", "expected cache_stopped_nodes: false; a stopped machine's disk costs on")
    deadline = re.search(r"shutdown -h \+(\d+)", " ".join(config.get("initialization_commands") or []))
    if not deadline or int(deadline[1]) > _LONGEST_NIGHT_MIN:
        yield Finding(
            "initialization_commands", f"expected `sudo shutdown -h +N`, {_LONGEST_NIGHT_MIN} minutes at most"
        )
    for node in nodes_of(config):
        if node.config.get("InstanceInitiatedShutdownBehavior") != "terminate":
            yield node.finding(
                "expected InstanceInitiatedShutdownBehavior: terminate, or shutdown leaves disks that cost"
            )
    if "pgrep -x raylet" not in " ".join(config.get("worker_start_ray_commands") or []):
        yield Finding("worker_start_ray_commands", "expected a worker that ends itself when its raylet is gone")


def ray_starts(config: Config) -> Iterator[Finding]:
    """Token, loopback, room for idle workers, a port for metrics, and the autoscaler that falls back."""
    wanted = {
        "head_start_ray_commands": (
            "RAY_AUTH_MODE=token", "--object-store-memory=", "--autoscaling-config=~/ray_bootstrap_config.yaml",
            "RAY_enable_autoscaler_v2=0", "RAY_AUTOSCALER_UTILIZATION_SCORER=spot_first.score",
            "--metrics-export-port=",
        ),
        "worker_start_ray_commands": (
            "RAY_AUTH_MODE=token", "--object-store-memory=", "RAY_num_workers_soft_limit=",
            "--object-spilling-directory=", "--metrics-export-port=",
        ),
    }  # fmt: skip
    for name, parts in wanted.items():
        command = " ".join(config.get(name) or [])
        for part in parts:
            if part not in command:
                yield Finding(name, f"expected {part} with `ray start`")
        for option, value in re.findall(r"--(dashboard-host|node-ip-address)[ =](\S+)", command):
            if value not in _LOOPBACK:
                yield Finding(
                    name, f"--{option}={value}: who may reach the dashboard may run anything; expected 127.0.0.1"
                )
    if "~/.ray/auth_token" not in (config.get("file_mounts") or {}):
        yield Finding("file_mounts", "expected ~/.ray/auth_token, by which every machine gets the token")


def pinned_setup(config: Config) -> Iterator[Finding]:
    """What is installed is what was tested."""
    for name in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for command in config.get(name) or []:
            if "pip install" not in command:
                continue
            if "-c ~/cops/constraints.txt" not in command:
                yield Finding(name, f"expected pip install with -c ~/cops/constraints.txt: {command}")
            for word in re.findall(r"\s([A-Za-z][\w.\[\]-]*)(?=\s|$)", command.partition("pip install")[2]):
                yield Finding(name, f"{word}: expected {word}==VERSION, or what is in ~/cops")
            if re.search(r"\s(-U|--upgrade|git\+\S+)(\s|$)", command):
                yield Finding(name, f"expected neither --upgrade nor a branch: {command}")


def no_secrets(text: str) -> Iterator[Finding]:
    """Anything that looks like a key: the file lies in a repository, and a copy of it on the head."""
    for number, line in enumerate(text.splitlines(), 1):
        for kind, pattern in _SECRETS.items():
            if pattern.search(line):
                yield Finding(f"line {number}", f"{kind}; it belongs into a file that is mounted, or a role")


def to_fill_in(text: str) -> list[Finding]:
    return [
        Finding(f"line {number}", f"{found}: to be filled in")
        for number, line in enumerate(text.splitlines(), 1)
        for found in sorted(set(_ZEROS.findall(line)))
    ]


RULES: tuple[Rule, ...] = (
    ray_schema, ec2_call, machine_sizes, spot_first, private_network, locked_machines, night_ends, ray_starts,
    pinned_setup,
)  # fmt: skip


def lint(text: str) -> list[Finding]:
    """Everything amiss but for ids to be filled in.

    Raises:  ValueError: it is no cluster's description.
    """
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(f"expected YAML: {exc}") from exc
    kinds = config.get("available_node_types") if isinstance(config, dict) else None
    if not kinds or not hasattr(kinds, "items"):
        raise ValueError("expected a Ray cluster's description, with available_node_types")
    return [*no_secrets(text), *(finding for rule in RULES for finding in rule(config))]


@functools.cache
def _run_instances() -> Any:
    import botocore.session  # noqa: PLC0415 -- as above

    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _profile(node: Node) -> str:
    profile = node.config.get("IamInstanceProfile") or {}
    return str(profile.get("Name") or profile.get("Arn") or "")


def _bytes_option(command: str, option: str) -> int:
    found = re.search(rf"--{option}[ =](\d+)", command)
    return int(found[1]) if found else 0


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python deploy/lint.py cluster.yaml\n")
        return 2
    try:
        text = Path(arguments[0]).read_text(encoding="utf-8")
        found = [*lint(text), *to_fill_in(text)]
    except (OSError, UnicodeDecodeError, ValueError) as exc:
        sys.stderr.write(f"error: {arguments[0]}: {exc}\n")
        return 2
    for finding in found:
        sys.stdout.write(f"{arguments[0]}: {finding}\n")
    sys.stdout.write(f"{len(found)} findings\n" if found else f"{arguments[0]}: nothing found\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
