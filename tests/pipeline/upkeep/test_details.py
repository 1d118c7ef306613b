"""One run in full, for people and for programs."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from run_making import bad_row, commit_run, leave_plan, make_run, put, record_of, score_row

from pipeline.config import ScoreConfig
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.upkeep.details import changed_settings, details
from pipeline.upkeep.text import as_json, details_text


def rot(part: Path) -> None:
    """Its footer stays, its pages do not."""
    data = bytearray(part.read_bytes())
    data[4:600] = bytes(596)
    part.write_bytes(data)


def test_why_images_are_bad(layout: RunLayout) -> None:
    """Counted by stage and reason, the most frequent first."""
    put(layout, "scores", [score_row("a")])
    put(layout, "quarantine", [bad_row("b"), bad_row("c"), bad_row("d", stage="read", reason="empty")])
    commit_run(layout)
    assert details(layout.root.path, "r1").reasons == (("decode", "truncated", 2), ("read", "empty", 1))


def test_the_text_of_a_committed_run(layout: RunLayout) -> None:
    """Status, counts, model, settings, reasons, seconds, versions and files."""
    make_run(layout, warnings=["odd\x1b[2J"])
    told = details_text(details(layout.root.path, None))
    for line in (
        "Run r1: committed",
        "  committed    2026-01-02 03:04 UTC, attempt 1, took 1 min 1 s",
        f"  model        tiny (cops, float32), {'m' * 32}",
        "  quarantined  1 (25.0%)",
        "  warnings     odd\\x1b[2J",
        '    inputs           ["/in"]',
        "    limit            7",
        "           1  decode: truncated",
        "         1.5  score",
        "    python 3",
    ):
        assert line in told.splitlines()
    assert told.count("scores/run_id=r1/part-") == 2


@pytest.mark.parametrize("name", ["config", "seconds", "versions", "attempts", "warnings"])
def test_a_record_that_lacks_something_is_told(layout: RunLayout, name: str) -> None:
    """One clear error instead of a traceback."""
    record = record_of(layout)
    del record[name]
    layout.write_json(layout.commit_path, record)
    words = rf"runs/r1\.json: expected a whole record; missing or of a wrong type: '{name}'"
    with pytest.raises(InputError, match=words):
        details_text(details(layout.root.path, "r1"))


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no Parquet"), rot])
def test_a_quarantine_that_cannot_be_read_is_told(layout: RunLayout, damage: Callable[[Path], object]) -> None:
    """Of which run, why, and what looks into it."""
    put(layout, "scores", [score_row("a")])
    part = put(layout, "quarantine", [bad_row("b")])
    commit_run(layout)
    damage(part)
    words = r"the quarantine of run 'r1' cannot be read: .*; `jobs/runs\.py verify r1` tells what is wrong"
    with pytest.raises(InputError, match=words):
        details(layout.root.path, "r1")


def test_the_text_of_a_stopped_run(layout: RunLayout) -> None:
    """What is known of it, and the way on."""
    leave_plan(layout, 5)
    put(layout, "scores", [score_row("a")])
    told = details_text(details(layout.root.path, "r1"))
    assert told.startswith("Run r1: stopped\n")
    words = " ".join(told.split())
    assert "planned 5 stopped; 1 of 5 images written; the same jobs/score.py command with --run-id r1 goes on" in words
    assert max(map(len, told.splitlines())) <= 80


def test_long_lists_are_cut_for_people(layout: RunLayout) -> None:
    """A run of many files is told by its first ones; programs get all."""
    for at in range(60):
        put(layout, "scores", [score_row(f"{at}")])
    commit_run(layout)
    found = details(layout.root.path, "r1")
    assert details_text(found).splitlines()[-1] == "  and 10 more (--json tells all)"
    assert len(found.record["files"]) == 60


def test_it_is_json_too(layout: RunLayout) -> None:
    """State and record, times as ISO 8601."""
    make_run(layout)
    found = details(layout.root.path, "r1")
    told = json.loads(as_json({"state": asdict(found.state), "record": found.record}))
    assert told["state"]["at"] == "2026-01-02T03:04:00+00:00"
    assert told["record"] == record_of(layout)


def config_of(config: ScoreConfig) -> dict[str, Any]:
    """As pipeline.attempt.identity has it in a record."""
    kept = ("format", "incremental", "category", "path_fields", "image_column", "thresholds", "limit")
    given = {name: getattr(config, name) for name in kept} | {"image_threshold": config.image_threshold}
    given |= {"inputs": list(config.inputs), "keep_columns": list(config.keep_columns), "thresholds_digest": None}
    return given | {"model": "tiny", "model_id": "m", "precision": "float32", "decode": config.decode.record()}


def test_settings_that_everybody_has_are_not_told() -> None:
    """Nothing but the inputs by default; what was asked else, decoding included."""
    assert changed_settings({"config": config_of(ScoreConfig(inputs=("a",)))}) == {"inputs": ["a"]}
    rules = DecodeRules(max_pixels=7, scaled_jpeg=True)
    asked = ScoreConfig(inputs=("a",), incremental=True, keep_columns=("x",), image_threshold=0.5, decode=rules)
    told = {"incremental": True, "keep_columns": ["x"], "image_threshold": 0.5, "max_pixels": 7, "scaled_jpeg": True}
    assert changed_settings({"config": config_of(asked)}) == {"inputs": ["a"], **told}
