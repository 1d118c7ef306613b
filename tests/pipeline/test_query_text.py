"""The rows of a query as text: right for programs, harmless for people."""

import csv
import datetime
import decimal
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.queries import Answer
from pipeline.query_text import as_text, write_parquet

AT = datetime.datetime(2026, 3, 2, 4, tzinfo=datetime.UTC)
EVERYTHING = pa.table(
    {
        "text": pa.array(["a,\"b\"\nc", None]),
        "score": pa.array([0.7, None], pa.float32()),
        "rate": pa.array([1 / 3, float("nan")]),
        "label": pa.array([1, None], pa.int8()),
        "is_bad": pa.array([True, None]),
        "at": pa.array([AT, None], pa.timestamp("us", tz="UTC")),
        "day": pa.array([AT.date(), None]),
        "sum": pa.array([decimal.Decimal(12), None], pa.decimal128(38, 0)),
        "blob": pa.array([b"\x00\xff", None]),
        "list": pa.array([[0.7], None], pa.list_(pa.float32())),
        "struct": pa.array([{"x": 0.35, "y": [1]}, None], pa.struct([("x", pa.float32()), ("y", pa.list_(pa.int8()))])),
        "map": pa.array([[("k", 0.1)], None], pa.map_(pa.string(), pa.float32())),
        "choice": pa.array(["x", None]).dictionary_encode(),
    }
)  # fmt: skip


def answer(table: pa.Table, rows: int = 1) -> Answer:
    return Answer(schema=table.schema, batches=iter(table.to_batches(max_chunksize=rows)))


def text(table: pa.Table, form: str, **options: int) -> str:
    return "".join(as_text(answer(table), form, **{"most": 40} | options))


def test_json() -> None:
    """Every type; a float32 has its own digits, and what is no number is null."""
    first, second = json.loads(text(EVERYTHING, "json"))
    assert first == {
        "text": 'a,"b"\nc',
        "score": 0.7,
        "rate": 1 / 3,
        "label": 1,
        "is_bad": True,
        "at": "2026-03-02T04:00:00+00:00",
        "day": "2026-03-02",
        "sum": 12,
        "blob": "00ff",
        "list": [0.7],
        "struct": {"x": 0.35, "y": [1]},
        "map": {"k": 0.1},
        "choice": "x",
    }
    assert set(second.values()) == {None}
    assert json.loads(text(EVERYTHING.slice(0, 0), "json")) == []


def test_csv() -> None:
    """The same, lists and structs as JSON; a null is an empty field."""
    header, first, second = csv.reader(io.StringIO(text(EVERYTHING, "csv"), newline=""))
    found = dict(zip(header, first, strict=True))
    assert header == EVERYTHING.column_names
    assert (found["text"], found["score"], found["rate"], found["label"]) == ('a,"b"\nc', "0.7", str(1 / 3), "1")
    assert (found["list"], json.loads(found["struct"])) == ("[0.7]", {"x": 0.35, "y": [1]})
    assert (found["at"], found["day"], found["sum"]) == ("2026-03-02 04:00:00.000000Z", "2026-03-02", "12")
    assert [cell for name, cell in zip(header, second, strict=True) if name != "rate"] == [""] * (len(header) - 1)


def test_csv_holds_no_formula() -> None:
    """Neither in a cell nor in a column's name."""
    table = pa.table({"=cmd()": ["=1+1", "@x"], "list": [["=1"], None]})
    assert list(csv.reader(io.StringIO(text(table, "csv")))) == [
        ["'=cmd()", "list"],
        ["'=1+1", '["=1"]'],
        ["'@x", ""],
    ]


def test_table() -> None:
    """Numbers to the right; a null is a dash; how many rows there are."""
    table = pa.table({"name": ["bolt", None], "score": pa.array([0.123456, 12.0], pa.float32()), "n": [5, 1234567]})
    assert text(table, "table").splitlines() == [
        "name    score        n",
        "bolt  0.12346        5",
        "-          12  1234567",
        "(2 rows)",
    ]
    assert text(table, "table", most=1).splitlines()[1:] == [
        "bolt  0.12346  5",
        "(the first 1 row; there are more: --rows, or --format csv or json)",
    ]


def test_table_on_a_narrow_terminal() -> None:
    """The longest column gives way first, and both its ends are kept."""
    table = pa.table({"uri": ["s3://bucket/" + "x" * 60 + "/last.png"], "name": ["bolt"]})
    lines = text(table, "table", width=40).splitlines()
    assert max(len(line) for line in lines) == 40
    assert lines[1].startswith("s3://bucket") and "…" in lines[1] and "last.png  bolt" in lines[1]
    assert "…" not in text(table, "table")


def test_numbers_and_headings_are_never_cut() -> None:
    """Rather is a line too long for the terminal."""
    columns = 8
    table = pa.table({f"a_long_heading_{at}": [1234567890] for at in range(columns)} | {"heading_of_text": ["x" * 30]})
    told = text(table, "table", width=40)
    assert all(name in told for name in table.column_names)
    assert told.count("1234567890") == columns
    assert f"{'x' * 5}…{'x' * 9}" in told


def test_times_to_the_minute() -> None:
    """In tables for people; CSV and JSON have all of it."""
    table = pa.table({"at": pa.array([AT], pa.timestamp("us", tz="UTC"))})
    assert text(table, "table").splitlines()[1] == "2026-03-02 04:00"


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_names_are_shown_and_not_obeyed(form: str) -> None:
    """No escape sequence, line break or cell comes out of a name, in rows, lists or headings."""
    table = pa.table({"na\x1b[2Jme": ["a\x1b]0;x\x07\nb|c"], "l": [["\x1b[31m\u202e"]]})
    told = text(table, form)
    assert all(char.isprintable() or char == "\n" for char in told)
    if form == "markdown":
        assert told.splitlines()[2].count("|") - told.splitlines()[2].count("\\|") == 3


def test_markdown() -> None:
    """A GitHub table; tags and links stay text."""
    table = pa.table({"name": ["<b>*x*"], "n": [1]})
    assert text(table, "markdown") == "| name | n |\n| --- | ---: |\n| \\<b\\>\\*x\\* | 1 |\n\n(1 row)\n"


def test_parquet() -> None:
    """All rows, types as they are."""
    out = io.BytesIO()
    assert write_parquet(answer(EVERYTHING), out) == 2
    found = pq.read_table(out)
    assert found.schema.equals(EVERYTHING.schema)
    assert found.drop_columns("rate").equals(EVERYTHING.drop_columns("rate"))
