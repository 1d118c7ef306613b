"""What a run says to the person who started it: one summary at its end, with the paths written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cops.shown import shown
from pipeline.config import ScoreConfig
from pipeline.errors import RunError
from pipeline.estimate import estimate
from pipeline.failures import after_the_commit
from pipeline.layout import RunLayout
from pipeline.progress import duration
from pipeline.publication import publish_after_commit, published_text
from pipeline.run import RunResult, score, warnings_of
from pipeline.storage import write_atomic
from pipeline.store_errors import with_patience
from pipeline.top import contact_sheet, top_table


@dataclass(frozen=True)
class Report:
    """The summary, whether more images were bad than the run was to bear, and why it is not in its table."""

    text: str
    too_many_bad: bool
    not_published: RunError | None = None


def score_and_report(config: ScoreConfig, *, top: int) -> Report:
    """Score, commit, and say what came of it. Raises what `pipeline.run.score` raises."""
    result = score(config, top=top)
    record = result.record
    too_many = too_many_bad(record["counts"], config.max_error_fraction)
    lines = [_headline(result), *_counts(record), *_tables(result)]
    if result.top:
        title = f"run {record['run_id']}, model {record['model']['name']}: the {len(result.top)} highest scores"
        page = contact_sheet(result.top, result.card, title=title)
        lines += ["", f"Highest scores ({_sheet(result.layout, page)})"]
        lines += [top_table([item.row for item in result.top])]
    lines += [f"\nWARNING: {warning}" for warning in record["warnings"]]
    lines += [f"\n{too_many}: exit code 3"] if too_many else []
    try:
        lines += _published(config)
    except RunError as exc:  # said last, when the summary of what is committed has been printed
        return Report("\n".join(lines), bool(too_many), exc)
    return Report("\n".join(lines), bool(too_many))


def _published(config: ScoreConfig) -> list[str]:
    if config.table is None:
        return []
    published = publish_after_commit(config.output, config.run_id, config.table)
    return ["", *(f"  table       {published_text(one)}" for one in reversed(published))]


def _sheet(layout: RunLayout, page: bytes) -> str:
    """The contact sheet, written, and where it is."""
    path = layout.contact_sheet_path
    uri = layout.root.uri(path)

    def write() -> str:
        with_patience(lambda: write_atomic(layout.root.fs, path, page), uri)
        return f"contact sheet: {uri}"

    return after_the_commit(write, otherwise="no contact sheet", but=f"its contact sheet {uri} could not be written")


def too_many_bad(counts: Mapping[str, int], max_error_fraction: float) -> str | None:
    """What to say where more images are bad than the run was to bear; None where it is not so.

    An incremental run looks again at every image that is bad for good, and at few others: those it knew do not count.
    """
    known = counts.get("known_bad", 0)
    bad, images = counts["quarantined"] - known, counts["planned"] - known
    if not images or bad / images <= max_error_fraction:
        return None
    new = "new " if known else ""
    share = f"{bad:,} of {images:,} {new}images ({bad / images:.1%}) are in quarantine"
    return f"{share}, more than --max-error-fraction {max_error_fraction:g}"


def dry_run(config: ScoreConfig) -> str:
    """The plan, its counts, the model and the estimated time; nothing is written."""
    found = estimate(config)
    plan, card = found.summary, found.card
    lines = ["Dry run: nothing is written.", ""]
    lines += [f"  input      {shown(uri)}  ({kind})" for uri, kind in plan.formats.items()]
    lines += [f"  images     {plan.planned:,}" + (f", {plan.num_bytes / 1e6:,.1f} MB" if plan.num_bytes else "")]
    for name, count in (("bad already", plan.bad), ("duplicates", plan.duplicates), ("no path fields", plan.unmatched)):
        lines += [f"  {name:<10} {count:,}"] if count else []
    if plan.ignored:
        lines += ["  ignored    " + ", ".join(f"{count:,} {shown(ending)}" for ending, count in plan.ignored.items())]
    where = f"{found.execution.max_actors} × {found.execution.device}, batches of {found.execution.batch_size}"
    lines += [
        f"  model      {card.name}, {card.model_id}, {card.image_size} px, {card.precision}",
        f"  actors     {where}",
    ]
    if config.incremental:
        lines += ["  skipped    not looked up: images that earlier runs scored will be left out"]
    lines += [f"  output     {config.output}  (run {config.run_id})"]
    lines += [
        f"  table      {uri}  ({'there' if is_there else 'to be made'})" for uri, is_there in found.tables.items()
    ]
    lines += [f"  time       {_time(found.total_s)}"]
    lines += [f"\nWARNING: {warning}" for warning in warnings_of(card)]
    return "\n".join(lines)


def _time(total_s: float | None) -> str:
    if total_s is None:
        return "unknown: none of the first images can be decoded"
    return f"about {duration(total_s)}, and some 20 s to start"


def _headline(result: RunResult) -> str:
    record = result.record
    if result.was_complete:
        return f"Run {record['run_id']} is complete since {record['committed_at']}: nothing to do."
    took, rate = duration(record["seconds"]["wall"]), record["images_per_s"]
    return f"Run {record['run_id']} is committed: {took}, {rate:.1f} images/s."


def _counts(record: dict[str, Any]) -> list[str]:
    counts = record["counts"]
    lines = [f"  planned     {counts['planned']:>12,}", f"  scored      {counts['scored']:>12,}"]
    known = counts.get("known_bad", 0)
    lines += [f"  quarantined {counts['quarantined']:>12,}" + (f"  ({known:,} as in earlier runs)" if known else "")]
    lines += [f"  skipped     {counts['skipped']:>12,}  (scored by an earlier run)"] if counts["skipped"] else []
    lines += [f"  duplicates  {counts['duplicates']:>12,}  (named twice, planned once)"] if counts["duplicates"] else []
    lines += [f"  unmatched   {counts['unmatched']:>12,}  (no --path-fields found)"] if counts["unmatched"] else []
    ignored = record["ignored_files"]
    if ignored:
        kinds = ", ".join(f"{count:,} {shown(ending)}" for ending, count in sorted(ignored.items()))
        lines += [f"  ignored     {sum(ignored.values()):>12,}  files that are no images: {kinds}"]
    return lines


def _tables(result: RunResult) -> list[str]:
    layout, counts = result.layout, result.record["counts"]
    uri = layout.root.uri
    lines = ["", f"  scores      {uri(layout.table_dir('scores'))}/"] if counts["scored"] else [""]
    lines += [f"  quarantine  {uri(layout.table_dir('quarantine'))}/"] if counts["quarantined"] else []
    return [*lines, f"  record      {uri(layout.commit_path)}"]
