"""Start tonight's RayJob, or find it started, and wait for its end: `python start_night.py rayjob.yaml`, in a pod.

Exit codes: 0 the night's run succeeded; 1 it did not, or Kubernetes says no; 2 wrong use; 3 Kubernetes does not
answer, and another pod may look again. 1 and 2 are final: nightly.yaml's podFailurePolicy starts no pod after them.
"""

from __future__ import annotations

import datetime
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LABEL = "app.kubernetes.io/name=cops-night"
NIGHT = "@NIGHT@"  # in the template, the night's date
STARTER = "cops/starter"  # the annotation of a RayJob that says which Job of the CronJob's, or by hand, started it
_KEEP = 14  # RayJobs that are over, to look at
_LOOK_EVERY_S = 30.0
_PATIENCE_S = 900.0  # with an API server that does not answer
_TIMEOUT_S = 30.0
_OVER = {"Complete", "Failed", "ValidationFailed"}


class KubernetesError(Exception):
    """What Kubernetes answers that is final."""


class NoAnswerError(Exception):
    """It does not answer."""


@dataclass(frozen=True)
class Api:
    """RayJobs of one namespace. The token is read anew each time: Kubernetes renews it hourly."""

    base: str
    namespace: str
    token_file: Path
    context: ssl.SSLContext | None = None

    @classmethod
    def of_pod(cls) -> Api:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        namespace = (ACCOUNT / "namespace").read_text().strip()
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}", namespace, ACCOUNT / "token", context)

    def call(self, method: str, name: str = "", body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and answer; tried again while the server does not answer, or says that it cannot just now.

        Raises:  NoAnswerError: for a quarter of an hour.
        """
        address = f"{self.base}/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs{name}"
        data = json.dumps(body).encode() if body else None
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
            headers["Content-Type"] = "application/json"
            request = urllib.request.Request(address, data, headers, method=method)  # noqa: S310 -- the pod's own API
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self.context) as answer:  # noqa: S310
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as exc:
                if exc.code < 500 and exc.code != 429:
                    return exc.code, _message(exc)
                why = str(exc)
            except (OSError, ValueError) as exc:
                why = str(exc)
            if time.monotonic() > deadline:
                raise NoAnswerError(f"{method} {address}: no answer in {_PATIENCE_S / 60:.0f} minutes; {why}")
            time.sleep(_LOOK_EVERY_S)


def _message(exc: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        return dict(json.load(exc))
    except ValueError:
        return {"message": str(exc)}


def night_of(now: datetime.datetime) -> str:
    """The date on which the night began: what starts after midnight belongs to the evening before, until noon."""
    return (now - datetime.timedelta(hours=12)).date().isoformat()


def start(api: Api, template: str, night: str, starter: str) -> str:
    """The night's RayJob, created or there already; its name. One that another starter's night failed with is replaced.

    Args:    starter: who starts it, the same in each pod of one Job: what failed under it has had its tries.
    Raises:  KubernetesError: it is not allowed, or not understood, or the failed one does not go.
    """
    job = yaml.safe_load(template.replace(NIGHT, night))
    name = str(job["metadata"]["name"])
    job["metadata"].setdefault("annotations", {})[STARTER] = starter
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        code, answer = api.call("POST", body=job)
        if code < 400:
            say(f"{name} is created")
            return name
        if code != 409:
            raise KubernetesError(f"{name} was refused: {answer.get('message', code)}")
        code, there = api.call("GET", f"/{name}")
        if code < 400 and not _is_anothers_failure(there, starter):
            say(f"{name} is there already: waiting for it")
            return name
        say(f"{name} failed before: it is removed, and started anew")
        api.call("DELETE", f"/{name}")  # KubeRay stops and clears up first, so it stays for a while
        time.sleep(_LOOK_EVERY_S)
    raise KubernetesError(f"{name} failed before, and is not gone after {_PATIENCE_S / 60:.0f} minutes")


def _is_anothers_failure(job: dict[str, Any], starter: str) -> bool:
    succeeded = (job.get("status") or {}).get("jobStatus") == "SUCCEEDED"
    return _is_over(job) and not succeeded and (job["metadata"].get("annotations") or {}).get(STARTER) != starter


def wait(api: Api, name: str) -> bool:
    """Whether it succeeded, when it is over.

    Raises:  KubernetesError: it is gone, or may not be looked at.
    """
    before = ""
    while True:
        code, job = api.call("GET", f"/{name}")
        if code >= 400:
            raise KubernetesError(f"{name}: {job.get('message', code)}")
        status = job.get("status") or {}
        stage = status.get("jobDeploymentStatus") or "new"
        told = " ".join(filter(None, (stage, status.get("jobStatus"), status.get("reason"), status.get("message"))))
        if told != before:
            say(f"{name}: {told}")
            before = told
        if stage in _OVER:
            return status.get("jobStatus") == "SUCCEEDED"
        time.sleep(_LOOK_EVERY_S)


def clear_up(api: Api, keep: int = _KEEP) -> None:
    """Remove what is long over: KubeRay removes its clusters, and keeps the RayJobs themselves.

    It says nothing of the night: what goes wrong here is told, and done the next time.
    """
    try:
        _, answer = api.call("GET", f"?labelSelector={LABEL}")
        over = [job["metadata"] for job in answer.get("items", []) if _is_over(job)]
        for old in sorted(over, key=lambda job: job["creationTimestamp"])[:-keep]:
            api.call("DELETE", f"/{old['name']}")
    except (KubernetesError, NoAnswerError, OSError, KeyError, TypeError) as exc:
        say(f"old RayJobs are not cleared up: {exc!r}")


def _is_over(job: dict[str, Any]) -> bool:
    return (job.get("status") or {}).get("jobDeploymentStatus") in _OVER


def say(text: str) -> None:
    sys.stdout.write(f"{datetime.datetime.now().astimezone():%F %T %Z} {text}\n")
    sys.stdout.flush()


def main(arguments: list[str], api: Api | None = None) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python start_night.py rayjob.yaml\n")
        return 2
    try:
        api = api or Api.of_pod()
        template, now = Path(arguments[0]).read_text(encoding="utf-8"), datetime.datetime.now().astimezone()
        succeeded = wait(api, start(api, template, night_of(now), os.environ.get("STARTER", "")))
    except (KubernetesError, OSError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except NoAnswerError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 3
    except (KeyError, TypeError, yaml.YAMLError) as exc:
        sys.stderr.write(f"error: {arguments[0]}: expected a RayJob, in a pod of Kubernetes; {exc!r}\n")
        return 2
    clear_up(api)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
