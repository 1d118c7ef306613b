"""New labels and masks for a committed run, without inference: its scores under other thresholds, as a label set."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cops.shown import shown
from pipeline import commit
from pipeline.claim import Claim, take_claim
from pipeline.config import check_threshold
from pipeline.errors import ClaimError, InputError
from pipeline.execution import connect, map_memory
from pipeline.failures import as_run_errors
from pipeline.fan_out import in_tasks
from pipeline.label_sets import FORMAT, LABELS, LabelLayout, check_label_set, read_label_set
from pipeline.localize import Localize
from pipeline.parts import footer_digest, parquet_bytes, read_part
from pipeline.runs import Run, map_settings, open_run
from pipeline.schema import SCORES
from pipeline.storage import Root, redact, refuse_credentials, remove_file, remove_tree, write_atomic
from pipeline.store_errors import with_patience
from pipeline.thresholds import Threshold, Thresholds, read_thresholds

_READ = ("image_id", "width", "height", "pred_score", "patch_scores", "map_size")
_ROWS_AT_ONCE = 256  # of a part, as Python objects


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """One run of jobs/label.py. Raises InputError where a value cannot be meant."""

    output: str = "out/"
    run_id: str | None = None
    label_set: str | None = None
    thresholds: str | None = None
    image_threshold: float | None = None
    pixel_threshold: float | None = None

    def __post_init__(self) -> None:
        given = {"--image-threshold": self.image_threshold, "--pixel-threshold": self.pixel_threshold}
        for name, value in given.items():
            if value is not None:
                check_threshold(name, value)
        has_numbers = any(value is not None for value in given.values())
        if bool(self.thresholds) == has_numbers:
            raise InputError("give either --thresholds, or --image-threshold and --pixel-threshold or one of these")
        if self.label_set is not None:
            check_label_set(self.label_set)
        for uri in filter(None, (self.output, self.thresholds)):
            refuse_credentials(uri)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The committed record of a label set; `was_complete` where there was nothing left to do."""

    record: dict[str, Any]
    layout: LabelLayout
    was_complete: bool


def label_run(config: LabelConfig) -> Labelled:
    """Apply thresholds to a committed run, the last one where none is named, and commit them as a label set.

    What is there already of the same thresholds is not done again.
    Raises:  InputError: there is no such run, the thresholds are of another model or by columns that the run has not,
             or there are other labels under this name.
             RunError: a store or Ray failed; the same command goes on.
    """
    with as_run_errors("The same command may be given again, and goes on", what="the labelling stopped"):
        task = _look(config, config.run_id)
        if task.known is not None:
            return Labelled(record=task.known, layout=task.layout, was_complete=True)
        with take_claim(task.run.layout) as claim:  # nobody labels or discards it meanwhile
            task = _look(config, task.run.run_id)  # somebody may have, while the claim was waited for
            record = task.known or _commit(config, task, claim)
            claim.stop_renewing()
            remove_tree(task.run.layout.root.fs, task.run.layout.work_dir)
        return Labelled(record=record, layout=task.layout, was_complete=task.known is not None)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is to be labelled by what; `known` is the record of it, if there is one."""

    run: Run
    thresholds: Thresholds
    layout: LabelLayout
    known: dict[str, Any] | None


def _look(config: LabelConfig, run_id: str | None) -> _Task:
    """Raises what `label_run` raises of wrong use."""
    run = open_run(config.output, run_id)
    thresholds = _thresholds(config, run)
    layout = LabelLayout(run.layout, config.label_set or f"labels-{thresholds.digest[:8]}")
    known = read_label_set(run.layout, layout.name, run.record)
    if known is not None:
        _check_same(known, thresholds, layout)
    return _Task(run=run, thresholds=thresholds, layout=layout, known=known)


def _commit(config: LabelConfig, task: _Task, claim: Claim) -> dict[str, Any]:
    """Raises:  ClaimError: another process committed labels of this name, or took the run over."""
    files = _write_parts(task)
    _remove_others(task.layout, {file["path"] for file in files})
    record = _record(config, task, files)
    with_patience(claim.check, task.run.layout.root.uri())
    try:
        task.run.layout.write_json(task.layout.record_path, record, once=True)
    except FileExistsError as exc:
        raise ClaimError(f"label set {task.layout.name!r} was committed by another process at this moment") from exc
    return record


def _thresholds(config: LabelConfig, run: Run) -> Thresholds:
    """Raises:  InputError: they cannot be used with this run."""
    if config.thresholds is None:
        return Thresholds(Threshold(config.image_threshold, config.pixel_threshold))
    thresholds = read_thresholds(config.thresholds, run.record["model_id"], run.record["config"]["decode"])
    own = [one for one in run.scores.schema if one.name not in SCORES.names]
    where = f"run {run.run_id!r}"
    thresholds.require_columns({"category": pa.string(), **{one.name: one.type for one in own}}, where=where)
    return thresholds


def _check_same(known: Mapping[str, Any], thresholds: Thresholds, layout: LabelLayout) -> None:
    if known["thresholds_digest"] != thresholds.digest:
        raise InputError(
            f"run {layout.run.run_id!r} has other labels named {layout.name!r} (of thresholds {known['thresholds']}, "
            f"{known['committed_at']}): give another --label-set"
        )


@dataclass(frozen=True, kw_only=True)
class _LabelPart:
    """A task's work: one part of the scores becomes one part of the labels.

    Its name tells scores, thresholds and version, so what is there under it already is what would be written.
    """

    layout: LabelLayout
    localize: Localize

    def __call__(self, piece: tuple[int, Mapping[str, Any]]) -> dict[str, Any]:
        number, scores = piece
        root, by = self.layout.run.root, self.localize.thresholds
        told = [
            scores["path"],
            scores.get("footer_sha256"),
            by.digest,
            self.localize.image_size,
            self.localize.sigma_px,
            commit.versions()["cops-inspection"],
        ]
        digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()
        path = self.layout.part_path(f"part-{number:05d}-{scores['rows']}-{digest}.parquet")
        uri = root.uri(path)
        if not with_patience(lambda: root.fs.exists(path), uri):
            data = parquet_bytes(self._labels(root, root.inside(scores["path"]), scores["rows"]))
            with_patience(lambda: write_atomic(root.fs, path, data), uri)
        described = with_patience(lambda: _described(self.layout, path), uri)
        return {"scores": scores["path"], "unmatched": self._unmatched(root, root.inside(scores["path"])), **described}

    def _unmatched(self, root: Root, path: str) -> int:
        """How many images are of no group that the thresholds know."""
        by = self.localize.thresholds
        groups = read_part(root, path, by.by).select(by.by).to_pylist()
        return sum(tuple(row.values()) not in by.by_group for row in groups)

    def _labels(self, root: Root, path: str, rows: int) -> pa.Table:
        scores = read_part(root, path, [*_READ, *self.localize.thresholds.by])
        if len(scores) != rows:
            raise InputError(f"{root.uri(path)}: expected {rows:,} rows as recorded, got {len(scores):,}")
        several = [
            pa.Table.from_pylist(
                [{"image_id": row["image_id"], **self.localize.verdict(row)} for row in batch.to_pylist()], LABELS
            )
            for batch in scores.to_batches(_ROWS_AT_ONCE)
        ]
        return pa.concat_tables(several) if several else LABELS.empty_table()


def _described(layout: LabelLayout, path: str) -> dict[str, Any]:
    """How the record names a part."""
    root = layout.run.root
    with root.fs.open(path, "rb") as file:
        labels = pq.read_table(file, columns=["pred_label", "mask_area"])
        digest, size = footer_digest(file), file.seek(0, 2)
    return {
        "path": layout.run.below_root(path),
        "rows": len(labels),
        "num_bytes": size,
        "footer_sha256": digest,
        "labelled": len(labels) - labels["pred_label"].null_count,
        "anomalous": int(pc.sum(labels["pred_label"]).as_py() or 0),
        "masked": int(pc.sum(pc.greater(labels["mask_area"], 0)).as_py() or 0),
    }


def _write_parts(task: _Task) -> list[dict[str, Any]]:
    run, layout, thresholds = task.run, task.layout, task.thresholds
    parts = [file for file in run.record["files"] if file["table"] == "scores"]
    connect()
    work = _LabelPart(layout=layout, localize=Localize(thresholds=thresholds, metadata={}, **map_settings(run.record)))
    largest = int(run.record["config"]["decode"]["max_pixels"])
    has_masks = any(one.pixel is not None for one in (thresholds.pooled, *thresholds.by_group.values()))
    pieces = ((None, (number, part)) for number, part in enumerate(parts))
    return [made for _, made in in_tasks(work, pieces, memory=map_memory(largest * has_masks))]


def _remove_others(layout: LabelLayout, kept: set[str]) -> None:
    """Parts in the label set's folder that an earlier try left with other thresholds, and did not commit."""
    run = layout.run
    for path in run.list_files(layout.folder, ".parquet"):
        if run.below_root(path) not in kept:
            with_patience(partial(remove_file, run.root.fs, path), run.root.uri(path))


def _record(config: LabelConfig, task: _Task, files: list[dict[str, Any]]) -> dict[str, Any]:
    run, layout, thresholds = task.run, task.layout, task.thresholds
    counts = {name: sum(file.pop(name) for file in files) for name in ("labelled", "anomalous", "masked", "unmatched")}
    groups = [
        {"group": list(group), "image": one.image, "pixel": one.pixel}
        for group, one in sorted(thresholds.by_group.items(), key=lambda item: str(item[0]))
    ]
    return {
        "format": FORMAT,
        "run_id": run.run_id,
        "run_committed_at": run.record["committed_at"],
        "label_set": layout.name,
        "committed_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "model_id": run.record["model_id"],
        "thresholds": redact(config.thresholds) if config.thresholds else None,
        "thresholds_digest": thresholds.digest,
        "pooled": asdict(thresholds.pooled),
        "by": list(thresholds.by),
        "groups": groups,
        "versions": commit.versions(),
        "git_commit": commit.git_commit(),
        "counts": {"images": sum(file["rows"] for file in files), **counts},
        "files": files,
    }


def as_text(labelled: Labelled) -> str:
    """What came of it, with the paths written."""
    record, layout = labelled.record, labelled.layout
    counts, uri = record["counts"], layout.run.root.uri
    name = f"Label set {layout.name} of run {layout.run.run_id}"
    if labelled.was_complete:
        first = f"{name} is complete since {record['committed_at']}: nothing to do."
    else:
        first = f"{name} is committed."
    share = f" ({counts['anomalous'] / counts['labelled']:.2%})" if counts["labelled"] else ""
    lines = [first, f"  images      {counts['images']:>12,}"]
    lines += [f"  labelled    {counts['labelled']:>12,}", f"  anomalous   {counts['anomalous']:>12,}{share}"]
    lines += [f"  with a mask {counts['masked']:>12,}"]
    if record["groups"]:
        lines += [f"  unmatched   {counts['unmatched']:>12,}  of no group that the thresholds know"]
    lines += [f"  labels      {uri(layout.folder)}/", f"  record      {uri(layout.record_path)}"]
    if record["groups"] and counts["unmatched"] == counts["images"] > 0:
        by = ", ".join(shown(name) for name in record["by"])
        lines += [
            f"WARNING: no image's {by} is one of the thresholds' {len(record['groups']):,}: all took the pooled ones"
        ]
    return "\n".join(lines)
