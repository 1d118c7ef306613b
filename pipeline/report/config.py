"""What a report is asked for; jobs/report.py makes its flags from these fields."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.label_sets import OWN, check_label_set
from pipeline.layout import check_run_id
from pipeline.storage import refuse_credentials

_MOST_PICTURES = 200  # of one kind: some 5 MB of page
_MOST_RUNS = 400


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The fields are those of jobs/report.py, whose help says what each is.

    Args:    run_ids: the runs of one night; the one committed last where there are none.   by: columns of the scores.
             compare_with: a pattern of the names of earlier runs.
    """

    output: str
    run_ids: tuple[str, ...] = ()
    label_set: str | None = None
    thresholds: str | None = None
    trailing: int = 14
    compare_with: str | None = None
    by: tuple[str, ...] = ("category",)
    top: int = 24
    borderline: int = 12
    save: str | None = None
    pictures: bool = True

    def __post_init__(self) -> None:
        for run_id in self.run_ids:
            check_run_id(run_id)
        if self.label_set not in (None, OWN):
            check_label_set(str(self.label_set))
        for name, count, most in (
            ("--trailing", self.trailing, _MOST_RUNS),
            ("--top", self.top, _MOST_PICTURES),
            ("--borderline", self.borderline, _MOST_PICTURES),
        ):
            if not 0 <= count <= most:
                raise InputError(f"{name}: expected a number from 0 to {most}, got {count}")
        if self.compare_with is not None and not self.compare_with.strip():
            raise InputError("--compare-with: expected names of runs, such as line-a-*; is a variable not set?")
        if not self.by or not all(name.strip() for name in self.by):
            raise InputError("--by: expected columns of the scores, such as category or category,line")
        if len(set(self.by)) != len(self.by):
            raise InputError(f"--by: a column is named twice: {', '.join(self.by)}")
        for name, uri in (("--output", self.output), ("--thresholds", self.thresholds), ("--save", self.save)):
            if uri is not None and not uri.strip():
                raise InputError(f"{name}: expected a path or URI, got an empty one; is a variable not set?")
            refuse_credentials(uri or "")
