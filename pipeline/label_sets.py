"""Label sets: what other thresholds make of a committed run's scores, beside the labels that the run itself wrote.

labels/run_id=R/label_set=L/part-*.parquet   one for each part of the run's scores, its rows one for one, in order
label_sets/R/L.json                          the commit: without it L does not exist for readers
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.layout import RunLayout, check_run_id
from pipeline.schema import SCORES

FORMAT = "cops-labels/1"
OWN = "run"
"""The name of what the run itself wrote."""
LABEL_COLUMNS = ("image_threshold", "pred_label", "pixel_threshold", "pred_mask", "mask_area", "regions")
LABELS = pa.schema([SCORES.field(name) for name in ("image_id", *LABEL_COLUMNS)])


@dataclass(frozen=True)
class LabelLayout:
    """Where a label set of a run lies."""

    run: RunLayout
    name: str

    @property
    def folder(self) -> str:
        return f"{label_sets_dir(self.run)}/label_set={self.name}"

    @property
    def record_path(self) -> str:
        return f"{records_dir(self.run)}/{self.name}.json"

    def part_path(self, name: str) -> str:
        return f"{self.folder}/{name}"


def records_dir(run: RunLayout) -> str:
    return run.root.join("label_sets", run.run_id)


def label_sets_dir(run: RunLayout) -> str:
    return run.root.join("labels", f"run_id={run.run_id}")


def check_label_set(name: str) -> str:
    """Raises:  InputError: it is no name for a label set."""
    check_run_id(name, "label set")
    if name == OWN:
        raise InputError(f"label set: {OWN!r} are the labels that the run itself wrote; expected another name")
    return name


def names(run: RunLayout) -> list[str]:
    """What label sets have a record: one LIST."""
    found = run.list_files(records_dir(run), ".json")
    return [path.rpartition("/")[2].removesuffix(".json") for path in found]


class StaleLabelsError(InputError):
    """The run was discarded since, and another scored under its id."""


def committed(run: RunLayout, run_record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The records of the run's label sets by their names; those of a discarded run of its id do not count.

    Raises:  InputError: one is damaged.
    """
    found = {}
    for name in names(run):
        with contextlib.suppress(StaleLabelsError):
            found[name] = label_set_of(run, name, run_record)
    return found


def read_label_set(run: RunLayout, name: str, run_record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The commit record of a label set; None where it is not committed.

    Raises:  InputError: it is no record, of another run or scoring of it, or names files that are not its own.
    """
    layout = LabelLayout(run, check_label_set(name))
    record = run.read_json(layout.record_path)
    if record is not None:
        _check(record, layout, run_record, run.root.uri(layout.record_path))
    return record


def label_set_of(run: RunLayout, name: str, run_record: Mapping[str, Any]) -> dict[str, Any]:
    """As `read_label_set`.

    Raises:  InputError: there is none of this name, either.
    """
    record = read_label_set(run, name, run_record)
    if record is None:
        known = ", ".join([OWN, *names(run)])
        raise InputError(f"{run.root.uri()}: run {run.run_id!r} has no label set {name!r}; it has {known}")
    return record


def files_of(record: Mapping[str, Any], run: RunLayout) -> list[str]:
    """Full paths of a label set's parts, in the order of the parts of the run's scores."""
    return [run.root.inside(file["path"]) for file in record["files"]]


def _check(record: Mapping[str, Any], layout: LabelLayout, run_record: Mapping[str, Any], where: str) -> None:
    run = layout.run
    if record.get("format") != FORMAT:
        raise InputError(f"{where}: expected a record of format {FORMAT}, got {record.get('format')!r:.200}")
    if (record.get("run_id"), record.get("label_set")) != (run.run_id, layout.name):
        raise InputError(f"{where}: expected the labels {layout.name!r} of run {run.run_id!r}; the record has others")
    if record.get("run_committed_at") != run_record["committed_at"]:
        raise StaleLabelsError(
            f"{where}: made for the run {run.run_id!r} of {record.get('run_committed_at')!r:.50}, which was discarded "
            f"since; the one there now was committed {run_record['committed_at']}: label it under another name"
        )
    parts = [file for file in run_record["files"] if file["table"] == "scores"]
    files = record.get("files")
    if not isinstance(files, list) or not _are_pairs(files, parts, layout):
        raise InputError(f"{where}: expected one file for each part of the run's scores; the record has others")


def _are_pairs(files: Sequence[Any], parts: Sequence[Mapping[str, Any]], layout: LabelLayout) -> bool:
    """Whether each file is of this label set's folder, and labels the part of the run that stands in its place."""
    folder = layout.run.below_root(layout.folder)
    return len(files) == len(parts) and all(
        isinstance(file, dict)
        and file.get("scores") == part["path"]
        and file.get("rows") == part["rows"]
        and isinstance(file.get("path"), str)
        and file["path"].rpartition("/")[0] == folder
        and file["path"].endswith(".parquet")
        for file, part in zip(files, parts, strict=True)
    )
