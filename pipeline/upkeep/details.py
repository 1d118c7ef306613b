"""One run in full: its record, what it was asked that is not the default, and why images are in its quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import duckdb
import pyarrow as pa

from pipeline import ledger
from pipeline.config import ScoreConfig
from pipeline.decode import DecodeRules
from pipeline.errors import InputError
from pipeline.label_sets import committed
from pipeline.layout import RunLayout
from pipeline.runs import files_of, read_record
from pipeline.store_errors import describe
from pipeline.upkeep.overview import RunState, state_of

_TOLD_ELSEWHERE = {"model", "model_id", "precision", "thresholds_digest"}
_REASONS = "SELECT stage, reason, count(*) FROM quarantine GROUP BY ALL ORDER BY count(*) DESC, stage, reason"


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """A run and, where it is committed, its record and those of its label sets; reasons are (stage, reason, images)."""

    state: RunState
    layout: RunLayout
    record: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[tuple[str, str, int], ...] = ()
    label_sets: tuple[Mapping[str, Any], ...] = ()


def details(output: str, run_id: str | None) -> RunDetails:
    """One run; the one committed last where no id is given.

    Raises:  InputError: there is none, or its quarantine cannot be read.
    """
    state = state_of(output, run_id)
    layout = RunLayout.at(output, state.run_id)
    record = read_record(layout) if state.status == "committed" else None
    if record is None:
        return RunDetails(state=state, layout=layout)
    labels = tuple(committed(layout, record).values())
    return RunDetails(state=state, layout=layout, record=record, reasons=_reasons(layout, record), label_sets=labels)


def changed_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was asked, but for what everybody gets unasked. Its inputs are always among it."""
    defaults = {one.name: one.default for one in fields(ScoreConfig)}
    defaults |= {"keep_columns": [], "decode": None}
    config = record["config"]
    kept = {name: value for name, value in config.items() if name not in _TOLD_ELSEWHERE}
    changed = {name: value for name, value in kept.items() if name not in defaults or value != defaults[name]}
    usual = DecodeRules().record()
    decode = {name: value for name, value in changed.pop("decode", {}).items() if value != usual.get(name, False)}
    return changed | decode


def _reasons(layout: RunLayout, record: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    parts = files_of(dict(record), layout, "quarantine")
    if not parts:
        return ()
    try:
        with ledger.tables(layout.root, quarantine=parts) as sql:
            found = sql.execute(_REASONS).fetchall()
    except (OSError, pa.ArrowException, duckdb.Error) as exc:
        raise InputError(
            f"the quarantine of run {layout.run_id!r} cannot be read: {describe(exc)}; `jobs/runs.py verify "
            f"{layout.run_id}` tells what is wrong"
        ) from exc
    return tuple((str(stage), str(reason), int(count)) for stage, reason, count in found)
