"""Questions about shares of images, thresholds and areas. Each answer is worked out by hand."""

import datetime

import duckdb
import pytest
from nights import A, Ask, B, image, label_set, night, when

from pipeline.errors import InputError


def columns(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def test_anomaly_rate_over_time(output: str, ask: Ask) -> None:
    """1 of 4 has a rate of 0.25, from 0.0456 to 0.6994 by Wilson; an image without a threshold is in neither number."""
    scores = (0.1, 0.2, 0.3, 0.6)
    free = image("free", 0.9, image_threshold=None)
    night(output, "n1", "2026-03-02T04:00", [*(image(str(score), score) for score in scores), free])
    night(output, "b1", "2026-03-03T04:00", [image("p", 0.9)], model_id=B)
    night(output, "n2", "2026-03-04T04:00", [image("p", 0.6), image("q", 0.1, category="nut")])
    found = ask("anomaly_rate_over_time")
    assert columns(found, "run_id", "images", "labelled", "flagged", "rate", "change") == [
        ("n1", 5, 4, 1, 0.25, None),
        ("b1", 1, 1, 1, 1.0, None),
        ("n2", 2, 2, 1, 0.5, 0.25),  # from n1: b1 is of another model
    ]
    assert (found[0]["rate_low"], found[0]["rate_high"]) == pytest.approx((0.0456, 0.6994), abs=1e-4)
    assert found[1]["rate_high"] == 1.0
    assert columns(ask("anomaly_rate_over_time", category="nut"), "category", "run_id", "rate", "rate_low") == [
        ("nut", "n2", 0.0, 0.0)
    ]
    assert columns(ask("anomaly_rate_over_time", per_category="true"), "category", "run_id", "flagged") == [
        ("bolt", "n1", 1),
        ("bolt", "b1", 1),
        ("bolt", "n2", 1),
        ("nut", "n2", 0),
    ]


def test_a_rate_of_nothing(output: str, ask: Ask) -> None:
    """A run without thresholds has no rate: null, not 0."""
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.9, image_threshold=None)])
    assert columns(ask("anomaly_rate_over_time"), "images", "labelled", "rate", "rate_low") == [(1, 0, None, None)]


def test_defect_area_by_category_and_week(output: str, ask: Ask) -> None:
    """Sunday and Monday are two weeks; an image counts once a week, as its last run has it; no mask is no 0."""
    first = [image("p", 0.9, mask_area=100), image("q", 0.1, mask_area=0), image("r", 0.9, mask_area=None)]
    night(output, "n1", "2026-03-07T04:00", first)
    night(output, "n2", "2026-03-08T23:30", [image("p", 0.9, mask_area=300), image("s", 0.9, mask_area=50)])
    night(output, "n3", "2026-03-09T04:00", [image("p", 0.9, mask_area=1000, pixel_threshold=0.25, category=None)])
    found = ask("defect_area_by_category_and_week")
    week1, week2 = datetime.date(2026, 3, 2), datetime.date(2026, 3, 9)
    assert columns(
        found, "category", "week", "images", "with_mask", "with_defect", "defect_px", "median_defect_px"
    ) == [
        ("bolt", week1, 4, 3, 2, 350, 175.0),
        (None, week2, 1, 1, 1, 1000, 1000.0),
    ]
    assert [row["defect_share"] for row in found] == pytest.approx([350 / 15000, 1000 / 5000])
    assert [row["pixel_thresholds"] for row in found] == [[pytest.approx(0.3)], [0.25]]


def test_weeks_of_a_time_zone(output: str, ask: Ask) -> None:
    """Half past eleven on a Sunday in UTC is Monday in Berlin."""
    night(output, "n1", "2026-03-08T23:30", [image("p", 0.9)])
    assert columns(ask("defect_area_by_category_and_week"), "week") == [(datetime.date(2026, 3, 2),)]
    (berlin,) = ask("defect_area_by_category_and_week", time_zone="Europe/Berlin")
    assert berlin["week"] == datetime.date(2026, 3, 9)


def test_a_night_counts_in_one_week(output: str, ask: Ask) -> None:
    """That of its commit, whole: what was scored on Sunday evening belongs to a run that was committed on Monday."""
    late, early = when("2026-03-08T22:30"), when("2026-03-09T03:30")
    night(output, "n1", "2026-03-09T04:00", [image("p", 0.9, scored_at=late), image("q", 0.9, scored_at=early)])
    found = ask("defect_area_by_category_and_week")
    assert columns(found, "week", "images") == [(datetime.date(2026, 3, 9), 2)]


def test_areas_of_two_models_are_apart(output: str, ask: Ask) -> None:
    """Never one figure from two models."""
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.9, mask_area=100)])
    night(output, "b1", "2026-03-02T05:00", [image("p", 0.9, mask_area=7)], model_id=B)
    assert columns(ask("defect_area_by_category_and_week"), "model_id", "defect_px") == [(A, 100), (B, 7)]


def test_threshold_what_if(output: str, ask: Ask) -> None:
    """In all and per category; at the threshold is anomalous in float32, as in a run; of the last run's model."""
    night(output, "b1", "2026-03-01T04:00", [image("x", 0.9)], model_id=B)
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.7), image("q", 0.2)])
    night(output, "n2", "2026-03-03T04:00", [image("p", 0.7), image("r", 0.55), image("s", 0.8, category=None)])
    found = ask("threshold_what_if", thresholds="[0.1, 0.7]")
    names = ("scope", "category", "threshold", "images", "flagged", "share", "newly_flagged", "no_longer_flagged")
    assert columns(found, *names) == [
        ("all", None, 0.1, 4, 4, 1.0, 1, 0),
        ("all", None, 0.7, 4, 2, 0.5, 0, 1),
        ("category", "bolt", 0.1, 3, 3, 1.0, 1, 0),
        ("category", "bolt", 0.7, 3, 1, pytest.approx(1 / 3), 0, 1),
        ("category", None, 0.1, 1, 1, 1.0, 0, 0),
        ("category", None, 0.7, 1, 1, 1.0, 0, 0),
    ]
    assert {row["flagged_now"] for row in found if row["scope"] == "all"} == {3}
    assert columns(ask("threshold_what_if", thresholds="[0.7]", night="n1")[:1], "images", "flagged") == [(2, 1)]
    assert columns(ask("threshold_what_if", thresholds="[0.7]", night="b1")[:1], "images", "flagged") == [(1, 1)]
    assert [row["threshold"] for row in ask("threshold_what_if")[:9]] == pytest.approx([n / 10 for n in range(1, 10)])


def test_threshold_what_if_with_truth(output: str, ask: Ask) -> None:
    """Defects found and false alarms; an image whose truth is not known is left out."""
    images = [image("p", 0.9, defect="dent"), image("q", 0.3, defect="dent"), image("r", 0.6), image("s", 0.1)]
    night(output, "n1", "2026-03-02T04:00", [*images, image("t", 0.9, defect=None)])
    names = ("defects", "found", "recall", "normals", "false_alarms", "false_alarm_rate", "precision")
    found = ask("threshold_what_if_with_truth", thresholds="[0.5, 0.95]")
    assert columns(found[:2], *names) == [(2, 1, 0.5, 2, 1, 0.5, 0.5), (2, 0, 0.0, 2, 0, 0.0, None)]
    (other, _) = ask("threshold_what_if_with_truth", thresholds="[0.5]", normal="dent")
    assert columns([other], "defects", "found", "normals", "false_alarms") == [(2, 1, 2, 1)]


def test_a_name_that_was_overwritten(output: str, ask: Ask) -> None:
    """Cameras begin their names anew each night: two pictures of one name are two images, the same bytes are one."""
    for number, (score, content) in enumerate([(0.9, "h1"), (0.2, "h2"), (0.3, "h2")]):
        rows = [image("p", score, content_hash=content, defect="dent", mask_area=10 * number + 1)]
        night(output, f"n{number}", f"2026-03-0{number + 2}T04:00", rows)
    (found, _) = ask("threshold_what_if", thresholds="[0.25]")
    assert (found["images"], found["flagged"]) == (2, 2)
    (found, _) = ask("threshold_what_if_with_truth", thresholds="[0.5]")
    assert (found["defects"], found["found"]) == (2, 1)
    (found,) = ask("defect_area_by_category_and_week")
    assert (found["images"], found["defect_px"]) == (2, 1 + 21)


def test_label_sets_compare(output: str, ask: Ask) -> None:
    """What another label set takes in and lets go, per category and in all."""
    images = [image("p", 0.9, mask_area=100), image("q", 0.55), image("r", 0.4, category="nut"), image("s", 0.1)]
    run = night(output, "n1", "2026-03-02T04:00", images)
    new = {"p": (1, 40), "q": (0, 0), "r": (1, 7), "s": (None, None)}
    rows = [{"image_id": name, "pred_label": label, "mask_area": area} for name, (label, area) in new.items()]
    label_set(run, "strict", rows)
    names = ("scope", "category", "before", "after", "images", "flagged_before", "flagged_after", "newly_flagged")
    more = ("no_longer_flagged", "unlabelled_after", "defect_px_before", "defect_px_after")
    found = ask("label_sets_compare")
    assert columns(found, *names, *more) == [
        ("all", None, "run", "strict", 4, 2, 2, 1, 1, 1, 100, 47),
        ("category", "bolt", "run", "strict", 3, 2, 1, 0, 1, 1, 100, 40),
        ("category", "nut", "run", "strict", 1, 0, 1, 1, 0, 0, 0, 7),
    ]
    back = ask("label_sets_compare", before="strict", after="run")[0]
    assert (back["newly_flagged"], back["no_longer_flagged"]) == (1, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [({}, "no other label set"), ({"after": "nope"}, "no label set nope"), ({"before": "x", "after": "run"}, "set x")],
)
def test_a_label_set_that_is_not_there(output: str, ask: Ask, values: dict[str, str], message: str) -> None:
    """An error that names it, not an empty answer."""
    night(output, "n1", "2026-03-02T04:00", [image("p", 0.9)])
    with pytest.raises((InputError, duckdb.Error), match=message):
        ask("label_sets_compare", **values)
