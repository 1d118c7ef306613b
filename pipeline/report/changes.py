"""What is other than in the run before: model, settings, code and versions, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.window import Record
from pipeline.storage import redact, without_user_info

_LONGEST = 200
_COMPARED = ("model_id", "model", "config", "labels", "execution", "versions", "git_commit")
_OF_LABELS = ("thresholds", "thresholds_digest", "pooled")
_INPUTS = "config.inputs"  # of an archive by date, others every night
_SAID_ALREADY = ("config.model_id", "config.precision")  # model_id, model.precision
ABSENT = "–"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field; `is_detail` where it is of a model's history, of which another model has another in every line."""

    name: str
    before: str
    now: str
    is_detail: bool

    @property
    def is_input(self) -> bool:
        return self.name == _INPUTS


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What a run has other than the one before it.

    Args:    before: the id of that; None where there is none.   fields: what is to be looked at.
             details: of the model's history.   inputs: where its images came from, which each night may have anew.
    """

    run_id: str
    before: str | None
    fields: tuple[Change, ...] = ()
    details: tuple[Change, ...] = ()
    inputs: tuple[Change, ...] = ()


def changed(now: Record, before: Record | None) -> Changed:
    """Args:    now, before: records; under `labels` that of the label set, where one is reported."""
    if before is None:
        return Changed(run_id=str(now["run_id"]), before=None)
    found = changes(now, before)
    return Changed(
        run_id=str(now["run_id"]),
        before=str(before["run_id"]),
        fields=tuple(one for one in found if not one.is_detail and not one.is_input),
        details=tuple(one for one in found if one.is_detail),
        inputs=tuple(one for one in found if one.is_input),
    )


def with_labels(record: Record, labels: Record | None) -> Record:
    """A run's record with what its label set was made by."""
    return {**record, "labels": {name: labels.get(name) for name in _OF_LABELS if name in labels}} if labels else record


def changes(now: Record, before: Record) -> tuple[Change, ...]:
    """Fields whose values differ, in the order of the record, without the secrets that a text might hold."""
    new, old = _flat(now), _flat(before)
    names = [name for name in dict.fromkeys([*new, *old]) if name not in _SAID_ALREADY]
    return tuple(
        Change(
            name=name,
            before=_told(old[name]) if name in old else ABSENT,
            now=_told(new[name]) if name in new else ABSENT,
            is_detail=name.startswith("model.provenance."),
        )
        for name in sorted(names, key=lambda name: _COMPARED.index(name.partition(".")[0]))
        if new.get(name, ABSENT) != old.get(name, ABSENT)
    )


def _flat(record: Record) -> dict[str, Any]:
    compared = (key for key in _COMPARED if key != "labels" or key in record)
    return {name: value for key in compared for name, value in _leaves(key, record.get(key))}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def _told(value: Any) -> str:
    text = value if isinstance(value, str) else ", ".join(value) if _is_texts(value) else json.dumps(value)
    told = ", ".join(redact(part) for part in text.split(", ")) if "://" in text else without_user_info(text)
    return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
