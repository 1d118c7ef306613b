"""docs/tables.md has the tables as they are."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.schema import QUARANTINE, SCORES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tables.md"
ROW = re.compile(r"^\| `(\w+)` \| `([^`]+)` \|", re.MULTILINE)


@pytest.mark.parametrize(("table", "schema"), [("scores", SCORES), ("quarantine", QUARANTINE)])
def test_columns_and_types_are_those_of_the_schema(table: str, schema: pa.Schema) -> None:
    """All of them, in order, under the names that Arrow prints."""
    section = PAGE.read_text("utf-8").partition(f"\n## `{table}`\n")[2].partition("\n## ")[0]
    types = {field.name: re.sub(r"\b(item|element): ", "", str(field.type)) for field in schema}
    assert dict(ROW.findall(section)) == types
    assert [name for name, _ in ROW.findall(section)] == schema.names
