"""Small nights, made by hand: runs as the pipeline leaves them, with the columns that queries ask for."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from run_making import bad_row, commit_run, put, score_row

from pipeline.label_sets import FORMAT, LABELS, LabelLayout
from pipeline.layout import RunLayout
from pipeline.parts import parquet_bytes
from pipeline.queries import Query, answer
from pipeline.runs import record_of
from pipeline.schema import SCORES, with_metadata

Ask = Callable[..., list[dict[str, Any]]]

QUERIES = Path(__file__).resolve().parents[2] / "queries"
OWN_COLUMNS = {"line": pa.string(), "defect": pa.string()}
A, B = "a" * 32, "b" * 32  # two models


def image(name: str, score: float, **fields: Any) -> dict[str, Any]:
    """A scored row: a picture of 100×50 px, labelled by a threshold of 0.5, where no other is given."""
    row = score_row(name, pred_score=score, width=100, height=50, content_hash=f"hash of {name}", model_id=A)
    row |= {"category": "bolt", "line": "a", "defect": "good", "image_threshold": 0.5, "pixel_threshold": 0.3}
    row |= {"mask_area": 0, "regions": []} | fields
    threshold = row["image_threshold"]
    return {"pred_label": None if threshold is None else int(score >= threshold)} | row


def box(x: int, y: int, width: int, height: int, area: int, peak: float = 0.5) -> dict[str, Any]:
    return {"x": x, "y": y, "width": width, "height": height, "area": area, "peak_score": peak}


def night(
    output: str,
    run_id: str,
    at: str,
    images: Sequence[Mapping[str, Any]],
    bad: Sequence[Mapping[str, Any]] = (),
    *,
    model_id: str = A,
    columns: Mapping[str, pa.DataType] = OWN_COLUMNS,
    **record: Any,
) -> RunLayout:
    """A run, committed at a time of UTC."""
    layout = RunLayout.at(output, run_id)
    rows = [{**row, "model_id": model_id} for row in images]
    if rows:
        put(layout, "scores", rows, with_metadata(SCORES, columns))
    if bad:
        put(layout, "quarantine", bad)
    commit_run(layout, committed_at=f"{at}+00:00", model_id=model_id, **record)
    return layout


def bad(name: str, **fields: Any) -> dict[str, Any]:
    return bad_row(name, **fields)


def label_set(layout: RunLayout, name: str, rows: Sequence[Mapping[str, Any]], **record: Any) -> None:
    """Labels of a run whose scores are one part, in the order of its rows."""
    run, labels = record_of(layout), LabelLayout(layout, name)
    (part,) = [file["path"] for file in run["files"] if file["table"] == "scores"]
    path = Path(labels.part_path("part-1.parquet"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_bytes(pa.Table.from_pylist(list(rows), LABELS)))
    files = [{"path": layout.below_root(str(path)), "rows": len(rows), "scores": part}]
    told = {"format": FORMAT, "run_id": layout.run_id, "label_set": name, "files": files}
    layout.write_json(labels.record_path, told | {"run_committed_at": run["committed_at"]} | record)


def sql_of(query: str) -> str:
    return (QUERIES / f"{query}.sql").read_text("utf-8")


def by_views(output: str, query: str, **values: str) -> pa.Table:
    """As jobs/query.py asks."""
    with answer(output, Query(name=query, sql=sql_of(query), values=values)) as found:
        return pa.Table.from_batches(found.batches, found.schema)


def shell(output: str, **values: str) -> duckdb.DuckDBPyConnection:
    """As DuckDB's own shell does: views.sql, and nothing of ours in Python."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, value in {"output": output, **values}.items():
        connection.execute(f"SET VARIABLE {name} = ?", [value])
    connection.execute(sql_of("views"))
    return connection


def by_shell(output: str, query: str, **values: str) -> pa.Table:
    with shell(output, **values) as connection:
        return connection.sql(sql_of(query)).to_arrow_table()


def when(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(f"{text}+00:00")
