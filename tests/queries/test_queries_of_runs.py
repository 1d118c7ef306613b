"""Questions about runs: drift, new categories, what could not be scored, throughput. Answers by hand, and by SciPy."""

from pathlib import Path

import numpy as np
import pytest
from nights import A, Ask, B, bad, image, night, sql_of, when
from run_making import put
from scipy.stats import chi2, ks_2samp, kstwobign

from pipeline.layout import RunLayout
from pipeline.report import drift as report_drift


def columns(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def images(prefix: str, scores, **fields) -> list[dict]:
    return [image(f"{prefix}{number}", float(score), **fields) for number, score in enumerate(scores)]


def test_drift_that_everybody_sees(output: str, ask: Ask) -> None:
    """40 scores in ten deciles of four; tonight all 40 are above the last one: q = 0.1 in each part, p = 0.9 in one.

    PSI = 9 (1/90 - 1/10) ln(1/9) + (0.9 - 0.1) ln 9 = 1.6 ln 9.
    """
    night(output, "n1", "2026-03-02T04:00", images("p", np.arange(1, 41) / 100))
    night(output, "n2", "2026-03-03T04:00", images("q", [0.9] * 40))
    found = ask("drift")
    assert columns(found, "scope", "category", "verdict", "images", "before") == [
        ("all", None, "drift", 40, 40),
        ("category", "bolt", "drift", 40, 40),
    ]
    assert found[0]["psi"] == pytest.approx(1.6 * np.log(9))
    assert found[0]["ks"] == 1.0
    assert columns(ask("drift", min_images="41"), "verdict", "psi", "ks") == [("too few images", None, None)] * 2


def test_no_drift(output: str, ask: Ask) -> None:
    """The same scores again: 0, and stable."""
    scores = np.arange(1, 41) / 100
    night(output, "n1", "2026-03-02T04:00", images("p", scores))
    night(output, "n2", "2026-03-03T04:00", images("q", scores))
    assert columns(ask("drift"), "verdict", "psi", "ks") == [("stable", 0.0, 0.0)] * 2


def test_the_first_night_has_nothing_to_drift_from(output: str, ask: Ask) -> None:
    """Nor has the first of a model."""
    night(output, "n1", "2026-03-02T04:00", images("p", np.linspace(0, 1, 50)))
    night(output, "b1", "2026-03-03T04:00", images("q", np.linspace(0, 1, 50)), model_id=B)
    assert columns(ask("drift"), "verdict", "before") == [("too few images", 0)] * 2


def test_what_is_compared(output: str, ask: Ask) -> None:
    """So many trailing runs before the night, an image of them once, of its model alone; null categories, too."""
    early, again = [image("x", 0.5, category=None), image("y", 0.25)], [image("x", 0.75, category=None)]
    for at, (run_id, rows) in enumerate((("n1", [image("z", 0.1)]), ("n2", early), ("n3", again), ("n4", again))):
        night(output, run_id, f"2026-03-0{at + 2}T04:00", rows)
    night(output, "b1", "2026-03-04T05:00", [image("z", 0.1)] * 1, model_id=B)
    night(output, "n9", "2026-03-09T04:00", [image("later", 0.9)])
    found = ask("drift", night="n4", trailing_runs="2")
    assert columns(found, "scope", "category", "images", "before", "mean_before") == [
        ("all", None, 1, 2, pytest.approx(0.5)),  # x of n3, y of n2
        ("category", None, 1, 1, pytest.approx(0.75)),
    ]


def test_what_is_compared_where_names_are_overwritten(output: str, ask: Ask) -> None:
    """Two pictures of one name are two images; the same bytes under it are one."""
    for number, (score, content) in enumerate([(0.5, "h1"), (0.25, "h2"), (0.75, "h2"), (0.5, "h3")]):
        night(output, f"n{number}", f"2026-03-0{number + 2}T04:00", [image("x", score, content_hash=content)])
    (found, _) = ask("drift")
    assert (found["before"], found["mean_before"]) == (2, pytest.approx(0.625))


@pytest.mark.parametrize("seed", range(3))
def test_drift_by_scipy(output: str, ask: Ask, seed: int) -> None:
    """PSI by NumPy, D by SciPy, on scores with many ties, and as the report has them; chance by SciPy."""
    rng = np.random.default_rng(seed)
    before, now = (np.round(rng.beta(1, 4 - shift, count), 2).astype("f4") for shift, count in ((0, 400), (1, 90)))
    before[:100] = 0.0
    night(output, "n1", "2026-03-02T04:00", images("p", before))
    night(output, "n2", "2026-03-03T04:00", images("q", now))
    found = ask("drift")[0]
    edges = np.unique(np.quantile(before, np.arange(1, 10) / 10, method="inverted_cdf"))
    p, q = (np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) + 0.5 for side in (now, before))
    p, q = p / p.sum(), q / q.sum()
    assert found["psi"] == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert found["ks"] == pytest.approx(ks_2samp(now, before).statistic)
    size = 1 / 90 + 1 / 400
    assert found["psi_chance"] == pytest.approx(chi2.ppf(0.99, len(edges)) * size, rel=0.01)
    assert found["ks_chance"] == pytest.approx(kstwobign.ppf(0.99) * size**0.5, rel=1e-3)
    values = np.unique(np.concatenate([now, before]))
    counts = [np.bincount(np.searchsorted(values, side), minlength=len(values)) for side in (now, before)]
    assert (found["psi"], found["ks"]) == pytest.approx((report_drift.psi(*counts)[0], report_drift.ks(*counts)))


def test_the_same_rule_as_in_the_report(output: str) -> None:
    """Its limits, as the query and its heading have them."""
    sql = sql_of("drift")
    assert f"psi >= greatest({report_drift.PSI_LIMIT:.2f}, psi_chance)" in sql
    assert f"ks >= greatest({report_drift.KS_LIMIT:.2f}, ks_chance)" in sql
    assert f"getvariable('min_images')::INTEGER, {report_drift.MIN_IMAGES})" in sql


def test_new_categories(output: str, ask: Ask) -> None:
    """New is what no earlier run had; gone what the run before had and this one lacks. A null category is one, too."""
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.1, category="old"), image("q", 0.1)])
    night(output, "n2", "2026-03-03T04:00", [image("q", 0.1), image("r", 0.2, category="nut")])
    rows = [image("q", 0.1), image("s", 0.75, category=None), image("t", 0.25, category=None, image_threshold=None)]
    night(output, "n3", "2026-03-04T04:00", rows)
    names = ("status", "category", "images", "with_threshold", "flagged", "highest_score", "images_before", "last_seen")
    assert columns(ask("new_categories"), *names) == [
        ("new", None, 2, 1, 1, 0.75, 0, None),
        ("gone", "nut", 0, None, None, None, 1, when("2026-03-03T04:00")),
    ]
    assert columns(ask("new_categories", night="n2"), "status", "category") == [("new", "nut"), ("gone", "old")]
    assert columns(ask("new_categories", night="n1"), "status", "category") == [("new", "bolt"), ("new", "old")]


def test_quarantine_by_reason(output: str, ask: Ask) -> None:
    """Shares are of all planned images; beside them the share that was usual."""
    night(output, "n1", "2026-03-02T04:00", images("p", [0.1] * 9), [bad("x")])
    night(output, "n2", "2026-03-03T04:00", images("p", [0.1] * 9), [bad("x", reason="empty")])
    rows = [bad("x"), bad("y"), bad("z", stage="read", reason="not_found", message="it is not there")]
    night(output, "n3", "2026-03-04T04:00", images("p", [0.1] * 7), rows)
    found = ask("quarantine_by_reason")
    assert columns(found, "stage", "reason", "images", "share", "share_before", "example_uri") == [
        ("decode", "truncated", 2, 0.2, 0.05, "/in/x.png"),
        ("read", "not_found", 1, 0.1, 0.0, "/in/z.png"),
    ]
    assert found[1]["example"] == "it is not there"
    assert columns(ask("quarantine_by_reason", trailing_runs="1"), "share_before") == [(0.0,), (0.0,)]
    assert columns(ask("quarantine_by_reason", night="n1"), "reason", "share_before") == [("truncated", None)]


def test_never_scored(output: str, ask: Ask) -> None:
    """Bad and not scored since; told apart from what was scored before it went bad."""
    night(output, "n1", "2026-03-02T04:00", [image("lost", 0.1)], [bad("mended"), bad("never", reason="empty")])
    night(output, "n2", "2026-03-03T04:00", [image("mended", 0.1)], [bad("never"), bad("lost", stage="read")])
    names = ("image_uri", "stage", "reason", "runs", "scored_before", "first_seen", "last_seen")
    assert columns(ask("never_scored"), *names) == [
        ("/in/never.png", "decode", "truncated", 2, False, when("2026-03-02T04:00"), when("2026-03-03T04:00")),
        ("/in/lost.png", "read", "truncated", 1, True, when("2026-03-03T04:00"), when("2026-03-03T04:00")),
    ]


def test_nothing_in_quarantine(output: str, ask: Ask) -> None:
    """No file at all of that table: an empty answer."""
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.1)])
    assert ask("never_scored") == []
    assert ask("quarantine_by_reason") == []


def test_throughput(output: str, ask: Ask) -> None:
    """As the record has it: 200 bytes in 61 s, half a second a stage and part."""
    night(output, "n1", "2026-03-02T04:00", images("p", [0.1, 0.2]), execution={"device": "cpu"})
    (found,) = ask("throughput")
    assert found["mb_per_s"] == pytest.approx(200 / 1e6 / 61)
    assert columns(
        [found], "run_id", "scored", "images_per_s", "wall_s", "read_s", "score_s", "device", "precision"
    ) == [("n1", 2, 2.5, 61.0, 0.5, 0.5, "cpu", "float32")]


def test_throughput_of_a_resumed_run(output: str, ask: Ask) -> None:
    """Its wall clock is the last attempt's, in which not all bytes were read."""
    night(output, "n1", "2026-03-02T04:00", images("p", [0.1, 0.2]), attempts=2)
    assert columns(ask("throughput"), "attempts", "wall_s", "mb_per_s") == [(2, 61.0, None)]


def test_a_record_of_an_earlier_version(output: str, ask: Ask) -> None:
    """What it does not tell is null."""
    night(output, "n1", "2026-03-02T04:00", images("p", [0.1]), seconds={}, versions={})
    assert columns(ask("throughput"), "wall_s", "read_s", "device", "model") == [(None, None, None, "tiny")]


def test_models_are_told(output: str, ask: Ask) -> None:
    """Rates of several models stand in rows of their own, each with its model."""
    night(output, "n1", "2026-03-02T04:00", images("p", [0.1]))
    night(output, "b1", "2026-03-03T04:00", images("p", [0.9]), model_id=B)
    assert columns(ask("anomaly_rate_over_time"), "model_id", "rate") == [(A, 0.0), (B, 1.0)]


def test_committed_files(output: str, ask: Ask) -> None:
    """Each part by its path below the output, none of a run without a record."""
    run = night(output, "n1", "2026-03-02T04:00", images("p", [0.1, 0.2]), [bad("x")])
    put(RunLayout.at(output, "going"), "scores", [image("y", 0.1)])
    found = ask("committed_files")
    parts = [*run.parts("scores"), *run.parts("quarantine")]
    assert columns(found, "run_id", "table", "path", "rows") == [
        ("n1", "scores", run.below_root(parts[0]), 2),
        ("n1", "quarantine", run.below_root(parts[1]), 1),
    ]
    assert [row["num_bytes"] for row in found] == [Path(part).stat().st_size for part in parts]
