"""Types of Arrow as types of Iceberg, and runs whose columns differ from those of a table."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog

from pipeline import publication
from pipeline.errors import InputError
from pipeline.layout import RunLayout

UTC = datetime.UTC
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 5)


TYPES = [
    (pa.int8(), -8, -8),
    (pa.uint8(), 255, 255),
    (pa.uint16(), 65535, 65535),
    (pa.uint32(), 2**32 - 1, 2**32 - 1),
    (pa.uint64(), 2**64 - 1, Decimal(2**64 - 1)),
    (pa.int64(), -(2**63), -(2**63)),
    (pa.float16(), 0.5, 0.5),
    (pa.float64(), 0.1, 0.1),
    (pa.bool_(), True, True),
    (pa.string(), "größe'\";--", "größe'\";--"),
    (pa.date32(), NOON.date(), NOON.date()),
    (pa.date64(), NOON.date(), NOON.date()),
    (pa.time32("s"), datetime.time(1, 2, 3), datetime.time(1, 2, 3)),
    (pa.time64("ns"), 1_000_002_003, datetime.time(0, 0, 1, 2)),
    (pa.timestamp("s"), NOON.replace(microsecond=0), NOON.replace(microsecond=0)),
    (pa.timestamp("ns"), 1_000_002_003, datetime.datetime(1970, 1, 1, 0, 0, 1, 2)),
    (pa.timestamp("us", tz="Europe/Berlin"), NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC)),
    (pa.decimal128(9, 2), Decimal("12.34"), Decimal("12.34")),
]  # Arrow's, a value, and how it is read back
NAMES = ["größe", "a.b", "a b", 'a"b', "a'b", "a`b", "a/b", "1st", "\x1b[31m", "x" * 300]


def test_columns_of_any_plain_type_are_read_as_they_were(lake: Any, run: Callable[..., str]) -> None:
    """Where Iceberg lacks the type, in the next that holds every value of it; below a microsecond time is cut."""
    columns = {f"own {at} {kind}": (kind, value) for at, (kind, value, _) in enumerate(TYPES)}
    output = run("r1", "a", "b", columns=columns)
    publication.publish(output, None, lake.uri)
    for row in lake.rows():
        assert [row[name] for name in columns] == [read for _, _, read in TYPES]


def test_a_type_without_counterpart_is_refused_before_scoring(lake: Any, layout: RunLayout) -> None:
    """Said by the name of the column."""
    with pytest.raises(InputError, match=r"no type for column 'took', duration\[s\]"):
        publication.check_table(lake.uri, layout, {"took": pa.duration("s")})


def test_columns_of_any_name(lake: Any, run: Callable[..., str]) -> None:
    """In a new table, and in one that is there already."""
    output = run("r1", "a")
    run("r2", "b", columns={name: (pa.string(), f"v{at}") for at, name in enumerate(NAMES)})
    run("r3", "c", columns={"new": (pa.string(), "v")})
    for order in (("r1", "r2", "r3"), ("r3", "r2", "r1")):
        for run_id in order:
            publication.publish(output, run_id, f"iceberg://lake/{order[0]}.scores")
        found = load_catalog("lake").load_table(f"{order[0]}.scores").scan("run_id == 'r2'").to_arrow().to_pylist()
        assert [[row[name] for name in NAMES] for row in found] == [[f"v{at}" for at in range(len(NAMES))]]
        assert found[0]["new"] is None


def test_a_name_that_reads_as_a_field_of_ours_is_refused(lake: Any, layout: RunLayout) -> None:
    """Iceberg cannot tell `pred_mask.size` from the field `size` of `pred_mask`."""
    for _ in range(2):  # before the table is made, and after
        with pytest.raises(InputError, match=r"pred_mask\.size"):
            publication.check_table(lake.uri, layout, {"pred_mask.size": pa.string()}, make=True)
        publication.check_table(lake.uri, layout, make=True)


def test_nights_of_different_columns(lake: Any, run: Callable[..., str]) -> None:
    """A new column comes into the table, a missing one is null, a wider type widens: older rows are as they were."""
    output = run("r1", "a", columns={"line": (pa.string(), "l1"), "lot": (pa.int32(), 7)})
    run("r2", "b", columns={"lot": (pa.int64(), 2**40), "shift": (pa.float32(), 0.5)})
    run("r3", "c", columns={"lot": (pa.int16(), 3), "shift": (pa.float64(), 0.1)})
    for run_id in ("r1", "r2", "r3"):
        publication.publish(output, run_id, lake.uri)
    own = [(row["line"], row["lot"], row["shift"]) for row in lake.rows()]
    assert own == [("l1", 7, None), (None, 2**40, 0.5), (None, 3, 0.1)]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"lot": (pa.string(), "7")}, r"'lot' is int64 in the table and string in the run"),
        ({"lot": (pa.float64(), 7.0)}, r"'lot' is int64 in the table and double in the run"),
        ({"Lot": (pa.int64(), 7)}, r"has a column 'lot', the run 'Lot': SQL takes them for one"),
    ],
)
def test_a_column_that_conflicts_is_refused_before_scoring(
    lake: Any, layout: RunLayout, run: Callable[..., str], columns: dict[str, Any], words: str
) -> None:
    """And of a committed run: nothing of it comes into either table."""
    output = run("r1", "a", bad=("x",), columns={"lot": (pa.int64(), 7)})
    publication.publish(output, "r1", lake.uri)
    before = lake.rows(), lake.data_files()
    with pytest.raises(InputError, match=words):
        publication.check_table(lake.uri, layout, {name: kind for name, (kind, _) in columns.items()})
    run("r2", "b", bad=("y",), columns=columns)
    with pytest.raises(InputError, match=words):
        publication.publish(output, "r2", lake.uri)
    assert (lake.rows(), lake.data_files()) == before
    assert lake.ids("scores_quarantine") == [("r1", "x")]
