"""Alerts and scrape config: as Prometheus' own tool reads them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from monitoring_files import ALERTS, DEPLOY, alerts

ROOT = DEPLOY.parent


def promtool(*arguments: str) -> str:
    """Raises:  CalledProcessError: it does not like what it was given."""
    tool = shutil.which("promtool")
    if not tool:
        pytest.fail("install prometheus, or leave out the tests marked debian")
    done = subprocess.run(
        [tool, *arguments], cwd=DEPLOY / "prometheus", check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.debian
def test_alerts_fire_when_they_should() -> None:
    """Each, on series written by hand, and not before; other runs, workers and nodes beside them."""
    assert f"{len(alerts())} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


@pytest.mark.debian
def test_the_scrape_config_is_prometheus() -> None:
    """And so is each of its other ways to find nodes."""
    path = DEPLOY / "prometheus/prometheus.yml"
    promtool("check", "config", "--syntax-only", str(path))


def test_every_alert_has_a_test() -> None:
    """One without could never fire, unseen."""
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}


def test_alerts_say_what_to_do() -> None:
    """A summary, a description, and pages and headings that there are."""
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        text = rule["annotations"]["description"]
        assert rule["annotations"]["summary"]
        for page, heading in re.findall(r"(docs/\S+\.md), ([A-Z][\w ]+)\.", text):
            headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
            assert any(one.startswith(heading) for one in headings), (page, heading)


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("[gp]r[ao]*/*.yml")), ids=lambda path: path.name)
def test_files_are_yaml(path: Path) -> None:
    """Each is one document, and says something."""
    assert yaml.safe_load(path.read_text())


def test_the_config_reads_the_alerts() -> None:
    """Beside it."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == [ALERTS.name]
    assert config["scrape_configs"][0]["job_name"] == "ray"  # as the alert RayNotScraped has it
