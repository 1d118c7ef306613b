"""What an evaluation leaves behind, and what it says to the person who started it.

evaluations/R/metrics.parquet, .csv, .md   every figure, and the same for people
evaluations/R/flaws.parquet, .csv          images that some metric leaves out
evaluations/R/curves-*.png
"""

from __future__ import annotations

from pipeline.evaluation.curves import draw_curves
from pipeline.evaluation.evaluate import EvaluateConfig, Evaluation, evaluate
from pipeline.evaluation.report import (
    as_markdown,
    as_text,
    flaw_section,
    headline,
    main_sections,
    more_sections,
    warnings_of,
)
from pipeline.evaluation.tables import flaws_table, metrics_table
from pipeline.failures import as_run_errors
from pipeline.storage import remove_tree, write_atomic
from pipeline.summary import Report, too_many_bad
from pipeline.table_text import as_csv, as_parquet, markdown_text

_KINDS = {"I": ("images", "image"), "P": ("pixels", "pixel")}


def evaluate_and_report(config: EvaluateConfig) -> Report:
    """Evaluate, write every file, and say what came of it. Raises what `evaluate` raises."""
    evaluation = evaluate(config)
    with as_run_errors(f"The scores are committed; give the same command with --run-id {config.run_id} to go on"):
        return _write(evaluation)


def _write(evaluation: Evaluation) -> Report:
    root, folder = evaluation.root, evaluation.root.join("evaluations", evaluation.config.run_id)
    flaws = flaws_table(evaluation)
    pictures = _pictures(evaluation)
    flawed = flaw_section(flaws, root=evaluation.dataset.root, where="flaws.csv")
    told = [*headline(evaluation), *(f"WARNING: {text}" for text in warnings_of(evaluation))]
    sections = main_sections(evaluation)
    markdown = [
        f"# {markdown_text(told[0])}",
        "\n".join(f"{markdown_text(line)}  " for line in told[1:]),
        *map(as_markdown, [*sections, *([flawed] if flawed else []), *more_sections(evaluation)]),
        *(f"![{name}]({name})" for name in pictures),
    ]
    metrics = metrics_table(evaluation)
    files = {
        "metrics.parquet": as_parquet(metrics),
        "metrics.csv": as_csv(metrics),
        "metrics.md": ("\n\n".join(markdown) + "\n").encode(),
        "flaws.parquet": as_parquet(flaws),
        "flaws.csv": as_csv(flaws),
        **pictures,
    }
    remove_tree(root.fs, folder)  # what an earlier evaluation of these scores left, such as a curve that is none now
    for name, content in files.items():
        write_atomic(root.fs, f"{folder}/{name}", content)
    too_many = _too_many_bad(evaluation)
    lines = ["\n".join(headline(evaluation)), *map(as_text, sections), *([as_text(flawed)] if flawed else [])]
    lines += ["\n".join(f"WARNING: {text}" for text in warnings_of(evaluation))] if warnings_of(evaluation) else []
    lines.append(f"Written to {root.uri(folder)}/: {', '.join(files)}")
    lines += [f"{told}: exit code 3" for told in too_many]
    return Report("\n\n".join(lines), bool(too_many))


def _pictures(evaluation: Evaluation) -> dict[str, bytes]:
    found = {}
    for result in evaluation.results:
        for thing, (plural, name) in _KINDS.items():
            title = f"{result.method} on {evaluation.config.dataset}, {plural}; run {result.run.record['run_id']}"
            if (picture := draw_curves(result.categories, thing=thing, title=title)) is not None:
                found[f"curves-{result.method.lower()}-{name}.png"] = picture
    return found


def _too_many_bad(evaluation: Evaluation) -> list[str]:
    limits = zip(evaluation.config.scoring(), evaluation.results, strict=True)
    found = (too_many_bad(result.run.record["counts"], run.max_error_fraction) for run, result in limits)
    return [text for text in found if text]
