"""An evaluation as tables for people: the same sections on the terminal and in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cops.backbone import architecture
from cops.shown import shown
from pipeline.datasets import DATASETS
from pipeline.evaluation.evaluate import Evaluation, MethodResult
from pipeline.evaluation.measures import mean_of
from pipeline.evaluation.tables import PaperFigures, paper_figures
from pipeline.metrics import METRICS
from pipeline.paper import METHODS, printed_table
from pipeline.table_text import markdown_text

_PAPER_BACKBONE, _PAPER_SIDE = "ViT-L-14-336-quickgelu", 518
_NONE = "–"
_NAMED = 3  # flawed images that the report names of each kind; the table has them all


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of cells with a title, and what has to be said below it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def headline(evaluation: Evaluation) -> list[str]:
    """What was evaluated, and what a reader has to know before any figure."""
    dataset, config = evaluation.dataset, evaluation.config
    name = DATASETS[config.dataset].title if config.dataset in DATASETS else shown(dataset.name)
    categories = f"{len(dataset.categories):,} categor{'y' if len(dataset.categories) == 1 else 'ies'}"
    images = f"{dataset.count(0):,} normal and {dataset.count(1):,} anomalous images"
    lines = [f"{name}: {categories}, {images} in {shown(dataset.root)}"]
    for result in evaluation.results:
        counts, card = result.run.record["counts"], result.run.card
        told = f"{counts['scored']:,} of {counts['planned']:,} images scored" if counts["quarantined"] else (
            f"{counts['scored']:,} images scored"
        )  # fmt: skip
        lines.append(
            f"{result.method}: {told}, run {result.run.record['run_id']}, model {card.name} ({card.model_id}), "
            f"{card.precision}, {card.image_size} px"
        )
    return lines


def warnings_of(evaluation: Evaluation) -> list[str]:
    """What makes the figures something else than those of the whole dataset with the paper's model."""
    told = list(dict.fromkeys(text for one in evaluation.results for text in one.run.record["warnings"]))
    told += [shown(remark) for remark in evaluation.dataset.remarks]
    if evaluation.config.limit:
        told.append(f"only {evaluation.config.limit:,} images were asked for (--limit)")
    if evaluation.config.dataset in DATASETS:
        told += _unlike_the_paper(evaluation)
    return told


def _unlike_the_paper(evaluation: Evaluation) -> Iterator[str]:
    name = evaluation.config.dataset
    auxiliary = evaluation.results[0].run.card.provenance.get("auxiliary_dataset")
    trained_on = shown(str(auxiliary["name"])) if isinstance(auxiliary, dict) and auxiliary.get("name") else None
    papers = "mvtec-ad" if name == "visa" else "visa"
    is_theirs = architecture(evaluation.backbone) == architecture(_PAPER_BACKBONE)
    if trained_on == name:
        yield f"the model was trained on {name}, whose test images these are: the figures are not zero-shot"
    if not (is_theirs and evaluation.image_size == _PAPER_SIDE):
        yield (
            f"the paper's figures are of ViT-L/14@336px at {_PAPER_SIDE} px; this model is another one, at "
            f"{evaluation.image_size} px"
        )
    elif trained_on not in (None, name, papers):
        yield f"the paper's figures are of a model trained on {papers}; this one was trained on {trained_on}"


def main_sections(evaluation: Evaluation) -> list[Section]:
    """What the terminal shows: each method by category, then the means beside the paper's."""
    paper = paper_figures(evaluation.config.dataset)
    sections = [_by_category(result) for result in evaluation.results]
    return [*sections, _means(evaluation, paper)] if paper or len(sections) > 1 else sections


def more_sections(evaluation: Evaluation) -> list[Section]:
    """What Markdown has beside: each category beside the paper's figures for it, and the paper's other tables."""
    paper = paper_figures(evaluation.config.dataset)
    sections = [section for metric in METRICS if (section := _beside_paper(evaluation, paper, metric))]
    if evaluation.config.dataset == "mvtec-ad":
        tables = {name: printed_table(name) for name in ("S2", "S3")}
        sections += [
            Section(title=f"Table {name} of the paper: {one.caption}", header=one.header, rows=one.rows)
            for name, one in tables.items()
        ]
    return sections


def flaw_section(flaws: pa.Table, *, root: str, where: str) -> Section | None:
    """Images that are left out of some or all metrics, by what is wrong with them.

    Args:    root: of the dataset; names are relative to it.   where: the file that lists them all.
    """
    if not len(flaws):
        return None
    rows = flaws.to_pylist()
    counts = Counter(row["problem"] for row in rows)
    told = []
    for problem, count in counts.most_common():
        uris = (row["image_uri"] for row in rows if row["problem"] == problem)
        named = [shown(uri.removeprefix(root.rstrip("/") + "/")) for uri in uris]
        more = f" and {count - _NAMED:,} more" if count > _NAMED else ""
        left_out_of = "all metrics" if problem == "not_scored" else "pixel metrics"
        told.append([problem, f"{count:,}", left_out_of, ", ".join(named[:_NAMED]) + more])
    return Section(
        title="Flawed images",
        header=["problem", "images", "left out of", "such as"],
        rows=told,
        notes=[f"All of them, and what is wrong with each: {where}"],
    )


def _by_category(result: MethodResult) -> Section:
    rows = [
        [shown(one.category), *(_percent(one.metrics[name].value) for name in METRICS), *_images(one.images)]
        for one in result.categories
    ]
    means = [mean_of(result.categories, name) for name in METRICS]
    total = tuple(sum(one.images[label] for one in result.categories) for label in (0, 1))
    rows.append(["mean", *(_percent(mean.metric.value) for mean in means), *_images(total)])
    return Section(
        title=f"{result.method}, %",
        header=["category", *METRICS, "normal", "anomalous"],
        rows=rows,
        notes=list(_undefined(result)),
    )


def _undefined(result: MethodResult) -> Iterator[str]:
    """Why cells are empty, and how many categories a mean is of where some are."""
    empty: dict[tuple[str, str], list[str]] = {}  # categories by reason and the metrics that have it
    for one in result.categories:
        for reason in dict.fromkeys(metric.reason for metric in one.metrics.values() if metric.reason):
            names = ", ".join(name for name, metric in one.metrics.items() if metric.reason == reason)
            empty.setdefault((reason, names), []).append(shown(one.category))
    for (reason, names), categories in empty.items():
        yield f"{_NONE} {names}: {reason} ({', '.join(categories)})"
    count = len(result.categories)
    found = {name: mean_of(result.categories, name).categories for name in METRICS}
    if partial := [f"{name} {having}" for name, having in found.items() if 0 < having < count]:
        yield f"The mean is over the categories that have the metric, of {count}: {', '.join(partial)}"


def _means(evaluation: Evaluation, paper: PaperFigures) -> Section:
    own = {
        result.method: [mean_of(result.categories, name).metric.value for name in METRICS]
        for result in evaluation.results
    }
    rows = [[method, "this run", *map(_percent, values)] for method, values in own.items()]
    for method in METHODS:
        found = [paper.get((None, method, name)) for name in METRICS]
        tables = list(dict.fromkeys(one.table for one in found if one))
        if tables:
            rows.append([method, _paper(tables), *(_NONE if one is None else f"{one.percent:.1f}" for one in found)])
    cops_of_paper = [paper.get((None, "CoPS", name)) for name in METRICS]
    printed = [None if one is None else one.percent / 100 for one in cops_of_paper]
    if any(value is not None for value in printed):
        rows.append(["CoPS − paper's CoPS", "difference", *map(_difference, own["CoPS"], printed)])
    if "CLIP" in own:
        rows.append(["CoPS − CLIP", "difference", *map(_difference, own["CoPS"], own["CLIP"])])
    return Section(
        title="Means of the categories, beside the paper's, %", header=["method", "source", *METRICS], rows=rows
    )


def _beside_paper(evaluation: Evaluation, paper: PaperFigures, metric: str) -> Section | None:
    """One metric, category by category, beside every method that the paper has figures of; None where it has none."""
    categories = {one.category for one in evaluation.results[0].categories}
    methods = [
        method for method in METHODS if any(key[0] in categories and key[1:] == (method, metric) for key in paper)
    ]
    if not methods:
        return None
    own = [_values(result, metric) for result in evaluation.results]
    rows = []
    for category in own[0]:
        printed = [paper.get((category, method, metric)) for method in methods]
        of_cops = paper.get((category, "CoPS", metric))
        rows.append(
            [
                "mean" if category is None else shown(category),
                *(_percent(values[category]) for values in own),
                _difference(own[0][category], None if of_cops is None else of_cops.percent / 100),
                *(_NONE if one is None else f"{one.percent:.1f}" for one in printed),
            ]
        )
    header = [*(result.method for result in evaluation.results), "difference", *(f"{name} (paper)" for name in methods)]
    return Section(
        title=f"{metric} by category, beside the paper's, %",
        header=["category", *header],
        rows=rows,
        notes=["difference: CoPS of this run less the paper's CoPS"],
    )


def _values(result: MethodResult, metric: str) -> dict[str | None, float | None]:
    """A metric by category; the mean's category is None."""
    values: dict[str | None, float | None] = {one.category: one.metrics[metric].value for one in result.categories}
    return values | {None: mean_of(result.categories, metric).metric.value}


def _paper(tables: Sequence[str]) -> str:
    return "paper, beside its code" if tables == ["summary"] else f"paper, {', '.join(tables)}"


def _images(counts: Sequence[int]) -> list[str]:
    return [f"{count:,}" for count in counts]


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f}"


def _difference(value: float | None, other: float | None) -> str:
    return _NONE if value is None or other is None else f"{100 * (value - other):+.1f}"


def as_text(section: Section) -> str:
    """A section for the terminal: columns of even width, numbers to the right."""
    cells = [section.header, *section.rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(section.header))]
    lines = [section.title]
    for row in cells:
        aligned = (
            cell.rjust(width) if _is_number(section, at) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join(aligned).rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in section.notes)])


def as_markdown(section: Section) -> str:
    """A section as a GitHub table."""
    ruler = ["---:" if _is_number(section, at) else "---" for at in range(len(section.header))]
    lines = [f"## {markdown_text(section.title)}", ""]
    header, *rows = ([markdown_text(cell) for cell in row] for row in (section.header, *section.rows))
    lines += [f"| {' | '.join(row)} |" for row in (header, ruler, *rows)]
    lines += ["", *(f"{markdown_text(note)}  " for note in section.notes)] if section.notes else []
    return "\n".join(lines)


def _is_number(section: Section, at: int) -> bool:
    return all(row[at] == _NONE or row[at].lstrip("+-").replace(".", "").replace(",", "").isdigit() or row[at] == "-"
               for row in section.rows)  # fmt: skip
