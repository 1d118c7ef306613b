"""Tables to publish into, and small runs to publish."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from lake import configure, lake
from run_making import bad_row, commit_run, put, score_row

from pipeline.layout import RunLayout
from pipeline.schema import SCORES, with_metadata

__all__ = ["configure", "lake"]


@pytest.fixture
def run(layout: RunLayout) -> Callable[..., str]:
    """Commits a run with these images; `columns` are the run's own, with a type and a value."""

    def make(
        run_id: str, *ids: str, bad: tuple[str, ...] = (), columns: dict[str, tuple[pa.DataType, Any]] | None = None
    ) -> str:
        at = RunLayout(layout.root, run_id)
        columns = columns or {}
        schema = with_metadata(SCORES, {name: kind for name, (kind, _) in columns.items()})
        values = {name: value for name, (_, value) in columns.items()}
        for name in ids:  # a part each
            put(at, "scores", [score_row(name) | values], schema)
        for name in bad:
            put(at, "quarantine", [bad_row(name)])
        commit_run(at)
        return layout.root.path

    return make
