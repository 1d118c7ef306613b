"""The dashboard's file: what Grafana takes, and queries that mean something."""

import runpy
from itertools import combinations

import promql_parser
import pytest
from monitoring_files import DEPLOY, all_queries, dashboard, known_to_ray_agent, labels_of, metrics_of, panel_queries

from pipeline import telemetry

OURS = {name: metric for metric in telemetry.ALL for name in metric.exported}
RAYS_LABELS = {"le", "WorkerId", "instance", "job"}


def test_the_file_is_what_its_maker_writes() -> None:
    """Nobody changed one without the other."""
    made = runpy.run_path(str(DEPLOY / "grafana/make_dashboard.py"))["text"]()
    assert (DEPLOY / "grafana/dashboard.json").read_text() == made


def test_panels_have_ids_and_places_of_their_own() -> None:
    """Grafana drops a panel whose id another has; none lies on another, none beyond the grid's 24 columns."""
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_each_panel_says_what_it_shows() -> None:
    """A title, a text, a unit, and letters of its queries that differ."""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert len(panel["description"]) > 4
        assert panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))


def test_every_panel_reads_the_chosen_prometheus() -> None:
    """No address of one installation in the file."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in dashboard()["panels"]:
        assert all(target["datasource"] == source for target in panel.get("targets", ()))
    assert {variable["name"] for variable in dashboard()["templating"]["list"]} == {"datasource", "run"}


@pytest.mark.parametrize("query", all_queries())
def test_queries_are_promql_on_metrics_that_there_are(query: str) -> None:
    """A parser takes it; what is called ray_cops_… is ours, with our labels. The rest is Ray's (test_scrape.py)."""
    names = metrics_of(query)
    assert names
    assert {name for name in names if "cops" in name} <= OURS.keys()
    for name, labels in labels_of(query).items():
        if name in OURS:
            assert labels <= {telemetry.RUN, *OURS[name].tags, *RAYS_LABELS}


def test_every_metric_of_ours_is_looked_at() -> None:
    """In the dashboard or by an alert; a histogram by two of its three, its sum is no true one."""
    used = {name for query in all_queries() for name in metrics_of(query)}
    unused = {metric.name for metric in telemetry.ALL if not used & set(metric.exported)}
    assert unused == {"cops_image_bytes"}
    assert "ray_cops_batch_seconds_sum" not in used


def test_what_ray_says_of_gpus() -> None:
    """No test of ours sees a GPU: that these names are right is read in Ray's own agent."""
    used = {name for queries in panel_queries().values() for query in queries for name in metrics_of(query)}
    gpu = {name for name in used if "gpu" in name or "gram" in name}
    assert gpu == {"ray_node_gpus_utilization", "ray_node_gram_used"}
    assert gpu <= known_to_ray_agent()


def test_a_broken_query_would_be_seen() -> None:
    """The parser is a real one."""
    with pytest.raises(ValueError, match="parenthesis"):
        promql_parser.parse("sum(rate(ray_cops_model_images_total[2m])")
    assert metrics_of("sum(a) / on (x) max_over_time(b[3d]) > 1 unless rate(c[5m]) or absent_over_time(d[1h])") == set(
        "abcd"
    )
