"""Tables for spreadsheets and pages: whatever stands in a cell, it is shown and not obeyed."""

from __future__ import annotations

import io
import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

_FORMULA = "^([=+@\t\r\n＝＋－＠-])"  # how cells begin that spreadsheets compute, as OWASP lists them
_AUTOLINK = re.compile(r"(https?:(?=//)|ftp:(?=//)|www(?=\.)|(?<=\S)(?=@\S))", re.IGNORECASE)  # where one can be broken


def as_csv(table: pa.Table, *, header: bool = True) -> bytes:
    """RFC 4180 text; a null is an empty field, a number has all its digits.

    Text that a spreadsheet would compute has an apostrophe before it. The Parquet file beside it has it as it is.
    """
    for at, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            table = table.set_column(at, column, pc.replace_substring_regex(table[at], _FORMULA, r"'\1"))
    buffer = io.BytesIO()
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=header, quoting_style="needed"))
    return buffer.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it stands: a name brings no tag, link, picture or cell of its own into the page.

    GitHub makes links of bare addresses, too. Escapes do not keep it from that everywhere; a comment in them does.
    """
    return _AUTOLINK.sub(r"\1<!-- -->", re.sub(r"([\\`*_~\[\]<>&|])", r"\\\1", text))
