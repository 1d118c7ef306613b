"""Where a run keeps what, under the output root.

scores/run_id=R/part-*.parquet       the tables; while a run goes on they are its ledger, too
quarantine/run_id=R/part-*.parquet
runs/R.json                          the commit: without it R does not exist for readers
runs/R.png                           its contact sheet
runs/R/                              only while R goes on: claims, plan, what an attempt has still to do
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InputError, StoreError
from pipeline.storage import Root, create_once, open_root, write_atomic
from pipeline.store_errors import describe, with_patience

Table = Literal["scores", "quarantine"]
TABLES: tuple[Table, ...] = ("scores", "quarantine")
Parts = Mapping[Table, list[str]]  # each table's part files

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LISTINGS = 5
_TAKEN_ENDINGS = (".json", ".png")  # of what lies beside the runs' folders


def check_run_id(run_id: str, name: str = "--run-id") -> str:
    """The run id, fit for the names of files and folders.

    Raises:  InputError: it is not.
    """
    if not _RUN_ID.fullmatch(run_id) or run_id.endswith(_TAKEN_ENDINGS):
        expected = "expected letters, digits, '.', '_' and '-' (128 at most), and no '.json' or '.png' at its end"
        raise InputError(f"{name}: {expected}; got {run_id!r}")
    return run_id


@dataclass(frozen=True, order=True)
class Entry:
    """What a folder's listing says of a file or folder in it."""

    path: str
    num_bytes: int
    is_folder: bool

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class RunLayout:
    root: Root
    run_id: str

    @classmethod
    def at(cls, output: str, run_id: str) -> RunLayout:
        return cls(open_root(output), run_id)

    @property
    def commit_path(self) -> str:
        return self.root.join("runs", f"{self.run_id}.json")

    @property
    def contact_sheet_path(self) -> str:
        return self.root.join("runs", f"{self.run_id}.png")

    @property
    def work_dir(self) -> str:
        return self.root.join("runs", self.run_id)

    def work_path(self, *names: str) -> str:
        return self.root.join("runs", self.run_id, *names)

    def table_dir(self, table: Table) -> str:
        return self.root.join(table, f"run_id={self.run_id}")

    def part_path(self, table: Table, name: str) -> str:
        return f"{self.table_dir(table)}/{name}"

    def below_root(self, path: str) -> str:
        """How the record names a file."""
        return path.removeprefix(self.root.path.rstrip("/") + "/")

    def parts(self, table: Table) -> list[str]:
        """The table's part files, one LIST for all of them."""
        return self.list_files(self.table_dir(table), ".parquet")

    def all_parts(self) -> Parts:
        return {table: self.parts(table) for table in TABLES}

    def list_files(self, folder: str, ending: str) -> list[str]:
        try:
            found = with_patience(lambda: self.root.fs.ls(folder, detail=False), self.root.uri(folder))
        except FileNotFoundError:
            return []
        names = (str(path) for path in found)
        return sorted(path for path in names if path.endswith(ending) and not path.rpartition("/")[2].startswith("."))

    def entries(self, folder: str) -> list[Entry]:
        """What is in a folder, hidden files too, with sizes: one LIST. A folder that is not there is empty."""
        for _ in range(_LISTINGS):  # on a disk a temporary file may go while the listing asks for its size
            try:
                found = with_patience(lambda: self.root.fs.ls(folder, detail=True), self.root.uri(folder))
            except FileNotFoundError:
                if not self.root.fs.exists(folder):
                    return []
                continue
            return sorted(_entry(info) for info in found if str(info["name"]).rstrip("/") != folder)
        raise StoreError(f"{self.root.uri(folder)}: could not be listed, its files change all the time")

    def read_json(self, path: str) -> dict[str, Any] | None:
        """What a file of ours holds; None where it is not there.

        Raises:  InputError: it is damaged.
        """
        try:
            loaded = json.loads(with_patience(lambda: self.root.fs.cat_file(path), self.root.uri(path)))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as exc:
            raise InputError(f"{self.root.uri(path)}: damaged; expected JSON: {describe(exc)}") from exc
        if not isinstance(loaded, dict):
            raise InputError(f"{self.root.uri(path)}: damaged; expected a JSON object, got {type(loaded).__name__}")
        return loaded

    def write_json(self, path: str, value: dict[str, Any], *, once: bool = False) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        data = text.encode("utf-8", "backslashreplace")  # bytes of a name that are no UTF-8, as JSON's own \udcff
        write = create_once if once else write_atomic
        with_patience(lambda: write(self.root.fs, path, data), self.root.uri(path))


def _entry(info: Mapping[str, Any]) -> Entry:
    return Entry(str(info["name"]).rstrip("/"), int(info.get("size") or 0), info["type"] == "directory")
