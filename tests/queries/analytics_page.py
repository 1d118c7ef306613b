"""docs/analytics.md as a program: its Python under each query's heading, beside what the query itself answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

PAGE = Path(__file__).resolve().parents[2] / "docs" / "analytics.md"
_HEADING = re.compile(r"^### `(\w+)`$")


def blocks() -> Iterator[tuple[str, str]]:
    """(query, Python) of every block that stands under a query's heading; "" for those before and after them."""
    query, block = "", None
    for line in PAGE.read_text("utf-8").splitlines():
        if block is not None and line == "```":
            yield query, "\n".join(block)
            block = None
        elif block is not None:
            block.append(line)
        elif line == "```python":
            block = []
        elif line.startswith("#"):
            heading = _HEADING.match(line)
            query = heading[1] if heading else ""


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """Of a pandas or Polars frame; what is missing is None, a number is rounded."""
    columns = {name: list(answer[name]) for name in answer.columns}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def differences(answer: Any, table: pa.Table) -> tuple[list[str], list[str]]:
    """Rows that only one of both has, in the columns that `answer` has; those per category, where there are such."""
    found = rows_of(answer)
    names = list(answer.columns)
    expected = [row for row in table.to_pylist() if row.get("scope", "category") == "category"]
    if "verdict" in table.column_names:
        expected = [row for row in expected if row["verdict"] != "too few images"]
    wanted = [{name: _plain(row[name]) for name in names} for row in expected]
    told, meant = sorted(map(repr, found)), sorted(map(repr, wanted))
    return [row for row in told if row not in meant], [row for row in meant if row not in told] + (
        [] if len(told) == len(meant) else [f"{len(told)} rows, expected {len(meant)}"]
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.5g}")
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
