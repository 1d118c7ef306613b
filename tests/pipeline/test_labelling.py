"""Thresholds applied to a committed run, its tasks done here, without Ray: once, whole, and to whom they belong."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_making import MODEL_ID, commit_run, put, score_row

import pipeline
from pipeline import claim, labelling
from pipeline.errors import ClaimError, InputError
from pipeline.labelling import LabelConfig, as_text, label_run
from pipeline.layout import RunLayout
from pipeline.schema import SCORES, with_metadata
from pipeline.thresholds import scoring_rules
from pipeline.upkeep.discard import find_removal, remove

DECODE = {"max_pixels": 100, "max_bytes": 100, "bit_depth_range": None, "alpha_background": "#ffffff"}
LINES = with_metadata(SCORES, {"line": pa.string()})


def tasks_here(work: Callable[[Any], Any], pieces: Iterable[tuple[Any, Any]], **_: Any) -> Iterator[tuple[Any, Any]]:
    return ((key, work(piece)) for key, piece in pieces)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "connect", lambda: None)
    monkeypatch.setattr(labelling, "in_tasks", tasks_here)
    monkeypatch.setattr(labelling, "map_memory", lambda _: 0)
    monkeypatch.setattr(claim, "WATCH_S", 0.1)


def score(layout: RunLayout, **fields: Any) -> str:
    """A committed run of two images; its output."""
    put(layout, "scores", [score_row("a", pred_score=0.4, line="x"), score_row("b", line="y")], LINES)
    config = {"inputs": ["/in"], "model": "tiny", "model_id": MODEL_ID, "decode": DECODE}
    model = {"name": "tiny", "method": "cops", "image_size": 32, "sigma_px": 1.0}
    commit_run(layout, **({"config": config, "model": model} | fields))
    return layout.root.path


def table(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "thresholds.parquet"
    whole = [{"model_id": MODEL_ID, "category": None, "pixel_threshold": None, **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole), path)
    return str(path)


def labels_of(output: str, label_set: str) -> list[int]:
    run = pipeline.open_run(output, label_set=label_set)
    return [label for part in run.tables(["pred_label"]) for label in part["pred_label"].to_pylist()]


def meanwhile(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]) -> None:
    """What another process does and ends while the claim is waited for."""

    def after(layout: RunLayout) -> claim.Claim:
        monkeypatch.setattr(labelling, "take_claim", claim.take_claim)
        what()
        return claim.take_claim(layout)

    monkeypatch.setattr(labelling, "take_claim", after)


@pytest.mark.parametrize("other", [0.45, 0.3])
def test_labels_that_another_process_commits_meanwhile_stay(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch, other: float
) -> None:
    """Of the same thresholds they are complete; others under the same name are refused, and lose no file."""
    output = score(layout)
    config = LabelConfig(output=output, image_threshold=0.45, label_set="tight")
    meanwhile(monkeypatch, lambda: label_run(LabelConfig(output=output, image_threshold=other, label_set="tight")))
    if other == config.image_threshold:
        assert label_run(config).was_complete
    else:
        with pytest.raises(InputError, match="has other labels named 'tight'"):
            label_run(config)
    assert labels_of(output, "tight") == [int(other < 0.4), 1]
    remove(find_removal(output, "r1"))  # nobody holds the run


def test_a_run_that_is_scored_anew_meanwhile(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is labelled is the run that is there."""
    output = score(layout)

    def anew() -> None:
        remove(find_removal(output, "r1"))
        put(layout, "scores", [score_row("c", line="x")], LINES)
        score(layout, committed_at="2026-02-02T00:00:00+00:00")

    meanwhile(monkeypatch, anew)
    label_run(LabelConfig(output=output, image_threshold=0.45, label_set="new"))
    assert sorted(labels_of(output, "new")) == [0, 1, 1]


def test_a_run_that_is_discarded_meanwhile(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of it but the message."""
    output = score(layout)
    meanwhile(monkeypatch, lambda: remove(find_removal(output, "r1")))
    with pytest.raises(InputError, match="run 'r1' has no record"):
        label_run(LabelConfig(output=output, image_threshold=0.45))
    assert not list(Path(output).rglob("*.parquet"))


def test_somebody_works_on_the_run(layout: RunLayout) -> None:
    """Refused before anything is written."""
    output = score(layout)
    with claim.take_claim(layout), pytest.raises(ClaimError, match="being worked on"):
        label_run(LabelConfig(output=output, image_threshold=0.45))
    assert not (Path(output) / "labels").exists()


def test_other_rules_of_decoding(layout: RunLayout, tmp_path: Path) -> None:
    """Scores of pictures that were decoded otherwise mean something else; bounds of memory change no score."""
    output = score(layout)
    alike = table(tmp_path, {"image_threshold": 0.45, "decode": scoring_rules(DECODE | {"max_pixels": 7})})
    assert not label_run(LabelConfig(output=output, thresholds=alike, label_set="alike")).was_complete
    other = table(tmp_path, {"image_threshold": 0.45, "decode": scoring_rules(DECODE | {"bit_depth_range": "0:4095"})})
    with pytest.raises(InputError, match=r'decoded by .*"0:4095".*, these are decoded by .*null.*: calibrate again'):
        label_run(LabelConfig(output=output, thresholds=other))


def test_groups_that_the_thresholds_do_not_know(layout: RunLayout, tmp_path: Path) -> None:
    """How many images took the pooled threshold is told, and warned of where all did."""
    output = score(layout)
    by_line = {"group_by": ["line"], "image_threshold": 0.45}
    some = table(tmp_path, by_line | {"line": "x"}, by_line | {"line": None})
    text = as_text(label_run(LabelConfig(output=output, thresholds=some, label_set="some")))
    assert "  unmatched              1  of no group that the thresholds know" in text
    assert "WARNING" not in text
    none = table(tmp_path, by_line | {"line": "X"}, by_line | {"line": None})
    text = as_text(label_run(LabelConfig(output=output, thresholds=none, label_set="none")))
    assert text.endswith("WARNING: no image's line is one of the thresholds' 1: all took the pooled ones")


def test_parts_of_another_version_are_made_again(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed command left before an upgrade is not taken for this version's."""
    output = score(layout)
    config = LabelConfig(output=output, image_threshold=0.45, label_set="l")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(labelling, "_record", killed)
        patched.setattr(labelling.commit, "versions", lambda: {"cops-inspection": "0.0.1"})
        with pytest.raises(KeyboardInterrupt):
            label_run(config)
    (left,) = (Path(output) / "labels").rglob("*.parquet")
    label_run(config)
    (made,) = (Path(output) / "labels").rglob("*.parquet")
    assert made.name != left.name
