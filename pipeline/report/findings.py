"""What the counts come to: a line for each group beside the trailing runs, and what these had or had not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.calibration import Calibration
from pipeline.report.cells import OTHERS, Cell, Group
from pipeline.report.changes import Changed
from pipeline.report.drift import Drift, alike, compare, judge
from pipeline.report.facts import Facts
from pipeline.report.histograms import Counts
from pipeline.report.pictures import Shown
from pipeline.report.rate_change import MIN_BEFORE, RateChange, Stratum, compare_groups
from pipeline.report.rate_change import compare as compare_rates
from pipeline.report.rates import NONE, Rate
from pipeline.report.window import Record, Window
from pipeline.report.words import counted, group_name, listed, percent

_SEEN_SHARE = 0.5  # of the trailing runs, that a group was in which is missed now
_LEAST_RUNS = 3
_OTHER_MIX = 0.1  # of the images
_LONGEST = 60  # letters of a group's name in a table


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """One group now and before.

    Args:    rates: its anomaly rate beside that of the trailing runs by this time's thresholds.
             drift: of its scores against those of all trailing runs.
    """

    group: Group
    name: str
    cell: Cell
    rates: RateChange
    drift: Drift

    @property
    def change(self) -> int:
        return self.rates.direction

    @property
    def short(self) -> str:
        """For a cell of a table; below its distribution it stands in full."""
        return self.name if len(self.name) <= _LONGEST else f"{self.name[:_LONGEST]}…"


@dataclass(frozen=True)
class Attention:
    """One sentence; an alert is something to act on, the rest is to be known."""

    text: str
    is_alert: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page and the terminal tell.

    Args:    lines: the groups of what is reported, the largest first.   total: all of them.
             missed: groups that the trailing runs had, and these have not.   uncompared: whose rates are in no
             comparison over all images, by why.   mix: how their shares are other than before; None where they are not.
             top, borderline: the pictures; colours go from 0 to `scale_top`.
    """

    window: Window
    facts: Facts
    lines: tuple[GroupLine, ...]
    total: GroupLine
    missed: tuple[str, ...]
    new: tuple[str, ...]
    changes: tuple[Changed, ...]
    attention: tuple[Attention, ...]
    label_set: str
    uncompared: tuple[str, ...] = ()
    mix: str | None = None
    calibration: Calibration | None = None
    top: tuple[Shown, ...] = ()
    borderline: tuple[Shown, ...] = ()
    scale_top: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return ", ".join(self.window.run_ids)

    @property
    def model(self) -> str:
        return str(self.window.now[0]["model"].get("name"))

    @property
    def has_labels(self) -> bool:
        return self.total.cell.labelled > 0

    @property
    def quarantined(self) -> Rate:
        return quarantined(self.window.now)

    @property
    def quarantine_change(self) -> RateChange:
        """A test of its own, of what was planned."""
        return compare_rates([Stratum(self.quarantined, tuple(quarantined([one]) for one in self.window.before))])

    @property
    def images_per_s(self) -> float | None:
        return images_per_s(self.window.now)

    def reference(self, group: Group) -> Counts:
        """The scores that a group's are drawn against: those of the calibration, else of the trailing runs."""
        return (self.facts.calibration or self.facts.before)[group]


def group_lines(facts: Facts, window: Window) -> tuple[tuple[GroupLine, ...], GroupLine]:
    """A line for each group that is there now, and one for all of them together."""
    found: dict[Group | None, Drift] = {
        group: compare(facts.now[group], facts.before[group]) for group in facts.groups if group != OTHERS
    }
    together = alike([(facts.now[group], facts.before[group]) for group in facts.groups])
    found[None] = compare(*together) if together else Drift(images=0, before=0)
    drift = judge(found) | {OTHERS: Drift(images=0, before=0)}
    strata: dict[Group, list[Stratum]] = {group: [] for group in facts.groups}
    for key, stratum in strata_of(facts, window).items():
        strata[facts.group_of(key)].append(stratum)
    rates = compare_groups(strata)
    lines = tuple(
        GroupLine(group=group, name=group_name(group, facts.by), cell=cell, rates=rates[group], drift=drift[group])
        for group in facts.groups
        if (cell := facts.cell(group, window.run_ids)).images
    )
    cell = facts.total(window.run_ids)
    return lines, GroupLine(group=OTHERS, name="all", cell=cell, rates=rates[None], drift=drift[None])


def strata_of(facts: Facts, window: Window) -> dict[Group, Stratum]:
    """What is there now and has labels, with the trailing runs' own by the same thresholds."""
    found = {}
    for key in dict.fromkeys(stratum for stratum, _ in facts.strata):
        now = sum((facts.rate(key, run_id) for run_id in window.run_ids), NONE)
        if now.whole:
            found[key] = Stratum(now, tuple(facts.rate(key, run_id) for run_id in window.before_ids))
    return found


def uncompared(facts: Facts, window: Window) -> tuple[str, ...]:
    """Sentences on what has labels, and no rate before to hold them against: why, and which."""
    if not window.before:
        return ()
    left = {key: stratum for key, stratum in strata_of(facts, window).items() if not stratum.is_comparable}
    several = {key for key in left if _has_several_thresholds(facts, key, window.run_ids)}
    few = [
        f"{group_name(key, facts.strata_by)} ({counted(left[key].now.whole, 'image')})" for key in left.keys() - several
    ]
    told = []
    if several:
        names = listed(sorted(group_name(key, facts.strata_by) for key in several))
        told.append(f"Rates are not compared where one group has several thresholds (--by what these are by): {names}.")
    if few:
        told.append(
            f"Rates are compared without what has fewer than {MIN_BEFORE} images before: {listed(sorted(few))}."
        )
    return tuple(told)


def _has_several_thresholds(facts: Facts, stratum: Group, run_ids: Sequence[str]) -> bool:
    found = [facts.strata[stratum, run_id].image_threshold for run_id in run_ids if (stratum, run_id) in facts.strata]
    return len({limit for one in found if one for limit in one}) > 1


def mix(facts: Facts, window: Window) -> str | None:
    """The group whose share changed most, where a tenth of the images or more are of other groups than before."""
    now = {group: facts.cell(group, window.run_ids).images for group in facts.groups}
    before = {group: facts.cell(group, window.before_ids).images for group in facts.groups}
    if not sum(now.values()) or not sum(before.values()):
        return None
    shares = {group: (now[group] / sum(now.values()), before[group] / sum(before.values())) for group in facts.groups}
    if sum(abs(one - two) for one, two in shares.values()) / 2 < _OTHER_MIX:
        return None
    group = max(shares, key=lambda group: abs(shares[group][0] - shares[group][1]))
    share, share_before = map(percent, shares[group])
    return f"{group_name(group, facts.by)} is {share} of the images, before {share_before}"


def missed_groups(facts: Facts, window: Window) -> tuple[str, ...]:
    """Groups that at least half of the trailing runs had, and none of these has; runs that left out most of their
    images as scored already say nothing of that, and fewer than three others neither.
    """
    whole = [str(record["run_id"]) for record in window.before if _is_whole(record)]
    if len(whole) < _LEAST_RUNS or not all(map(_is_whole, window.now)):
        return ()
    missed = []
    for group in facts.groups:
        runs = sum((group, run_id) in facts.cells for run_id in whole)
        if group != OTHERS and not facts.cell(group, window.run_ids).images and runs >= _SEEN_SHARE * len(whole):
            missed.append(group_name(group, facts.by))
    return tuple(missed)


def _is_whole(record: Record) -> bool:
    counts = record["counts"]
    return (counts.get("skipped") or 0) <= (counts.get("planned") or 0)


def new_groups(facts: Facts, window: Window) -> tuple[str, ...]:
    """Groups that no trailing run had; none where there are no trailing runs."""
    return tuple(
        group_name(group, facts.by)
        for group in facts.groups
        if window.before and group != OTHERS and not facts.cell(group, window.before_ids).images
    )


def quarantined(records: Sequence[Record]) -> Rate:
    """Of what was planned; a record is data, and may hold a part that is larger than the whole."""
    bad, planned = (
        sum(int(record["counts"].get(name) or 0) for record in records) for name in ("quarantined", "planned")
    )
    return Rate(bad, max(bad, planned))


def images_per_s(records: Sequence[Record]) -> float | None:
    """Of several runs one after another; None where nothing was scored, or the record does not tell."""
    told = [(record["counts"].get("scored") or 0, record.get("images_per_s")) for record in records]
    seconds = sum(scored / rate for scored, rate in told if rate)
    return sum(scored for scored, rate in told if rate) / seconds if seconds else None
