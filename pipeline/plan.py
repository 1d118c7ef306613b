"""The plan: every image to score, once, with where its bytes lie; written before anything is scored.

It is made in a stream, so its memory does not grow with the archive. Folders and manifests are listed on the
driver; shards are opened in Ray tasks, which return rows of a few hundred bytes an image.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from pipeline import ledger
from pipeline.cluster_log import speak_up
from pipeline.config import ScoreConfig
from pipeline.datasets import read_dataset
from pipeline.datasets.source import COLUMNS, labelled_items
from pipeline.errors import InputError
from pipeline.execution import wanted_tasks
from pipeline.paths import PathTemplate
from pipeline.schema import RESERVED
from pipeline.sources import PlanItem, PlanRows, Source
from pipeline.sources.images import image_items
from pipeline.sources.manifest import manifest_items
from pipeline.sources.parquet import index_parquet
from pipeline.sources.webdataset import index_tar
from pipeline.storage import Root
from pipeline.store_errors import with_patience

ROWS_PER_FILE = 65_536
ROWS_PER_GROUP = 4_096  # what a task reads of the plan at a time
_LISTED_AT_ONCE = 8_192

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class PlanSummary:
    """What planning found. `skipped` counts images that an earlier run holds, `duplicates` second mentions."""

    planned: int = 0
    bad: int = 0
    skipped: int = 0
    duplicates: int = 0
    unmatched: int = 0
    num_bytes: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)


def metadata_types(config: ScoreConfig, sources: Iterable[Source]) -> dict[str, pa.DataType]:
    """The run's own columns: fields of the path as text; kept columns with their Parquet type, else as text.

    Raises:  InputError: a column whose name is taken, or kept from a Parquet input that has no such column.
    """
    types: dict[str, pa.DataType] = {}
    if config.is_dataset:
        types |= COLUMNS
        if config.keep_columns:
            raise InputError(f"--keep-columns: of a labelled dataset, category, {', '.join(COLUMNS)} are kept already")
    if config.path_template:
        fields = [name for name in config.path_template.fields if name != "category"]
        if taken := [name for name in fields if name.lower() in types]:
            raise InputError(f"--path-fields: a labelled dataset has a column {taken[0]!r} already")
        types |= {name: pa.string() for name in fields}
    for name in config.keep_columns:
        if name == "category":
            continue  # always kept
        if name.lower() in RESERVED or name.lower() in {known.lower() for known in types}:
            raise InputError(f"--keep-columns: {name!r} is a column already; rename it in the input")
        types[name] = _common_type(name, sources)
    return types


def _common_type(name: str, sources: Iterable[Source]) -> pa.DataType:
    found: set[pa.DataType] = set()
    sources = list(sources)
    if all(source.format == "images" for source in sources):
        where = ", ".join(source.root.uri() for source in sources)
        raise InputError(f"--keep-columns {name}: {where}: images, which have no columns")
    for source in sources:
        if source.schema is None:
            found.add(pa.string())
        elif source.schema.names.count(name) > 1:
            raise InputError(f"--keep-columns: {source.root.uri()} has more than one column {name!r}")
        elif name in source.schema.names:
            found.add(source.schema.field(name).type)
        else:
            raise InputError(
                f"--keep-columns: {source.root.uri()} has no column {name!r}; it has {source.schema.names}"
            )
    kind = found.pop() if len(found) == 1 else pa.string()
    return kind if pa.types.is_primitive(kind) else pa.string()  # plain types only: nested ones become JSON text


def write_plan(
    config: ScoreConfig, sources: list[Source], root: Root, folder: str, *, rows: PlanRows
) -> tuple[list[str], PlanSummary]:
    """Write the plan's Parquet files into `folder`, each image once; (files, what was found).

    Raises:  InputError: there is nothing to score.
    """
    writer = PlanWriter(root, folder, rows.schema)
    template = config.path_template
    unmatched = 0
    kept: Counter[str] = Counter()
    for table in _rows_of(sources, rows, config.limit):
        writer.add(table)
        unmatched += _unmatched(table, template)
        kept.update({name: len(table) - table[name].null_count for name in rows.metadata})
    files = writer.close()
    summary = PlanSummary(planned=writer.rows, unmatched=unmatched)
    if summary.planned:
        (summary.duplicates,) = _ask(root, files, ledger.DUPLICATES)
        if summary.duplicates:
            files = rewrite_plan(root, files, folder + "-once", rows.schema, query=ledger.FIRST_OF_EACH)
    summary.planned -= summary.duplicates
    summary.ignored = dict(sum((source.ignored for source in sources), Counter()))
    summary.formats = {source.root.uri(): source.format for source in sources}
    _require_images(summary, sources)
    for name in config.keep_columns:
        if name in kept and not kept[name]:
            log.warning("--keep-columns %s: no image has a value for it", name)
    _add_totals(summary, root, files)
    return files, summary


def rewrite_plan(
    root: Root, files: list[str], folder: str, schema: pa.Schema, *, query: str, **views: list[str] | pa.Table
) -> list[str]:
    """A plan's rows that a query keeps, in their order, as new files in another folder."""

    def rewrite() -> list[str]:
        writer = PlanWriter(root, folder, schema)
        with ledger.tables(root, plan=files, **views) as sql:
            for table in ledger.batches(sql.sql(query), schema):
                writer.add(table, renumber=False)
        return writer.close()

    return with_patience(rewrite, root.uri(folder))


def count_rows(root: Root, files: list[str]) -> int:
    """Rows of a plan's files."""
    return _ask(root, files, "SELECT count(*) FROM plan")[0] if files else 0


def _ask(root: Root, files: list[str], query: str) -> tuple[int, ...]:
    """The one row that a query of a plan gives."""

    def ask() -> tuple[int, ...]:
        with ledger.tables(root, plan=files) as sql:
            return tuple(int(value) for value in sql.execute(query).fetchone())

    return with_patience(ask, root.uri())


def _rows_of(sources: list[Source], rows: PlanRows, limit: int | None) -> Iterator[pa.Table]:
    left = limit
    for table in itertools.chain.from_iterable(_source_rows(source, rows) for source in sources):
        if left is not None:
            table = table.slice(0, left)  # noqa: PLW2901 -- the cut is the point
            left -= len(table)
        yield table
        if left == 0:
            return


def _source_rows(source: Source, rows: PlanRows) -> Iterator[pa.Table]:
    wanted = rows.wanted_fields
    match source.format:
        case "images":
            yield from _in_batches(image_items(source.root, source.own_files(), base=source.base), rows)
        case "manifest":
            for path, _ in source.own_files():
                yield from _in_batches(manifest_items(source.root, path, wanted_fields=wanted), rows)
        case "webdataset":
            yield from _index_shards(source, rows, partial(index_tar, wanted_fields=wanted))
        case "parquet":
            index = partial(index_parquet, wanted_fields=wanted, image_column=source.image_column or "")
            yield from _index_shards(source, rows, index)
        case "auto":
            raise AssertionError("every source is recognised")
        case name:
            dataset = read_dataset(name, source.root.uri())
            for remark in dataset.remarks:
                log.warning("%s", remark)
            yield from _in_batches(labelled_items(dataset), rows)


def _in_batches(items: Iterable[PlanItem], rows: PlanRows) -> Iterator[pa.Table]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _LISTED_AT_ONCE)):
        yield rows.table(batch)


def _index_shards(source: Source, rows: PlanRows, index: Callable[[str], list[PlanItem]]) -> Iterator[pa.Table]:
    """Open the shards in Ray tasks; their rows come back in the shards' order, as `--limit` needs."""
    uris = [{"uri": source.root.uri(path)} for path, _ in source.own_files()]
    if not uris:
        return
    context = ray.data.DataContext.get_current()
    in_order, context.execution_options.preserve_order = context.execution_options.preserve_order, True
    try:
        shards = ray.data.from_items(uris, override_num_blocks=min(len(uris), wanted_tasks()))
        indexed = shards.map_batches(_Index(index, rows), batch_size=None, batch_format="pyarrow")
        yield from indexed.iter_batches(batch_size=None, batch_format="pyarrow")
    finally:
        context.execution_options.preserve_order = in_order


@dataclass(frozen=True)
class _Index:
    index: Callable[[str], list[PlanItem]]
    rows: PlanRows

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        speak_up()
        for uri in batch["uri"].to_pylist():
            yield self.rows.table(self.index(uri))

    __name__ = "index_shards"


@dataclass
class PlanWriter:
    """Rows in, Parquet files of ROWS_PER_FILE out; holds at most one file's rows."""

    root: Root
    folder: str
    schema: pa.Schema
    rows: int = 0
    files: list[str] = field(default_factory=list)
    _waiting: list[pa.Table] = field(default_factory=list)
    _count: int = 0

    def add(self, table: pa.Table, *, renumber: bool = True) -> None:
        table = table.select(self.schema.names).cast(self.schema)
        if renumber:
            numbers = pa.array(range(self.rows, self.rows + len(table)), pa.int64())
            table = table.set_column(self.schema.get_field_index("position"), "position", numbers)
        self.rows += len(table)
        self._waiting.append(table)
        self._count += len(table)
        while self._count >= ROWS_PER_FILE:
            whole = pa.concat_tables(self._waiting)
            self._write(whole.slice(0, ROWS_PER_FILE))
            self._waiting = [whole.slice(ROWS_PER_FILE).combine_chunks()]
            self._count = len(self._waiting[0])

    def close(self) -> list[str]:
        if self._count:
            self._write(pa.concat_tables(self._waiting))
        self._waiting, self._count = [], 0
        return self.files

    def _write(self, table: pa.Table) -> None:
        path = f"{self.folder}/plan-{len(self.files):05d}.parquet"

        def write() -> None:
            self.root.fs.makedirs(self.folder, exist_ok=True)
            with self.root.fs.open(path, "wb") as out:  # not seen by anyone until plan.json names it
                pq.write_table(table, out, row_group_size=ROWS_PER_GROUP, compression="zstd")

        with_patience(write, self.root.uri(path))
        self.files.append(path)


def _unmatched(table: pa.Table, template: PathTemplate | None) -> int:
    """Rows where `--path-fields` found nothing: its columns are null there."""
    if template is None:
        return 0
    name = next((name for name in template.fields if name in table.column_names), "category")
    return int(table[name].null_count)


def _require_images(summary: PlanSummary, sources: list[Source]) -> None:
    if summary.planned:
        return
    where = ", ".join(source.root.uri() for source in sources)
    beside = ", ".join(f"{count} {ending}" for ending, count in summary.ignored.items()) or "nothing"
    raise InputError(f"{where}: no image to score; found {beside}")


def _add_totals(summary: PlanSummary, root: Root, files: list[str]) -> None:
    summary.num_bytes, summary.bad = _ask(root, files, "SELECT coalesce(sum(num_bytes), 0), count(stage) FROM plan")


def plan_record(files: list[str], summary: PlanSummary, root: Root) -> dict[str, Any]:
    """What plan.json says: its being there means that the plan is whole."""
    prefix = root.path.rstrip("/") + "/"
    return {"files": [path.removeprefix(prefix) for path in files], "summary": vars(summary)}
