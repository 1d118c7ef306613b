"""The pod that starts a night's RayJob and waits for it, against an API server that speaks as Kubernetes does."""

from __future__ import annotations

import datetime
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kuberay import start_night
from deploy.kuberay.start_night import NIGHT, STARTER, Api, main, night_of

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "deploy/kuberay/rayjob.yaml"
BASE = "/apis/ray.io/v1/namespaces/cops/rayjobs"


class Cluster:
    """RayJobs by name; each GET of one takes it a step further in `course`."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.course: list[dict[str, Any]] = []
        self.refuse: list[int] = []
        self.slow = 0
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        self.asked.append((method, path))
        if self.refuse:
            return (code := self.refuse.pop(0)), {"message": f"the server says {code}"}
        if method == "POST":
            job = json.loads(body)
            name = job["metadata"]["name"]
            if name in self.jobs:
                return 409, {"message": f"{name} already exists"}
            self.jobs[name] = job
            job["metadata"]["creationTimestamp"] = "2026-11-23T21:00:00Z"
            return 201, job
        if "?" in path:
            return 200, {"items": list(self.jobs.values())}
        name = path.rpartition("/")[2]
        if name not in self.jobs:
            return 404, {"message": f"{name} not found"}
        if method == "DELETE":
            if self.slow > 0:  # KubeRay's finalizer: it is there until its cluster is cleared up
                self.slow -= 1
                return 200, self.jobs[name]
            return 200, self.jobs.pop(name)
        if self.course:
            self.jobs[name]["status"] = self.course.pop(0)
        return 200, self.jobs[name]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Cluster, Api]]:
    cluster = Cluster()

    class Handler(http.server.BaseHTTPRequestHandler):
        def serve(self) -> None:
            cluster.tokens.add(self.headers["Authorization"])
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, answer = cluster.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = serve  # noqa: N815 -- the library's names

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setattr(start_night, "_LOOK_EVERY_S", 0.01)
    (tmp_path / "token").write_text("tok\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield cluster, Api(f"http://127.0.0.1:{server.server_port}", "cops", tmp_path / "token")
    server.shutdown()
    server.server_close()


def status(stage: str, job: str = "", message: str = "") -> dict[str, Any]:
    return {"jobDeploymentStatus": stage, "jobStatus": job, "message": message}


def tonight() -> str:
    return night_of(datetime.datetime.now().astimezone())


def test_a_night_from_beginning_to_end(cluster: tuple[Cluster, Api], capsys: pytest.CaptureFixture[str]) -> None:
    """The RayJob is the template's, named by the night; each change is told once; 0 where it succeeded."""
    kubernetes, api = cluster
    kubernetes.course = [{}, status("Initializing"), status("Running", "RUNNING"), status("Running", "RUNNING"),
                         status("Complete", "SUCCEEDED")]  # fmt: skip
    assert main([str(TEMPLATE)], api) == 0
    (made,) = kubernetes.jobs.values()
    del made["metadata"]["creationTimestamp"], made["metadata"]["annotations"], made["status"]
    assert made == yaml.safe_load(TEMPLATE.read_text().replace(NIGHT, tonight()))
    assert made["metadata"]["name"] == f"cops-night-{tonight()}"
    assert capsys.readouterr().out.count("RUNNING") == 1
    assert kubernetes.tokens == {"Bearer tok"}


def test_users_own_names_stay_as_they_are(cluster: tuple[Cluster, Api], tmp_path: Path) -> None:
    """Only the night's own mark is filled in, everywhere; a bucket may be called DATE or night."""
    kubernetes, api = cluster
    kubernetes.course = [status("Complete", "SUCCEEDED")]
    (tmp_path / "mine.yaml").write_text(TEMPLATE.read_text().replace("BUCKET", "my-DATE-night"))
    assert main([str(tmp_path / "mine.yaml")], api) == 0
    (made,) = kubernetes.jobs.values()
    assert f"night-{tonight()} s3://my-DATE-night/inspection " in made["spec"]["entrypoint"]
    assert NIGHT not in str(made)


def test_a_pod_that_is_started_again_goes_on_waiting(cluster: tuple[Cluster, Api]) -> None:
    """Its node was taken back: the RayJob is there, and no second one is made."""
    kubernetes, api = cluster
    name = f"cops-night-{tonight()}"
    kubernetes.jobs[name] = {"metadata": {"name": name, "creationTimestamp": "2026-11-23T22:00:00Z"}}
    kubernetes.course = [status("Running", "RUNNING"), status("Complete", "SUCCEEDED")]
    assert main([str(TEMPLATE)], api) == 0
    assert list(kubernetes.jobs) == [name]


def failed(starter: str) -> dict[str, dict[str, Any]]:
    name = f"cops-night-{tonight()}"
    metadata = {"name": name, "creationTimestamp": "2026-11-23T22:00:00Z", "annotations": {STARTER: starter}}
    return {name: {"metadata": metadata, "status": status("Failed", "FAILED")}}


def test_a_night_that_failed_can_be_started_again(
    cluster: tuple[Cluster, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, the same night: another Job of the CronJob's removes what failed, waits till it is gone, begins anew."""
    kubernetes, api = cluster
    kubernetes.jobs, kubernetes.slow = failed("cron"), 2
    kubernetes.course = [status("Failed", "FAILED")] * 3 + [status("Complete", "SUCCEEDED")]
    monkeypatch.setenv("STARTER", "by-hand")
    assert main([str(TEMPLATE)], api) == 0
    (job,) = kubernetes.jobs.values()
    assert job["metadata"]["annotations"][STARTER] == "by-hand"
    assert [method for method, path in kubernetes.asked if method == "DELETE"] == ["DELETE"] * 3


def test_another_pod_of_a_failed_night_does_not_start_it_again(
    cluster: tuple[Cluster, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pod was lost just then: KubeRay has had its tries."""
    kubernetes, api = cluster
    kubernetes.jobs = failed("cron")
    monkeypatch.setenv("STARTER", "cron")
    assert main([str(TEMPLATE)], api) == 1
    assert "DELETE" not in {method for method, _ in kubernetes.asked}


def test_what_kuberay_will_not_take_is_waited_for_no_more(cluster: tuple[Cluster, Api]) -> None:
    """A RayJob that it calls invalid has an end of its own."""
    kubernetes, api = cluster
    kubernetes.course = [status("ValidationFailed", "", "backoffLimit must be a positive integer")]
    assert main([str(TEMPLATE)], api) == 1


def test_a_good_night_is_good_whatever_clearing_up_says(
    cluster: tuple[Cluster, Api], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes, api = cluster
    kubernetes.course = [status("Complete", "SUCCEEDED")]
    plain = kubernetes.answer
    monkeypatch.setattr(kubernetes, "answer", lambda *one: (403, {"items": None}) if "?" in one[1] else plain(*one))
    assert main([str(TEMPLATE)], api) == 0
    assert "old RayJobs are not cleared up" in capsys.readouterr().out


def test_a_night_that_failed_fails_the_job(cluster: tuple[Cluster, Api], capsys: pytest.CaptureFixture[str]) -> None:
    """So that whatever watches CronJobs tells somebody; with what KubeRay says of it."""
    kubernetes, api = cluster
    kubernetes.course = [status("Retrying", "FAILED"), status("Failed", "FAILED", "exit status 3")]
    assert main([str(TEMPLATE)], api) == 1
    assert "Failed FAILED exit status 3" in capsys.readouterr().out


def test_a_server_that_is_busy_is_asked_again(cluster: tuple[Cluster, Api]) -> None:
    kubernetes, api = cluster
    kubernetes.refuse = [503, 429, 500]
    kubernetes.course = [status("Complete", "SUCCEEDED")]
    assert main([str(TEMPLATE)], api) == 0


def test_what_kubernetes_refuses_is_told(cluster: tuple[Cluster, Api], capsys: pytest.CaptureFixture[str]) -> None:
    kubernetes, api = cluster
    kubernetes.refuse = [403]
    assert main([str(TEMPLATE)], api) == 1
    assert f"error: cops-night-{tonight()} was refused: the server says 403" in capsys.readouterr().err
    kubernetes.refuse = [201, 404]  # removed by somebody while it ran
    assert main([str(TEMPLATE)], api) == 1


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start_night, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(start_night, "_PATIENCE_S", 0.05)
    (tmp_path / "token").write_text("tok")
    assert main([str(TEMPLATE)], Api("http://127.0.0.1:9", "cops", tmp_path / "token")) == 3  # another pod may look


def test_what_is_long_over_is_removed(cluster: tuple[Cluster, Api]) -> None:
    """The newest stay to be looked at; what runs is never touched."""
    kubernetes, api = cluster
    for day in range(1, 6):
        stage = "Running" if day == 1 else "Complete"
        metadata = {"name": f"n{day}", "creationTimestamp": f"2026-11-0{day}T22:00:00Z"}
        kubernetes.jobs[f"n{day}"] = {"metadata": metadata, "status": status(stage)}
    start_night.clear_up(api, keep=2)
    assert list(kubernetes.jobs) == ["n1", "n4", "n5"]


def test_its_role_allows_what_it_asks_for_and_no_more(cluster: tuple[Cluster, Api]) -> None:
    kubernetes, api = cluster
    kubernetes.course = [status("Complete", "SUCCEEDED")]
    assert main([str(TEMPLATE)], api) == 0
    old = {"metadata": {"name": "old", "creationTimestamp": "2020"}, "status": status("Complete")}
    kubernetes.jobs["old"] = old
    start_night.clear_up(api, keep=1)
    verbs = {
        "list" if "?" in path else {"POST": "create", "GET": "get", "DELETE": "delete"}[method]
        for method, path in kubernetes.asked
    }
    (rule,) = next(
        one["rules"]
        for one in yaml.safe_load_all((TEMPLATE.parent / "nightly.yaml").read_text())
        if one["kind"] == "Role"
    )
    assert (set(rule["verbs"]), rule["apiGroups"], rule["resources"]) == (verbs, ["ray.io"], ["rayjobs"])
    assert all(path.startswith(BASE) for _, path in kubernetes.asked)


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-11-23T22:00", "2026-11-23"),
        ("2026-11-24T00:30", "2026-11-23"),
        ("2026-11-24T11:59", "2026-11-23"),
        ("2026-11-24T12:00", "2026-11-24"),
    ],
)
def test_a_night_has_one_name(now: str, night: str) -> None:
    """What is started late, or again after midnight, is the same run."""
    assert night_of(datetime.datetime.fromisoformat(now)) == night


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a pod, without a template, with something else in it."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main([]) == 2
    assert main([str(TEMPLATE)]) == 2
    (tmp_path / "x.yaml").write_text("- a")
    assert main([str(tmp_path / "x.yaml")], Api("http://127.0.0.1:9", "n", tmp_path)) == 2
    assert "Traceback" not in capsys.readouterr().err
