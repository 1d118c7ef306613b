"""A committed run read again and held against its record: what was promised when it was committed is still so."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline import ledger
from pipeline.errors import InputError
from pipeline.layout import TABLES, Entry, RunLayout
from pipeline.runs import record_of
from pipeline.storage import open_root
from pipeline.store_errors import FormatError, reason_of, with_patience
from pipeline.upkeep.label_checks import label_problems, label_strays
from pipeline.upkeep.overview import chosen_id, overview
from pipeline.upkeep.part_checks import PartReport, check_part

_READERS = 4  # files at once, of some 25 MB at most
_LOG_EVERY_S = 15.0

log = logging.getLogger(__name__)

File = Mapping[str, Any]  # as a record names it


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is not as recorded, and the file that it is in, below the output root."""

    path: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was read of a run, and what was found."""

    run_id: str
    findings: tuple[Finding, ...]
    files: int = 0
    rows: int = 0
    num_bytes: int = 0
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        return not self.findings


def verify_all(output: str) -> Iterator[Verification]:
    """Every committed run, and every record that cannot be read, the newest last; each when it is done.

    Raises:  InputError: there is no run.
    """
    for state in overview(output):
        if state.status == "committed":
            yield verify(output, state.run_id)
        elif state.problem is not None:
            yield _unreadable(state.run_id, state.problem)


def verify(output: str, run_id: str | None = None) -> Verification:
    """Read a committed run, the last one where no id is given, and compare it with its record. One that cannot be read
    is a finding, and without an id the first: nobody knows then which run is the last.

    Raises:  InputError: it is not committed.   StoreError: the store does not answer.
    """
    began = time.monotonic()
    layout = RunLayout(open_root(output), _chosen_id(output, run_id))
    try:
        record = record_of(layout)
    except InputError as error:
        if not layout.root.fs.exists(layout.commit_path):
            raise
        return _unreadable(layout.run_id, str(error))
    findings, there = _compare_listing(layout, record)
    reports = _read(layout, record, there)
    sound = []
    for file, report in reports:
        findings += [Finding(path=file["path"], problem=problem) for problem in _problems_of(file, report)]
        if report.own_columns is not None:
            sound.append((file, report))
    findings += _uneven_columns(sound)
    findings += _wrong_counts(layout, record, [report for _, report in reports])
    findings += _repeated_images(layout, [file for file, _ in sound])
    findings += [Finding(path=path, problem=problem) for path, problem in label_problems(layout, record)]
    return Verification(
        run_id=layout.run_id,
        files=len(record["files"]),
        rows=sum(report.rows for _, report in reports),
        num_bytes=sum(int(file["num_bytes"]) for file in there),
        seconds=time.monotonic() - began,
        findings=tuple(findings),
    )


def _chosen_id(output: str, run_id: str | None) -> str:
    """Raises:  InputError: it is no run id; or none is given, and no run is committed."""
    try:
        return chosen_id(output, run_id)
    except InputError:
        if run_id is not None:
            raise
        unreadable = [state.run_id for state in overview(output) if state.status == "unreadable"]
        if not unreadable:
            raise
        return unreadable[0]


def _unreadable(run_id: str, problem: str) -> Verification:
    return Verification(run_id=run_id, findings=(Finding(path=f"runs/{run_id}.json", problem=problem),))


def strays(layout: RunLayout, record: Mapping[str, Any]) -> list[Entry]:
    """What lies in a committed run's folders and is not in its record."""
    return _unnamed(layout, record, _listed(layout)) + label_strays(layout, record)


def _listed(layout: RunLayout) -> list[Entry]:
    return [entry for table in TABLES for entry in layout.entries(layout.table_dir(table))]


def _unnamed(layout: RunLayout, record: Mapping[str, Any], listed: list[Entry]) -> list[Entry]:
    named = {layout.root.join(file["path"]) for file in record["files"]}
    return [entry for entry in listed if entry.path not in named]


def _compare_listing(layout: RunLayout, record: Mapping[str, Any]) -> tuple[list[Finding], list[File]]:
    """Files that are missing, of another size, or in no record; and those that are to be read."""
    listed = _listed(layout)
    sizes = {entry.path: entry.num_bytes for entry in listed}
    findings: list[Finding] = []
    there: list[File] = []
    for file in record["files"]:
        size = sizes.get(layout.root.join(file["path"]))
        if size is None:
            findings.append(Finding(path=file["path"], problem="is missing"))
        elif size != file.get("num_bytes"):
            problem = f"expected {file.get('num_bytes')!r:.30} bytes, has {size}"
            findings.append(Finding(path=file["path"], problem=problem))
        else:
            there.append(file)
    unnamed = "is not in the record: pipeline.open_run does not read it, a glob does"
    paths = [layout.below_root(entry.path) for entry in _unnamed(layout, record, listed)]
    return findings + [Finding(path=path, problem=unnamed) for path in paths], there


def _read(layout: RunLayout, record: Mapping[str, Any], files: list[File]) -> list[tuple[File, PartReport]]:
    """Each file's report, some files at a time."""
    reports: list[tuple[File, PartReport]] = []
    told = time.monotonic()
    with ThreadPoolExecutor(_READERS) as threads:
        for file, report in zip(files, threads.map(partial(_report, layout, record), files), strict=True):
            reports.append((file, report))
            if time.monotonic() > told + _LOG_EVERY_S:
                told = time.monotonic()
                log.info("%s of %s files read", f"{len(reports):,}", f"{len(files):,}")
    return reports


def _report(layout: RunLayout, record: Mapping[str, Any], file: File) -> PartReport:
    path = layout.root.join(file["path"])
    constants = {
        "model_id": str(record.get("model_id")),
        "num_bytes": file["num_bytes"],
        "footer": file.get("footer_sha256"),
    }
    try:
        return with_patience(lambda: check_part(layout.root, path, file["table"], **constants), layout.root.uri(path))
    except FormatError as exc:
        return PartReport(problems=[f"cannot be read whole: {exc}"])
    except (FileNotFoundError, PermissionError) as exc:
        return PartReport(problems=[f"cannot be read: {reason_of(exc)[1]}"])


def _problems_of(file: File, report: PartReport) -> Iterator[str]:
    yield from report.problems
    if report.rows != file.get("rows") and not report.problems:
        yield f"expected {file.get('rows')!r:.30} rows, has {report.rows:,}"


def _uneven_columns(sound: list[tuple[File, PartReport]]) -> Iterator[Finding]:
    """All parts of a table have the same columns of the run's own."""
    named = [(file, report.own_columns) for file, report in sound if file["table"] == "scores"]
    for file, columns in named[1:]:
        if columns != named[0][1]:
            yield Finding(path=file["path"], problem=f"expected the run's own columns {named[0][1]}; got {columns}")


def _wrong_counts(layout: RunLayout, record: Mapping[str, Any], reports: list[PartReport]) -> Iterator[Finding]:
    """The record's own sums; bytes only where every file was read, or one missing file would be told twice."""
    path = f"runs/{layout.run_id}.json"
    counts, rows = record.get("counts"), Counter[str]()
    if not isinstance(counts, dict):
        yield Finding(path=path, problem="the record has no counts")
        return
    for file in record["files"]:
        rows[file["table"]] += file["rows"] if isinstance(file.get("rows"), int) else 0
    sums = {"scored": rows["scores"], "quarantined": rows["quarantine"], "planned": rows.total()}
    if len(reports) == len(record["files"]) and not any(report.problems for report in reports):
        sums["bytes"] = sum(report.num_bytes for report in reports)
    for name, found in sums.items():
        if counts.get(name) != found:
            yield Finding(path=path, problem=f"counts.{name} is {counts.get(name)!r:.30}, its files hold {found:,}")


def _repeated_images(layout: RunLayout, files: list[File]) -> Iterator[Finding]:
    """Images that are in the tables more than once, by DuckDB, which spills to disk."""
    paths = [layout.root.join(file["path"]) for file in files]
    if not paths:
        return
    written = ledger.with_files(layout.root, paths, "image_id")
    with ledger.tables(layout.root, written=written) as sql:
        found = sql.execute(ledger.REPEATED).fetchone()
    if found is not None:
        image_id, first, last, images = found
        both = layout.below_root(first) if first != last else "this file"
        problem = f"{images:,} images are in the tables more than once (image_id {image_id}, in {both}, too)"
        yield Finding(path=layout.below_root(last), problem=problem)
