"""What is told of runs, for people: tables that fit a terminal, names that it does not obey."""

from __future__ import annotations

import datetime
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cops.shown import shown
from pipeline.claim import Holder
from pipeline.progress import duration
from pipeline.upkeep.details import RunDetails, changed_settings
from pipeline.upkeep.discard import Removal
from pipeline.upkeep.overview import RunState, expected_whole
from pipeline.upkeep.verify import Verification

_GAP, _INDENT = "  ", "    "
_UNITS = ((1e9, "GB"), (1e6, "MB"))
_WRAPPED = 76  # characters of a line of words
_SHOWN = 50  # findings, and files
# Heading, whether it is a number, and the order in which columns go where a terminal is narrow: the highest first.
_COLUMNS = (
    ("run", False, 0),
    ("status", False, 0),
    ("when (UTC)", False, 1),
    ("planned", True, 0),
    ("scored", True, 2),
    ("quarantined", True, 0),
    ("images/s", True, 4),
    ("size", True, 3),
    ("model", False, 5),
)


def runs_table(states: Sequence[RunState], width: int | None = None) -> str:
    """A line for each run, and below the table what there is to say of those that are not committed."""
    rows = [_cells(state) for state in states]
    columns = [(heading, is_number, [row[at] for row in rows]) for at, (heading, is_number, _) in enumerate(_COLUMNS)]
    sizes = [max(len(text) for text in (heading, *texts)) for heading, _, texts in columns]
    kept = _fitting(sizes, width)
    lines = [_line([columns[at][0] for at in kept], kept, sizes)]
    lines += [_line([columns[at][2][number] for at in kept], kept, sizes) for number in range(len(rows))]
    left_out = [heading for at, (heading, _, _) in enumerate(_COLUMNS) if at not in kept]
    notes = [f"{state.run_id}: {note}" for state in states if (note := note_on(state))]
    notes += [f"({', '.join(left_out)}: in a wider terminal, or by --json)"] if left_out else []
    return "\n".join([*lines, *([""] if notes else []), *(line for note in notes for line in _wrapped(note, width))])


def note_on(state: RunState) -> str | None:
    """What a run that is not committed is, and the way on."""
    written = f"{state.written or 0:,}{f' of {state.planned:,}' if state.planned is not None else ''} images written"
    match state.status:
        case "committed":
            return None
        case "in progress":
            return f"{_holder(state.holder)}; {written}"
        case "stopped":
            last = f"; last held by {_holder(state.holder)}" if state.holder else ""
            again = f"the same jobs/score.py command with --run-id {state.run_id} goes on with it"
            return f"stopped{last}; {written}; {again}"
        case "left over":
            return (
                f"parts of {state.written or 0:,} images without record or plan; `discard {state.run_id}` removes them"
            )
        case "unreadable":
            return shown(state.problem or "")


def details_text(details: RunDetails) -> str:
    """A run in full.

    Raises:  InputError: its record lacks something.
    """
    with expected_whole("record", details.layout.root.uri(details.layout.commit_path)):
        return _details(details)


def _details(details: RunDetails) -> str:
    state, record = details.state, details.record
    lines = [f"Run {state.run_id}: {state.status}", ""]
    if not record:
        model = state.model and f"{state.model}, {state.model_id}"
        told = _facts({"model": model, "planned": _count(state.planned)})
        return "\n".join([*lines, *told, "", *_wrapped(f"  {note_on(state)}", _WRAPPED)])
    lines += _facts(_of_record(state, record))
    lines += ["", "  asked for, other than by default", *_indented(changed_settings(record))]
    lines += _section("quarantine", [f"{count:>12,}  {stage}: {reason}" for stage, reason, count in details.reasons])
    lines += _section("label sets", [f"  {_label_set(one)}" for one in details.label_sets])
    seconds = {name: value for name, value in record["seconds"].items() if name != "wall"}
    lines += _section("seconds of work", [f"{value:>12,.1f}  {stage}" for stage, value in seconds.items()])
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines += _section("versions", textwrap.wrap(versions, _WRAPPED, initial_indent=_INDENT, subsequent_indent=_INDENT))
    files = [f"{one['rows']:>9,} rows  {_size(one['num_bytes']):>8}  {one['path']}" for one in record["files"]]
    return "\n".join([*lines, *_section("files", files)])


def _label_set(record: Mapping[str, Any]) -> str:
    counts = record["counts"]
    found = f"{counts['anomalous']:,} of {counts['labelled']:,} images anomalous"
    return f"    {record['label_set']}: {found}, made {record['committed_at'][:16].replace('T', ' ')}"


def verification_text(verification: Verification) -> str:
    """One line where all is well; else a line for each finding."""
    found = verification.findings
    read = f"{verification.rows:,} rows in {_files(verification.files)}, {_size(verification.num_bytes)}"
    took = f"read in {duration(verification.seconds)}"
    if not found:
        return f"Run {verification.run_id} is as recorded: {read}, {took}."
    told = "1 finding" if len(found) == 1 else f"{len(found):,} findings"
    lines = [f"Run {verification.run_id} is NOT as recorded: {told}; {read}, {took}."]
    return "\n".join([*lines, *_some([f"  {shown(one.path)}: {shown(one.problem)}" for one in found])])


def removal_text(removal: Removal) -> str:
    """What a discard would remove, and who might miss it."""
    layout, state, uri = removal.layout, removal.state, removal.layout.root.uri
    size = _size(sum(entry.num_bytes for entry in removal.entries))
    files = _files(len(removal.entries))
    if removal.only_strays:
        lines = [f"To be removed for good, beside what the record of run {layout.run_id} names: {files} ({size})"]
        lines += _some([f"  {shown(uri(entry.path))}" for entry in removal.entries])
        return "\n".join([*lines, *([f"  {uri(layout.work_dir)}/"] if removal.has_work else [])])
    at = f" {_when(state.at)}" if state.at else ""
    lines = [f"To be removed for good: run {layout.run_id} ({state.status}{at})"]
    lines += [f"  {uri(layout.commit_path)}"] if removal.has_record else []
    lines += [f"  {files} of its tables ({size})"] if removal.entries else []
    lines += [f"  its label sets: {', '.join(map(shown, removal.label_sets))}"] if removal.label_sets else []
    lines += [f"  {uri(layout.contact_sheet_path)}"] if removal.has_sheet else []
    lines += [f"  {uri(layout.work_dir)}/: its plan and claims"] if removal.has_work else []
    if removal.dependents:
        those = ", ".join(removal.dependents)
        lines += [f"WARNING: incremental runs left out images that may be scored in this run alone: {those}"]
    return "\n".join(lines)


def as_json(value: Any) -> str:
    """For machines: dataclasses as objects, times as ISO 8601."""
    return json.dumps(value, indent=2, default=datetime.datetime.isoformat)


def _cells(state: RunState) -> list[str]:
    bad = _count(state.quarantined)
    if state.quarantined is not None and state.planned:
        bad += f" ({state.quarantined / state.planned:.1%})"
    rate = "-" if state.images_per_s is None else f"{state.images_per_s:,.1f}"
    size = "-" if state.num_bytes is None else _size(state.num_bytes)
    counts = [_count(state.planned), _count(state.scored), bad]
    return [state.run_id, state.status, _when(state.at), *counts, rate, size, shown(state.model or "-")[:24]]


def _fitting(sizes: Sequence[int], width: int | None) -> list[int]:
    """The columns that fit, in order; those of rank 0 stay whatever the width."""
    kept = list(range(len(sizes)))
    going = sorted((at for at in kept if _COLUMNS[at][2]), key=lambda at: -_COLUMNS[at][2])
    while width is not None and going and sum(sizes[at] for at in kept) + len(_GAP) * (len(kept) - 1) > width:
        kept.remove(going.pop(0))
    return kept


def _line(texts: Sequence[str], kept: Sequence[int], sizes: Sequence[int]) -> str:
    cells = (
        text.rjust(sizes[at]) if _COLUMNS[at][1] else text.ljust(sizes[at])
        for text, at in zip(texts, kept, strict=True)
    )
    return _GAP.join(cells).rstrip()


def _of_record(state: RunState, record: Mapping[str, Any]) -> dict[str, str | None]:
    counts, model = record["counts"], record["model"]
    share = f" ({counts['quarantined'] / counts['planned']:.1%})" if counts["planned"] else ""
    known = f", {counts['known_bad']:,} as in earlier runs" if counts.get("known_bad") else ""
    return {
        "committed": f"{_when(state.at)} UTC, attempt {record['attempts']}, took {duration(record['seconds']['wall'])}",
        "model": f"{model['name']} ({model['method']}, {record['config']['precision']}), {record['model_id']}",
        "planned": _count(state.planned),
        "scored": f"{_count(state.scored)}, {state.images_per_s:,.1f} images/s",
        "quarantined": f"{_count(state.quarantined)}{share}{known}",
        "skipped": f"{state.skipped:,} (scored by an earlier run)" if state.skipped else None,
        "duplicates": _count(counts["duplicates"]) if counts.get("duplicates") else None,
        "unmatched": _count(counts["unmatched"]) if counts.get("unmatched") else None,
        "images": f"{_size(counts['bytes'])} encoded",
        "tables": _size(state.num_bytes or 0),
        "code": record.get("git_commit"),
        "warnings": "; ".join(record["warnings"]) or None,
    }


def _facts(facts: Mapping[str, str | None]) -> list[str]:
    return [f"  {name:<12} {shown(str(text))}" for name, text in facts.items() if text]


def _indented(settings: Mapping[str, Any]) -> list[str]:
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return [f"{_INDENT}{name:<16} {shown(text)}" for name, text in told.items()]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"  {title}", *(shown(line) for line in _some(lines))] if lines else []


def _some(lines: Sequence[str]) -> Iterable[str]:
    return (
        lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"  and {len(lines) - _SHOWN:,} more (--json tells all)"]
    )


def _holder(holder: Holder | None) -> str:
    if holder is None:
        return "a process that cannot be told"
    return f"{shown(holder.host)} (process {holder.pid}), heard of {duration(holder.silent_s)} ago"


def _wrapped(note: str, width: int | None) -> list[str]:
    return [note] if width is None else textwrap.wrap(note, width, subsequent_indent=_GAP, break_on_hyphens=False)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _count(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _when(at: datetime.datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _size(num_bytes: int) -> str:
    unit, name = next(((unit, name) for unit, name in _UNITS if num_bytes >= unit), (1e3, "kB"))
    return f"{num_bytes / unit:,.1f} {name}"
