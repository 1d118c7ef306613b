"""A catalog in SQLite and tables on disk, known to pyiceberg as `lake`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyiceberg.catalog
import pytest
from pyiceberg.utils.config import Config

URI = "iceberg://lake/inspection.scores"


class Lake:
    """What a reader sees, through a catalog of its own."""

    uri = URI

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, name: str = "scores") -> pyiceberg.catalog.Table:
        return pyiceberg.catalog.load_catalog("lake").load_table(f"inspection.{name}")

    def rows(self, name: str = "scores") -> list[dict[str, Any]]:
        found = self.table(name).scan().to_arrow().to_pylist()
        return sorted(found, key=lambda row: (row["run_id"], row["image_id"]))

    def ids(self, name: str = "scores") -> list[tuple[str, str]]:
        return [(row["run_id"], row["image_id"]) for row in self.rows(name)]

    def data_files(self) -> set[str]:
        """On disk, whether a snapshot names them or not."""
        return {str(path) for path in self.folder.rglob("*.parquet")}

    def named_files(self) -> set[str]:
        """In the current snapshots."""
        tables = [self.table(name) for name in ("scores", "scores_quarantine")]
        return {task.file.file_path.removeprefix("file://") for table in tables for task in table.scan().plan_files()}


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives pyiceberg a configuration: catalogs with their properties. It reads it when it is imported."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYICEBERG_HOME", raising=False)

    def configure(**catalogs: dict[str, str]) -> None:
        for catalog, properties in catalogs.items():
            for name, value in properties.items():
                monkeypatch.setenv(f"PYICEBERG_CATALOG__{catalog.upper()}__{name.upper()}", value)
        monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())

    return configure


@pytest.fixture
def lake(tmp_path: Path, configure: Callable[..., None]) -> Lake:
    folder = tmp_path / "lake"
    folder.mkdir()
    configure(lake={"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}"})
    return Lake(folder)
