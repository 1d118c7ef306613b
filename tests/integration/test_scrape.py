"""Metrics as Prometheus gets them: a real run on a real cluster, its ports asked while it goes on and after it."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from real_parts import ROOT, clean_environment, free_port, score_command

import pipeline
from pipeline import telemetry
from pipeline.schema import Reason, Stage

sys.path.insert(0, str(ROOT / "tests/deploy"))
from monitoring_files import all_queries, metrics_of, panel_queries

_RAYS_LABELS = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId", "le"}
_OFTEN = {"RAY_metrics_report_interval_ms": "1000"}  # Ray's processes report once a second, not every 10 s
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NOT_HERE = {"ray_node_gpus_utilization", "ray_node_gram_used"}  # test_grafana.py


@dataclass(frozen=True)
class Head:
    """A Ray cluster of one node on loopback, which asks for a token."""

    environment: dict[str, str]
    metrics: str
    folder: Path


@contextmanager
def ray_head(folder: Path) -> Iterator[Head]:
    """Ended by its own process: `ray stop` would end every Ray of this machine."""
    token, short = folder / "token", Path(f"/tmp/ray-m{os.getpid()}")  # paths of Ray's sockets must be short
    token.write_text("0" * 64)
    gcs, metrics = free_port(), free_port()
    environment = clean_environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", PYTHONPATH=str(ROOT), **_OFTEN)
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    start = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=2", f"--port={gcs}"]
    start += ["--node-ip-address=127.0.0.1", f"--metrics-export-port={metrics}", f"--temp-dir={short}"]
    start += ["--object-store-memory=500000000", "--min-worker-port=21000", "--max-worker-port=21999"]
    start += [f"--dashboard-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"]
    start += [f"--ray-client-server-port={free_port()}"]
    head = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{metrics}/metrics"
        wait_until(lambda: scrape(url).names, 90)
        yield Head(environment | {"RAY_ADDRESS": f"127.0.0.1:{gcs}"}, url, short)
    finally:
        head.terminate()
        head.wait(120)
        shutil.rmtree(short, ignore_errors=True)


def wait_until(what: Any, timeout_s: float) -> Any:
    """What it gives once that is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.3)
    pytest.fail(f"not within {timeout_s} s")


@dataclass(frozen=True)
class Sample:
    """One line of a scrape."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Scrape:
    """The names in it; of its thousands of lines those of our metrics and of the queues."""

    names: frozenset[str] = frozenset()
    samples: tuple[Sample, ...] = ()


def scrape(url: str) -> Scrape:
    """Asked for without a token; empty where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    except OSError:
        return Scrape()
    kept = [line for line in lines if line.startswith(("ray_cops", "ray_data_operator_queued"))]
    return Scrape(frozenset(re.split(r"[{ ]", line)[0] for line in lines), tuple(map(_sample, kept)))


def _sample(line: str) -> Sample:
    series, _, value = line.rpartition(" ")
    name, _, labels = series.partition("{")
    return Sample(name, dict(_LABEL.findall(labels)), float(value))


def sums(found: Scrape, name: str, *by: str) -> dict[tuple[str, ...], float]:
    """Of all workers together."""
    added: Counter[tuple[str, ...]] = Counter()
    for sample in found.samples:
        if sample.name == name:
            added[tuple(sample.labels[label] for label in by)] += sample.value
    return dict(added)


@dataclass
class Scraped:
    """One run's scrapes, in order, and its tables."""

    output: Path
    began: float
    scrapes: list[Scrape] = field(default_factory=list)

    @property
    def last(self) -> Scrape:
        return self.scrapes[-1]

    @property
    def names(self) -> set[str]:
        return {name for one in self.scrapes for name in one.names}


@contextmanager
def job_running(head: Head, images: Path, output: Path, run_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """To its good end; stopped where the test fails before it."""
    arguments = ["--input", str(images), "--output", str(output), "--run-id", run_id, "--max-error-fraction", "1"]
    job = subprocess.Popen(
        score_command(*arguments), env=head.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield job
    except BaseException:
        job.terminate()
        raise
    finally:
        job.wait(120)
    assert job.returncode == 0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures, and 60 that are none, or broken."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, str(ROOT / "jobs" / "make_samples.py"), "--output", str(folder), "--count", "120"]
    subprocess.run([*command, "--size", "64", "--hostile", "60"], check=True, capture_output=True, timeout=120)
    return folder / "images"


@pytest.fixture(scope="module")
def scraped(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A whole run, asked every second till its commit was seen."""
    folder = tmp_path_factory.mktemp("scraped")
    with ray_head(folder) as head:
        found = Scraped(folder / "out", time.time())
        with job_running(head, hostile, found.output, "night-1") as job:
            while job.poll() is None:
                found.scrapes.append(scrape(head.metrics))
                time.sleep(1)

        def committed() -> bool:
            found.scrapes.append(scrape(head.metrics))
            return bool(sums(found.last, telemetry.COMMITTED_AT.exported[0]))

        wait_until(committed, 30)
        time.sleep(3)  # the last reports of all workers
        found.scrapes.append(scrape(head.metrics))
        yield found


@pytest.mark.timeout(500)
def test_counts_are_those_of_the_tables(scraped: Scraped) -> None:
    """Of a run in which Ray did nothing twice: rows, reasons, bytes, to the last one."""
    run = pipeline.open_run(str(scraped.output), "night-1")
    table, last = run.quarantine.to_table(["stage", "reason"]), scraped.last
    reasons = Counter(zip(table["stage"].to_pylist(), table["reason"].to_pylist(), strict=True))
    assert len(reasons) >= 4
    assert sums(last, "ray_cops_quarantined_images_total", "stage", "reason") == reasons
    scored = run.scores.count_rows()
    assert sums(last, "ray_cops_scored_images_total", "run_id") == {("night-1",): scored}
    assert sums(last, "ray_cops_model_images_total", "run_id") == {("night-1",): scored}
    assert sums(last, "ray_cops_image_bytes_total") == {(): run.record["counts"]["bytes"]}
    committed_at = sums(last, "ray_cops_last_commit_timestamp_seconds_total")[()]
    assert scraped.began < committed_at < time.time()


def test_seconds_are_those_of_the_record(scraped: Scraped) -> None:
    """By stage; and the model's busy time is its calls', which came one after the other here."""
    seconds = pipeline.open_run(str(scraped.output), "night-1").record["seconds"]
    told = sums(scraped.last, "ray_cops_stage_seconds_total", "stage")
    assert {stage for (stage,) in told} == {"read", "decode", "score"}  # without thresholds nothing is localized
    for (stage,), value in told.items():
        assert value == pytest.approx(seconds[stage], abs=0.01)
    busy_s = sums(scraped.last, "ray_cops_busy_seconds_total")[()]
    assert 0.8 * seconds["score"] < busy_s <= seconds["score"] + 0.01
    batches = sums(scraped.last, "ray_cops_batch_seconds_count")[()]
    images = sums(scraped.last, "ray_cops_model_images_total")[()]
    assert images / 4 <= batches <= images  # a batch on a CPU has at most 4
    buckets = sums(scraped.last, "ray_cops_batch_seconds_bucket", "le")
    assert buckets[("+Inf",)] == batches


def test_progress_is_told_while_the_run_goes_on(scraped: Scraped) -> None:
    """Planned stays, left only falls, and is 0 at the end; what waits for a model is Ray Data's to say."""
    planned = [sums(one, "ray_cops_planned_images").get(()) for one in scraped.scrapes]
    left = [sums(one, "ray_cops_left_images").get(()) for one in scraped.scrapes]
    run = pipeline.open_run(str(scraped.output), "night-1")
    known = [value for value in left if value is not None]
    assert {value for value in planned if value is not None} == {run.record["counts"]["planned"]}
    assert known == sorted(known, reverse=True)
    assert (known[0], known[-1]) == (run.record["counts"]["planned"], 0)
    before = [sums(one, "ray_data_operator_queued_blocks", "operator") for one in scraped.scrapes]
    assert any(operator.startswith("MapBatches(Scorer)") for blocks in before for (operator,) in blocks)


def test_every_query_finds_its_metrics(scraped: Scraped) -> None:
    """What dashboard and alerts name was exported in this run, but what only a GPU has."""
    wanted = {name for query in all_queries() for name in metrics_of(query)} - {"up"}  # Prometheus' own
    assert wanted - scraped.names == _NOT_HERE


def test_labels_are_few_and_say_nothing_of_files(scraped: Scraped) -> None:
    """The run, a stage, a reason, of closed sets; all else is Ray's."""
    ours = [sample for one in scraped.scrapes for sample in one.samples if "cops" in sample.name]
    assert {name for sample in ours for name in sample.labels if not name.startswith("otel_scope")} == {
        *_RAYS_LABELS, "run_id", "stage", "reason",
    }  # fmt: skip
    values = {name: {sample.labels.get(name) for sample in ours} - {None} for name in ("run_id", "stage", "reason")}
    assert values["run_id"] == {"night-1"}
    assert values["stage"] <= {*Stage, "localize"}
    assert values["reason"] <= set(Reason)
    assert all("WorkerId" in sample.labels for sample in ours)  # a series more for a run is none more for a process


def test_a_job_that_starts_ray_itself_is_scraped_where_it_was_told(hostile: Path, tmp_path: Path) -> None:
    """COPS_METRICS_PORT: on loopback, without a token; gone with the job."""
    port = free_port()
    environment = clean_environment(COPS_METRICS_PORT=str(port), **_OFTEN)
    head = Head(environment, f"http://127.0.0.1:{port}/metrics", tmp_path)
    with job_running(head, hostile, tmp_path / "out", "r"):
        planned = wait_until(lambda: sums(scrape(head.metrics), "ray_cops_planned_images", "run_id"), 120)
        scored = wait_until(lambda: sums(scrape(head.metrics), "ray_cops_scored_images_total"), 120)
    assert planned == {("r",): pipeline.open_run(str(tmp_path / "out")).record["counts"]["planned"]}
    assert scored[()] > 0
    assert not scrape(head.metrics).names


_PROMETHEUS = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: ray
    file_sd_configs: [{{files: [{found}], refresh_interval: 1s}}]
"""


@pytest.mark.timeout(900)
@pytest.mark.debian
def test_prometheus_answers_every_panel(hostile: Path, tmp_path: Path) -> None:
    """Prometheus itself, told of the nodes by Ray's own file: while a run goes on each query has had an answer."""
    binary = shutil.which("prometheus")
    if not binary:
        pytest.fail("install prometheus, or leave out the tests marked debian")
    port = free_port()
    with ray_head(tmp_path) as head:
        config = tmp_path / "prometheus.yml"
        config.write_text(_PROMETHEUS.format(found=head.folder / "prom_metrics_service_discovery.json"))
        command = [binary, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{port}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
            try:
                silent = unanswered(f"http://127.0.0.1:{port}", head, hostile, tmp_path / "out")
            finally:
                prometheus.terminate()
    gpu = {query for query in silent if metrics_of(query) <= _NOT_HERE}
    failed = {query for query in silent if re.search("num_tasks_failed", query)}  # none has
    assert silent == gpu | failed, silent - gpu - failed


def unanswered(prometheus: str, head: Head, images: Path, output: Path) -> set[str]:
    """The dashboard's queries that had no answer in a run, nor in the half minute after its commit."""
    silent = {query for queries in panel_queries().values() for query in queries}
    with job_running(head, images, output, "night-1") as job:
        over = math.inf
        while time.monotonic() < over:
            silent -= {query for query in silent if has_answer(prometheus, query)}
            time.sleep(1)
            if job.poll() is not None:
                over = min(over, time.monotonic() + 30)
    return silent


def has_answer(prometheus: str, query: str) -> bool:
    question = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{question}", timeout=10) as answer:
            return b'"result":[{' in answer.read()
    except OSError as error:
        if getattr(error, "code", None) == 400:  # no PromQL
            raise
        return False
