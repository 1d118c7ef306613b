"""Ask the committed runs in SQL: `python jobs/query.py worst_of_the_night_per_line --output URI`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from jobs.exits import DONE, INTERRUPTED, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.errors import InputError
from pipeline.queries import Answer, Query, answer, parameters_of, title_of
from pipeline.query_text import Form, as_text, write_parquet
from pipeline.storage import redact
from pipeline.whole_file import whole_file

QUERIES = Path(__file__).resolve().parents[1] / "queries"
SETUP = ("macros", "views")  # no questions
Repeatable = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
FORMS: dict[str, Form | None] = {".parquet": None, ".csv": "csv", ".json": "json", ".md": "markdown"}
ALL_ROWS = sys.maxsize


@dataclass(frozen=True, kw_only=True)
class Options:
    """Ask the committed runs of an output in SQL: the views runs, scores, quarantine and labels, and nothing else.

    Without a query: which there are. docs/analytics.md shows each. Exit codes: 0 done; 1 failed; 2 wrong use, or wrong
    SQL; 130 stopped by Ctrl-C or SIGTERM.
    """

    query: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[QUERY]")] = None
    """A file of SQL, or the name of one in queries/."""

    sql: str | None = None
    """A question of one's own in place of it: --sql "SELECT category, count(*) FROM scores GROUP BY ALL"."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    run_id: Repeatable = ()
    """Only this run; repeatable. Default: all committed ones."""

    label_set: str | None = None
    """Whose labels and masks `scores` has. Default: the runs' own."""

    values: Annotated[Repeatable, tyro.conf.arg(name="set", metavar="NAME=VALUE")] = ()
    """The value of a parameter of the query, such as count=20; repeatable."""

    format: Form = "table"
    """How the rows are printed."""

    rows: int = 40
    """How many at most, of a table or of Markdown. CSV and JSON have all."""

    save: str | None = None
    """Write all rows to this file and print none: .parquet, .csv, .json or .md. Any fsspec URI."""


def main(options: Options) -> int:
    from pipeline.failures import as_run_errors  # noqa: PLC0415 -- Ray takes a second: after the options are known

    log_to_stderr()
    stop_on_sigterm()
    try:
        with as_run_errors("The same command may be given again", what="the query stopped"):
            return _ask(options)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command may be given again", file=sys.stderr)
        return INTERRUPTED


def _ask(options: Options) -> int:
    if options.query is None and options.sql is None:
        print("\n".join(_known()))
        return DONE
    if options.rows < 0:
        raise InputError(f"--rows: expected a number of rows, got {options.rows}")
    form = FORMS[_ending(options.save)] if options.save is not None else options.format
    with answer(options.output, _query(options), run_ids=options.run_id or None, label_set=options.label_set) as found:
        if options.save is None:
            _print(as_text(found, options.format, most=options.rows, width=_width()))
        else:
            _save(found, options.save, form)
    return DONE


def _print(pieces: Iterator[str]) -> None:
    try:
        for piece in pieces:
            sys.stdout.write(piece)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _query(options: Options) -> Query:
    if options.query is not None and options.sql is not None:
        raise InputError(f"expected a query or --sql, got both: {options.query!r}")
    name, sql = ("--sql", options.sql) if options.sql is not None else (str(options.query), _read(str(options.query)))
    macros = (QUERIES / "macros.sql").read_text("utf-8")
    return Query(name=name, sql=sql, values=dict(_value(one) for one in options.values), macros=macros)


def _read(query: str) -> str:
    path = Path(query)
    if not path.suffix and not path.exists():
        path = QUERIES / f"{query}.sql"
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        names = ", ".join(path.stem for path in _files())
        raise InputError(f"{query}: expected a file of SQL, or one of {names}: {type(exc).__name__}") from exc


def _value(given: str) -> tuple[str, str]:
    name, is_there, value = given.partition("=")
    if not is_there or not name:
        raise InputError(f"--set: expected NAME=VALUE, got {given!r}")
    return name, value


def _files() -> list[Path]:
    return sorted(path for path in QUERIES.glob("*.sql") if path.stem not in SETUP)


def _known() -> list[str]:
    lines = []
    for path in _files():
        sql = path.read_text("utf-8")
        parameters = ", ".join(parameters_of(sql))
        lines += [path.stem, f"    {title_of(sql)}", *([f"    --set {parameters}"] if parameters else [])]
    return lines


def _ending(save: str) -> str:
    ending = Path(save).suffix.lower()
    if ending not in FORMS:
        raise InputError(f"--save: expected a file that ends in {', '.join(FORMS)}; got {redact(save)}")
    return ending


def _save(found: Answer, uri: str, form: Form | None) -> None:
    told = ""
    with whole_file(uri) as out:
        if form is None:
            told = f"{write_parquet(found, out):,} rows, "
        else:
            out.writelines(piece.encode() for piece in as_text(found, form, most=ALL_ROWS))
        size = out.tell()
    print(f"{redact(uri)}: {told}{size:,} bytes")


def _width() -> int | None:
    """Of the terminal; what goes into a file or a pipe is not cut to any width, unless COLUMNS gives one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
