"""Catalogs that are not there, not configured or not reachable; and what is told of them: no secret."""

import importlib
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyiceberg.catalog
import pytest
from pyiceberg.utils.config import Config

from pipeline import publication, store_errors
from pipeline.errors import CopsError, InputError
from pipeline.iceberg import catalog
from pipeline.layout import RunLayout

CANARY = "CANARY"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_errors, "RETRY_AFTER_S", (0.0,) * 4)


def refusal(layout: RunLayout, uri: str = "iceberg://lake/ns.scores") -> str:
    with pytest.raises(InputError) as caught:
        publication.check_table(uri, layout)
    told = str(caught.value)
    assert CANARY not in told
    assert len(told.splitlines()) == 1
    return told


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_catalog_that_is_not_configured(layout: RunLayout, configure: Callable[..., None]) -> None:
    """Said where it was expected, and which are known."""
    configure()
    told = refusal(layout)
    assert "no catalog 'lake'; none is configured. Expected it in ~/.pyiceberg.yaml" in told
    assert "PYICEBERG_CATALOG__LAKE__URI" in told
    configure(day={"uri": f"sqlite:///{CANARY}"}, night={"uri": f"sqlite:///{CANARY}"})
    assert "no catalog 'lake'; configured are day, night" in refusal(layout)


def test_a_configuration_in_a_file(layout: RunLayout, configure: Callable[..., None], tmp_path: Path) -> None:
    """As pyiceberg reads it."""
    text = f"catalog:\n  Lake:\n    type: sql\n    uri: sqlite:///{tmp_path}/c.db\n    warehouse: file://{tmp_path}\n"
    (tmp_path / ".pyiceberg.yaml").write_text(text)
    configure()
    assert list(publication.check_table("iceberg://lake/ns.scores", layout).values()) == [False, False]


@pytest.mark.parametrize(
    "properties",
    [
        {"uri": "{web}", "token": CANARY, "s3__secret_access_key": CANARY},
        {"uri": "{web}", "credential": f"id:{CANARY}"},
        {"uri": "http://user:" + CANARY + "@127.0.0.1:9/"},
        {"uri": f"postgresql+psycopg2://user:{CANARY}@127.0.0.1:9/db"},
        {"uri": f"mysql://user:{CANARY}@127.0.0.1:9/db?password={CANARY}"},
        {"uri": f"ftp://user:{CANARY}@127.0.0.1/"},
        {"type": "sql"},
        {"type": "no-such", "uri": CANARY},
        {"type": "glue", "glue__secret-access-key": CANARY},
        {"type": "sql", "uri": "sqlite:////nowhere/c.db"},
    ],
    ids=str,
)
def test_a_catalog_that_cannot_be_had(
    layout: RunLayout, configure: Callable[..., None], properties: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong use, at once and before anything is scored; no secret of the configuration is told or logged."""
    caplog.set_level(logging.DEBUG)
    web = f"http://127.0.0.1:{free_port()}"
    configure(lake={name: value.format(web=web) for name, value in properties.items()})
    assert refusal(layout).startswith("iceberg://lake/ns.scores: ")
    assert CANARY not in caplog.text


def test_a_catalog_that_is_silent(
    layout: RunLayout, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the question and says nothing: pyiceberg by itself would wait for ever."""
    monkeypatch.setattr(catalog, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(lake={"uri": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        assert "TimeoutError: no answer in 0 s" in refusal(layout)


def test_a_configuration_that_is_no_yaml(
    layout: RunLayout, configure: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parser shows the lines around its mistake; what stands in them is not repeated."""
    (tmp_path / ".pyiceberg.yaml").write_text(f"catalog:\n  lake: {{token: {CANARY}\n x")
    with pytest.raises(Exception, match=CANARY):  # that is so
        configure()
    monkeypatch.setattr(importlib, "import_module", lambda _: Config())
    told = refusal(layout)
    assert ".pyiceberg.yaml, cannot be read" in told


def test_without_the_package(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install; nothing but --table needs it."""
    for name in [name for name in sys.modules if name.startswith("pipeline.iceberg") and name[17:] != "address"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    for name in [name for name in sys.modules if name.startswith("pyiceberg.")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'cops-inspection[iceberg]'" in refusal(layout)


def test_no_secret_comes_into_a_table(lake: Any, run: Callable[..., str], configure: Callable[..., None]) -> None:
    """Neither of the catalog's configuration nor of its store's: in no file of the tables."""
    configure(lake={"s3__secret-access-key": CANARY, "token": CANARY, "password": CANARY})
    output = run("r1", "a", bad=("x",))
    publication.publish(output, "r1", lake.uri)
    files = [path for path in lake.folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_a_table_without_a_place(layout: RunLayout, configure: Callable[..., None], tmp_path: Path) -> None:
    """A catalog without `warehouse` cannot make one: said before anything is scored."""
    configure(lake={"type": "sql", "uri": f"sqlite:///{tmp_path}/c.db"})
    with pytest.raises(CopsError, match=r"(?i)warehouse|location"):
        publication.check_table("iceberg://lake/ns.scores", layout, make=True)
    assert pyiceberg.catalog.load_catalog("lake").list_tables("ns") == []
