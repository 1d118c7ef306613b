"""deploy/kuberay is what Kubernetes and KubeRay take; nothing in it runs as root, for ever, or under another name."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import tyro
import yaml
from kubernetes_validate.utils import all_versions
from night_stubs import Programs

from deploy.kuberay.start_night import NIGHT
from jobs.score import Options

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kuberay"
SCHEMA = json.loads((Path(__file__).parent / "rayjob_schema.json").read_text())
NIGHTLY = list(yaml.safe_load_all((FOLDER / "nightly.yaml").read_text()))
CRON = next(one for one in NIGHTLY if one["kind"] == "CronJob")
RAYJOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text().replace(NIGHT, "2026-11-23"))
VERSIONS = all_versions()

Json = dict[str, Any]


def pod_specs(rayjob: Json) -> Iterator[tuple[str, Json]]:
    spec, cluster = rayjob["spec"], rayjob["spec"]["rayClusterSpec"]
    yield "submitter", spec["submitterPodTemplate"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def complaints(rayjob: Json, version: str = VERSIONS[-1]) -> list[str]:
    """What KubeRay's fields and Kubernetes' own schema have against a RayJob."""
    found = [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(rayjob)]
    for name, template in pod_specs(rayjob):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name} | template.get("metadata", {})}
        try:
            kubernetes_validate.validate(pod | {"spec": template["spec"]}, version, strict=True)
        except kubernetes_validate.ValidationError as exc:
            found.append(f"{name}: {exc.message}")
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_what_it_is_given(version: str) -> None:
    """Strictly: a field that is no field is refused. For each release whose schema the package brings."""
    for one in NIGHTLY:
        kubernetes_validate.validate(one, version, strict=True)
    assert complaints(RAYJOB, version) == []


def test_kustomize_puts_the_template_where_the_starter_looks() -> None:
    """kustomize has no schema here: its few names are held against what refers to them."""
    made = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert made["resources"] == ["nightly.yaml"]
    assert made["configMapGenerator"] == [{"name": "cops-night", "files": ["rayjob.yaml"]}]
    pod = CRON["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert volume["configMap"]["name"] == "cops-night"
    assert pod["containers"][0]["command"][1:] == ["deploy/kuberay/start_night.py", f"{mount['mountPath']}/rayjob.yaml"]
    assert (FOLDER / "start_night.py").is_file()


HEAD = "spec/rayClusterSpec/headGroupSpec"
GPU = "spec/rayClusterSpec/workerGroupSpecs/0"
BROKEN = [
    ("spec/entrypont", "x", "'entrypont' was unexpected"),
    ("spec/backoffLimit", "2", "'2' is not of type 'integer'"),
    ("spec/rayClusterSpec/authOptions/mode", "none", "'none' is not one of"),
    (f"{HEAD}/rayStartParams/num-cpus", 0, "0 is not of type 'string'"),
    (f"{GPU}/maxReplicas", -1, "-1 is less than the minimum"),
    ("metadata/name", "Night_1", "does not match"),
    ("metadata/name", "n" * 48, "is too long"),
    ("spec/shutdownAfterJobFinishes", False, "True was expected"),
    ("spec/rayClusterSpec/authOptions/enableK8sTokenAuth", True, "'enableK8sTokenAuth' was unexpected"),
    ("spec/rayClusterSpec/autoscalerOptions/version", "v3", "'v3' is not one of"),
    (f"{HEAD}/rayStartParams/labels", "a=b", "False schema does not allow"),
    (f"{GPU}/template/spec/restartPolicy", "Always", "'Never' was expected"),
    (f"{GPU}/template/spec/containers", [], "should be non-empty|is too short"),
    (f"{HEAD}/template/spec/containers/0/imagePullPollicy", "Always", "head: .*imagePullPollicy"),
    (f"{GPU}/template/spec/securityContext/runAsUser", "me", "gpu: 'me' is not of type"),
    ("spec/submitterPodTemplate/spec/containers/0/env/0/value", 1, "submitter: 1 is not of type"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "expected"), BROKEN, ids=[row[0].rpartition("/")[2] for row in BROKEN])
def test_what_is_broken_is_refused(path: str, value: Any, expected: str) -> None:
    broken: Any = copy.deepcopy(RAYJOB)
    *way, last = (int(name) if name.isdigit() else name for name in path.split("/"))
    at = broken
    for name in way:
        at = at[name]
    at[last] = value
    found = "\n".join(complaints(broken))
    assert re.search(expected, found), found


def containers() -> Iterator[tuple[str, Json, Json]]:
    pods = [*pod_specs(RAYJOB), ("starter", CRON["spec"]["jobTemplate"]["spec"]["template"])]
    for name, template in pods:
        for container in template["spec"]["containers"]:
            yield name, template["spec"], container


def test_nothing_runs_as_root_or_writes_where_it_should_not() -> None:
    """Every container; and where its root is read-only, what Ray writes has a place: /tmp, its HOME."""
    for name, pod, container in containers():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == locked, name
        assert set(container["resources"]["limits"]) >= {"cpu", "memory"}, name
        if name != "starter":
            assert {"name": "HOME", "value": "/tmp"} in container["env"], name
            assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}, name


def test_the_user_is_the_images() -> None:
    """The number that the Dockerfile makes, or files of the image would be somebody else's."""
    (made,) = re.findall(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert {pod["securityContext"]["runAsUser"] for _, pod, _ in containers()} == {int(made)}


def test_versions_are_those_that_were_tested() -> None:
    """Ray's as in constraints.txt, the images' as the project's."""
    (ray,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert RAYJOB["spec"]["rayClusterSpec"]["rayVersion"] == ray
    images = {container["image"].partition(":")[2] for _, _, container in containers()}
    assert images == {f"{version}-cuda", f"{version}-cpu"}


def test_a_night_ends_and_is_gone_on_with() -> None:
    """Tries again under the same run; ends; and the one who waits has more time than what he waits for."""
    spec, cron = RAYJOB["spec"], CRON["spec"]
    assert "night.sh night-2026-11-23 " in spec["entrypoint"]
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["activeDeadlineSeconds"] < cron["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
    assert cron["concurrencyPolicy"] == "Forbid"
    environment = {one["name"]: one.get("value") for one in containers_of_starter()["env"]}
    assert environment["TZ"] == cron["timeZone"]  # the date is that of the clock that starts it


def containers_of_starter() -> Json:
    return CRON["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]


def test_the_command_is_one_that_the_job_takes(tmp_path: Path) -> None:
    """Every option as jobs/score.py knows it, through the script; as many actors as there may be workers; with columns
    of the paths, which thresholds are by.
    """
    programs = Programs(tmp_path / "bin")
    path = {"PATH": f"{programs.folder}:/usr/bin:/bin"}
    subprocess.run(shlex.split(RAYJOB["spec"]["entrypoint"]), check=True, cwd=ROOT, env=path, timeout=60)
    score, report = programs.calls()
    script, *arguments = score.split()
    assert script == "jobs/score.py"
    config = tyro.cli(Options, args=arguments).config()
    assert (config.device, config.incremental, config.run_id) == ("cuda", True, "night-2026-11-23")
    assert report == f"jobs/report.py --output {config.output} --run-id night-2026-11-23"
    (group,) = RAYJOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert config.actor_range() == (1, group["maxReplicas"])
    assert "{category}" in (config.path_fields or "")
    assert config.thresholds


def test_each_account_may_do_what_its_pods_need() -> None:
    """KubeRay binds the autoscaler's Role to the head's account: workers have another, and no token of it."""
    accounts = {one["metadata"]["name"]: one for one in NIGHTLY if one["kind"] == "ServiceAccount"}
    pods = {name: template["spec"] for name, template in pod_specs(RAYJOB)}
    used = {name: pod.get("serviceAccountName") for name, pod in pods.items()}
    assert used == {"submitter": None, "head": "cops-night-head", "gpu": "cops-night-worker"}
    starter = CRON["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
    assert accounts.keys() == {"cops-night-head", "cops-night-worker", starter}
    assert accounts["cops-night-worker"]["automountServiceAccountToken"] is False
    assert [pods[name]["automountServiceAccountToken"] for name in ("submitter", "gpu")] == [False, False]
    assert {subject["name"] for one in NIGHTLY for subject in one.get("subjects", ())} == {starter}


def test_a_final_code_starts_no_other_pod() -> None:
    """As start_night.py has them: 1 and 2 are the night's end, 3 is not; a pod that is taken away does not count."""
    away, final = CRON["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (away["action"], away["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (final["action"], final["onExitCodes"]["values"]) == ("FailJob", [1, 2])
    assert final["onExitCodes"]["containerName"] == containers_of_starter()["name"]
    codes = re.search(r"Exit codes: (.*?) are final", (FOLDER / "start_night.py").read_text(), re.DOTALL)
    assert codes
    assert codes[1].endswith("1 and 2")
