"""Where the nights are put, and the two ways to ask them."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from nights import Ask, by_shell, by_views


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


@pytest.fixture(params=[by_views, by_shell], ids=["open_views", "views.sql"])
def ask_table(request: pytest.FixtureRequest, output: str) -> Callable[..., pa.Table]:
    """A query of queries/ and values of its parameters, as text; by `pipeline.open_views`, and by views.sql alone."""
    return lambda query, **values: request.param(output, query, **values)


@pytest.fixture
def ask(ask_table: Callable[..., pa.Table]) -> Ask:
    return lambda query, **values: ask_table(query, **values).to_pylist()
