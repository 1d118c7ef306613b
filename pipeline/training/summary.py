"""What a training says to the person who started it, at its end."""

from __future__ import annotations

from typing import Any

from pipeline.training.config import LOSS, TrainConfig
from pipeline.training.folder import Folder
from pipeline.training.record import line
from pipeline.training.run import Outcome


def describe(outcome: Outcome, config: TrainConfig) -> str:
    """The epochs, the best of them, and the paths written."""
    folder, about, best = Folder.at(config.output), outcome.about, outcome.best
    headline = "was complete already" if outcome.was_complete else "is done"
    rule = "the lowest training loss" if about["metric"] == LOSS else f"the highest {about['metric']}"
    lines = [
        f"Training of {len(outcome.epochs)} epochs {headline}.",
        *_dataset("trained on", about["auxiliary_dataset"]),
    ]
    if "validation_dataset" in about:
        lines += _dataset("validated", about["validation_dataset"])
    lines += [
        f"  best epoch  {best['epoch']}, by {rule}: {line(best, config.chosen_by)}",
        "",
        f"  best        {folder.best}",
        f"  each epoch  {folder.checkpoint(1).parent}/",
        f"  log         {folder.log}",
        f"  curves      {folder.curves}",
    ]
    if bad := too_many_bad(outcome, config.max_error_fraction):
        lines += ["", f"{bad}: exit code 3"]
    return "\n".join(lines)


def too_many_bad(outcome: Outcome, max_error_fraction: float) -> str | None:
    """What to say where more images were flawed than was to be borne; None where it is not so."""
    told = [outcome.about[name] for name in ("auxiliary_dataset", "validation_dataset") if name in outcome.about]
    flawed = sum(sum(one["flawed"].values()) for one in told)
    images = flawed + sum(one["normal"] + one["anomalous"] for one in told)
    if not images or flawed / images <= max_error_fraction:
        return None
    share = f"{flawed:,} of {images:,} images ({flawed / images:.1%}) are flawed and were not used"
    return f"{share}, more than --max-error-fraction {max_error_fraction:g}"


def _dataset(title: str, told: dict[str, Any]) -> list[str]:
    flawed = "".join(f", {count:,} not used ({problem.replace('_', ' ')})" for problem, count in told["flawed"].items())
    unmarked = f", {told['unmarked']:,} anomalous without a mask not used" if told["unmarked"] else ""
    return [
        f"  {title:<11} {told['name']}: {told['normal']:,} normal, {told['anomalous']:,} anomalous{flawed}{unmarked}"
    ]
