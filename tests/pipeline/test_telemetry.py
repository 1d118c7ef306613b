"""What is counted for Prometheus: right sums, from closed sets, at no risk to a run."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from pipeline import telemetry
from pipeline.schema import Reason, Stage
from pipeline.telemetry import ModelMeter, RunMeter, tell_committed, tell_written

ROOT = Path(__file__).resolve().parents[2]
Told = list[tuple[str, float, dict[str, str]]]


class Ledger:
    """Ray's metric classes, as far as we use them, writing down what they are told; as strict as Ray's."""

    def __init__(self) -> None:
        self.told: Told = []
        self.Counter = self.Gauge = self.Histogram = self.make

    def make(self, name: str, text: str, *, tag_keys: tuple[str, ...], boundaries: Any = None) -> Any:
        ledger, given = self, {}

        class Made:
            def set_default_tags(self, tags: dict[str, str]) -> Any:
                given.update(tags)
                return self

            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert value > 0
                self.observe(value, tags)

            def set(self, value: float, tags: dict[str, str]) -> None:
                self.observe(value, tags)

            def observe(self, value: float, tags: dict[str, str]) -> None:
                assert {*given, *tags} == {*tag_keys}
                ledger.told.append((name, value, {**given, **tags}))

        return Made()

    def of(self, metric: telemetry.Metric) -> list[float]:
        return [value for name, value, _ in self.told if name == metric.name]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """As in a process of Ray's."""
    ledger = Ledger()
    monkeypatch.setattr(telemetry, "ray_metrics", ledger)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    return ledger


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock: one number that a test sets."""
    now = [0.0]
    monkeypatch.setattr("pipeline.telemetry.time.perf_counter", lambda: now[0])
    yield now
    monkeypatch.undo()


def rows(*bad: tuple[str, str] | None, num_bytes: int = 10) -> pa.Table:
    """A row each: scored, or (stage, reason)."""
    table = [{"stage": one and one[0], "reason": one and one[1], "num_bytes": num_bytes, "read_s": 0.5} for one in bad]
    fields = [("stage", pa.string()), ("reason", pa.string()), ("num_bytes", pa.int64()), ("read_s", pa.float32())]
    return pa.Table.from_pylist(table, schema=pa.schema(fields))


def test_a_call_of_the_model(ledger: Ledger, at: list[float]) -> None:
    """Its seconds, its images, and its actor's busy time."""
    meter = ModelMeter("r1")
    with meter.batch(32):
        at[0] = 2.0
    assert ledger.told == [
        ("cops_busy_seconds", 2.0, {"run_id": "r1"}),
        ("cops_batch_seconds", 2.0, {"run_id": "r1"}),
        ("cops_model_images", 32, {"run_id": "r1"}),
    ]


def test_calls_that_overlap_are_busy_once(ledger: Ledger, at: list[float]) -> None:
    """From 0 to 3 and from 1 to 5, then from 8 to 9: six seconds busy, eight of calls. A share is never above 1."""
    meter = ModelMeter("r1")
    first, second = ExitStack(), ExitStack()
    first.enter_context(meter.batch(4))
    at[0] = 1.0
    second.enter_context(meter.batch(4))
    at[0] = 3.0
    first.close()
    at[0] = 5.0
    second.close()
    at[0] = 8.0
    with meter.batch(4):
        at[0] = 9.0
    assert sum(ledger.of(telemetry.BUSY_SECONDS)) == 6.0
    assert ledger.of(telemetry.BATCH_SECONDS) == [3.0, 4.0, 1.0]


def test_a_call_that_fails_scores_nothing(ledger: Ledger, at: list[float]) -> None:
    """Its time was taken, and the error comes through."""
    meter = ModelMeter("r1")
    with pytest.raises(MemoryError), meter.batch(32):
        at[0] = 2.0
        raise MemoryError
    assert ledger.told == [("cops_busy_seconds", 2.0, {"run_id": "r1"})]


def test_rows_written_are_counted(ledger: Ledger) -> None:
    """Scored; quarantined by stage and reason; bytes and seconds of all."""
    empty, corrupt = ("read", "empty"), ("decode", "corrupt")
    tell_written("r1", rows(None, empty, None, corrupt, empty), ["read_s"])
    assert sorted(ledger.told, key=str) == sorted(
        [
            ("cops_scored_images", 2, {"run_id": "r1"}),
            ("cops_image_bytes", 50, {"run_id": "r1"}),
            ("cops_stage_seconds", 2.5, {"run_id": "r1", "stage": "read"}),
            ("cops_quarantined_images", 2, {"run_id": "r1", "stage": "read", "reason": "empty"}),
            ("cops_quarantined_images", 1, {"run_id": "r1", "stage": "decode", "reason": "corrupt"}),
        ],
        key=str,
    )


def test_no_text_from_a_file_becomes_a_label(ledger: Ledger) -> None:
    """A plan is a file that others may have written: stages and reasons that are not ours are not exported."""
    tell_written("r1", rows(None, ("list", "/secret/name.png"), ("x", "empty")), ["read_s"])
    assert ledger.of(telemetry.QUARANTINED) == []
    assert ledger.of(telemetry.SCORED) == [1]


def test_a_table_without_numbers(ledger: Ledger) -> None:
    """Nothing known of bytes or seconds: nothing added, and Ray, which refuses 0, is not asked."""
    nothing = rows(("list", "bad_name")).set_column(2, "num_bytes", pa.nulls(1, pa.int64()))
    tell_written("r1", nothing.set_column(3, "read_s", pa.nulls(1, pa.float32())), ["read_s"])
    assert [name for name, _, _ in ledger.told] == ["cops_quarantined_images"]


def test_what_is_left(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at once, again and again (Ray forgets a gauge), by the tables' own count, and 0 at a good end."""
    monkeypatch.setattr(telemetry, "_AGAIN_EVERY_S", 0.01)
    enough = threading.Event()
    monkeypatch.setattr(ledger, "told", told := _Until(enough, 12))
    meter = RunMeter("r1", planned=100, done=40)
    look = meter.beside(lambda: (25, 1))
    with meter:
        assert meter.left == 60
        assert look() == (25, 1)
        assert enough.wait(20)
    assert set(ledger.of(telemetry.PLANNED)) == {100}
    assert [told[1][1], ledger.of(telemetry.LEFT)[-2], ledger.of(telemetry.LEFT)[-1]] == [60, 35, 0]


class _Until(list[Any]):
    """Sets an event when it has so many entries."""

    def __init__(self, event: threading.Event, count: int) -> None:
        super().__init__()
        self.event, self.count = event, count

    def append(self, entry: Any) -> None:
        super().append(entry)
        if len(self) >= self.count:
            self.event.set()


def test_a_run_that_fails_leaves_what_is_left(ledger: Ledger) -> None:
    """Not 0: it was not done."""
    with pytest.raises(OSError, match="full"), RunMeter("r1", planned=100, done=40):
        raise OSError("full")
    assert set(ledger.of(telemetry.LEFT)) == {60}
    assert not [thread for thread in threading.enumerate() if thread.name == "telemetry"]


def test_without_ray_nothing_is_made(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages called by themselves count nothing and make nothing."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with ModelMeter("r1").batch(4), RunMeter("r1", planned=4, done=0):
        tell_written("r1", rows(None), ["read_s"])
        tell_committed("r1")
    assert ledger.told == []


@pytest.mark.parametrize("broken", ["make", "use"])
def test_a_broken_exporter_harms_nothing(broken: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Ray's classes raise, the images go their way."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no metrics today")

    if broken == "make":
        ledger.Counter = ledger.Gauge = ledger.Histogram = fail
    else:
        monkeypatch.setattr(ledger, "told", None)
    with ModelMeter("r1").batch(4), RunMeter("r1", planned=4, done=0):
        tell_written("r1", rows(None), ["read_s"])
        tell_committed("r1")


def test_names() -> None:
    """Fit for Prometheus, ours by their beginning, each once; Ray's exporter puts `ray_` before and `_total` behind."""
    names = [metric.name for metric in telemetry.ALL]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"cops_[a-z_]+", name) and not name.endswith("_total") for name in names)
    assert telemetry.QUARANTINED.exported == ("ray_cops_quarantined_images_total",)
    assert telemetry.BATCH_SECONDS.exported[0] == "ray_cops_batch_seconds_bucket"


def test_few_series() -> None:
    """At most so many for each process that Ray starts: tags have their values from closed sets."""
    sizes = {"stage": len(Stage) + 1, "reason": len(Reason)}  # stage: localize, too, has its seconds
    assert {tag for metric in telemetry.ALL for tag in metric.tags} <= sizes.keys()


def test_each_is_documented() -> None:
    """Under the name that Prometheus has."""
    page = (ROOT / "docs/monitoring.md").read_text()
    for metric in telemetry.ALL:
        name = metric.exported[0].removesuffix("_bucket")
        assert f"| `{name}`" in page, name
