"""A run's config: what cannot be meant is refused before anything starts, in words that name the flag."""

import datetime
from typing import Any

import pytest

from pipeline.config import ScoreConfig, new_run_id
from pipeline.errors import InputError


def make(**fields: Any) -> ScoreConfig:
    return ScoreConfig(**({"inputs": ("in",), "run_id": "r"} | fields))


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"inputs": ()}, "--input"),
        ({"run_id": ""}, "--run-id"),
        ({"run_id": "../up"}, "--run-id"),
        ({"run_id": ".hidden"}, "--run-id"),
        ({"run_id": "a/b"}, "--run-id"),
        ({"run_id": "a\n"}, "--run-id"),
        ({"run_id": "x" * 129}, "--run-id"),
        ({"thresholds": "t", "pixel_threshold": 0.5}, "--thresholds"),
        ({"thresholds": "t", "image_threshold": 0.5}, "--thresholds"),
        ({"inputs": ("a", "")}, "--input"),
        ({"output": ""}, "--output"),
        ({"output": " "}, "--output"),
        ({"model": ""}, "--model"),
        ({"image_threshold": 1.01}, "--image-threshold"),
        ({"pixel_threshold": -1.0}, "--pixel-threshold"),
        ({"pixel_threshold": float("nan")}, "--pixel-threshold"),
        ({"max_error_fraction": -0.1}, "--max-error-fraction"),
        ({"max_error_fraction": 1.1}, "--max-error-fraction"),
        ({"max_error_fraction": float("nan")}, "--max-error-fraction"),
        ({"limit": 0}, "--limit"),
        ({"batch_size": 0}, "--batch-size"),
        ({"category": "screw", "path_fields": "{category}/{name}"}, "--category"),
        ({"path_fields": "plain"}, "--path-fields"),
        ({"actors": "0"}, "--actors"),
        ({"actors": "2:1"}, "--actors"),
        ({"actors": "-1:1"}, "--actors"),
        ({"actors": "a:b"}, "--actors"),
        ({"actors": ""}, "--actors"),
    ],
)
def test_values_that_cannot_be_meant(fields: dict[str, Any], flag: str) -> None:
    """The error names the flag."""
    with pytest.raises(InputError, match=flag):
        make(**fields)


@pytest.mark.parametrize(("actors", "expected"), [(None, None), ("3", (3, 3)), ("1:4", (1, 4)), ("2:2", (2, 2))])
def test_actors_as_a_range(actors: str | None, expected: tuple[int, int] | None) -> None:
    """MIN:MAX, or one number for exactly that many."""
    assert make(actors=actors).actor_range() == expected


def test_the_ends_of_ranges_are_allowed() -> None:
    """Thresholds and error fractions of 0 and 1 mean something."""
    config = make(image_threshold=1.0, pixel_threshold=0.0, max_error_fraction=0.0, limit=1, batch_size=1)
    assert (config.image_threshold, config.limit) == (1.0, 1)
    assert make(max_error_fraction=1.0, run_id="x" * 128).max_error_fraction == 1.0


def test_the_default_run_id_is_the_time() -> None:
    """Sortable, in UTC, and a run id by its own rule."""
    name = new_run_id()
    at = datetime.datetime.strptime(name, "run-%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=datetime.UTC)
    assert abs((datetime.datetime.now(datetime.UTC) - at).total_seconds()) < 5
    assert make(run_id=name).run_id == name


def test_path_fields_become_a_template() -> None:
    """Given, they are parsed; not given, there is none."""
    template = make(path_fields="{line}/{name}").path_template
    assert template is not None
    assert template.fields == ("line", "name")
    assert make().path_template is None
