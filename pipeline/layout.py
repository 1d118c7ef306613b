"""Where a run keeps what, under the output root.

scores/run_id=R/part-*.parquet       the tables; while a run goes on they are its ledger, too
quarantine/run_id=R/part-*.parquet
runs/R.json                          the commit: without it R does not exist for readers
runs/R/                              only while R goes on: claims, plan, what an attempt has still to do
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InputError
from pipeline.storage import Root, create_once, open_root, write_atomic
from pipeline.store_errors import describe, with_patience

Table = Literal["scores", "quarantine"]
TABLES: tuple[Table, ...] = ("scores", "quarantine")
Parts = Mapping[Table, list[str]]  # each table's part files


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
    def work_dir(self) -> str:
        return self.root.join("runs", self.run_id)

    def work_path(self, *names: str) -> str:
        return self.root.join("runs", self.run_id, *names)

    def table_dir(self, table: Table) -> str:
        return self.root.join(table, f"run_id={self.run_id}")

    def part_path(self, table: Table, name: str) -> str:
        return f"{self.table_dir(table)}/{name}"

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
        data = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
        (create_once if once else write_atomic)(self.root.fs, path, data)
