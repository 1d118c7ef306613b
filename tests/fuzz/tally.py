"""Results counted by format and by outcome, so that every input is accounted for; as Markdown and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from workers import Result


class Tally:
    """All results of a run, in numbers."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.pictures: dict[str, Counter[str]] = defaultdict(Counter)
        self.plans: Counter[str] = Counter()
        self.failures: list[Result] = []
        self.slowest: Result | None = None
        self.largest: Result | None = None
        self.seconds = 0.0

    def add(self, result: Result) -> None:
        self.outcomes[result.form][result.outcome] += 1
        self.pictures[result.form].update(result.pictures)
        self.plans[result.plan] += 1
        self.seconds += result.seconds
        if result.failure:
            self.failures.append(result)
        if self.slowest is None or result.seconds > self.slowest.seconds:
            self.slowest = result
        if self.largest is None or result.peak_bytes > self.largest.peak_bytes:
            self.largest = result

    @property
    def inputs(self) -> int:
        return sum(counts.total() for counts in self.outcomes.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs, "failures": len(self.failures), "plans": dict(self.plans),
            "outcomes": {form: dict(counts) for form, counts in sorted(self.outcomes.items())},
            "pictures": {form: dict(counts) for form, counts in sorted(self.pictures.items()) if counts},
        }  # fmt: skip

    def told(self, *, seed: int, bound_bytes: int, limit_s: float) -> str:
        """The report, as Markdown."""
        if self.slowest is None or self.largest is None:
            return "no inputs"
        slow, large = self.slowest, self.largest
        most_s, most_mib = f"{limit_s:.0f} s", f"{bound_bytes / 2**20:.0f} MiB"
        return "\n".join([
            f"{self.inputs:,} inputs of seed {seed}, {len(self.failures)} failures, {self.seconds:,.0f} s of reading.",
            f"Slowest: {slow.seconds:.2f} s of at most {most_s}: {_named(slow)}.",
            f"Most memory: {large.peak_bytes / 2**20:.0f} MiB of at most {most_mib}: {_named(large)}.",
            "", *_table("inputs", self.outcomes), "", *_table("pictures in shards and tables", self.pictures),
        ])  # fmt: skip


def _named(result: Result) -> str:
    return f"number {result.number}, {result.plan} of {result.form}, {result.name}"


def _table(title: str, counts: dict[str, Counter[str]]) -> list[str]:
    """A line for each format, a column for each outcome, the most frequent first; sums on both sides."""
    every: Counter[str] = sum(counts.values(), Counter())
    names = [name for name, _ in every.most_common()]
    rows = {form: own for form, own in sorted(counts.items()) if own} | {"all": every}
    head = [f"| {title} | " + " | ".join(names) + " | all |", "|---" * (len(names) + 2) + "|"]
    lines = ((form, *(own[name] or "" for name in names), own.total()) for form, own in rows.items())
    return head + [
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in line) + " |" for line in lines
    ]
