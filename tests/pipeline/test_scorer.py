"""The model's stage with a tiny detector: each row gets its scores or its reason, whatever the batch."""

import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.schema import decoded_schema, scored_schema
from pipeline.scorer import Scorer

SIDE, GRID = 4, 2


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.scorer._AGAIN_AFTER_S", (0.0, 0.0, 0.0))


class NoMemory(Exception):  # noqa: N818 -- stands for torch.OutOfMemoryError
    """The device is full."""


@dataclass
class Found:
    pred_score: np.ndarray
    class_score: np.ndarray
    patch_score_max: np.ndarray
    patch_scores: np.ndarray


@dataclass
class Brightness:
    """Scores an image by its first pixel; fits `room` images, none that is 13, and knows no number for 66."""

    room: int = 100
    model_id: str = "m"
    batches: list[int] = field(default_factory=list)

    def predict(self, images: Any, *, batch_size: int | None = None) -> Found:
        self.batches.append(len(images))
        first = images[:, 0, 0, 0]
        if len(images) > self.room or 13 in first:
            raise NoMemory("full")
        score = np.where(first == 66, np.nan, first / 255).astype(np.float32)
        patches = np.broadcast_to(score[:, None, None], (len(score), GRID, GRID)).copy()
        patches[first == 77, 0, 0] = np.inf
        return Found(score, score * 0.25, score * 0.75, patches)


def scorer(detector: Brightness, batch_size: int = 8, **metadata: pa.DataType) -> Scorer:
    return Scorer(
        lambda: detector, model_id="m", side=SIDE, batch_size=batch_size, metadata=metadata, out_of_memory=NoMemory
    )


def table(*values: int | None, **metadata: pa.DataType) -> pa.Table:
    """One row a value, of that brightness; None for a row that is bad already."""
    rows = [
        {
            "image_id": str(at),
            "image_uri": f"u{at}",
            "pixels": None if value is None else bytes([value]) * (SIDE * SIDE * 3),
            **({"stage": "decode", "reason": "corrupt", "message": "m"} if value is None else {}),
            **dict.fromkeys(metadata, "kept"),
        }
        for at, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, schema=decoded_schema(metadata))


def test_scores_stand_in_their_rows() -> None:
    """In the table's columns and types, rows in order, metadata kept; the pixels are gone."""
    found = scorer(Brightness(), lot=pa.string())(table(0, 51, 255, lot=pa.string()))
    assert found.schema == scored_schema({"lot": pa.string()})
    assert "pixels" not in found.column_names
    rows = found.to_pylist()
    assert [row["pred_score"] for row in rows] == pytest.approx([0, 0.2, 1])
    assert [row["class_score"] for row in rows] == pytest.approx([0, 0.05, 0.25])
    assert [row["map_size"] for row in rows] == [[GRID, GRID]] * 3
    assert rows[1]["patch_scores"] == np.full(4, 0.2, "<f2").tobytes()
    assert {(row["lot"], row["stage"]) for row in rows} == {("kept", None)}
    assert all(row["scored_at"] is not None and row["score_s"] >= 0 for row in rows)


def test_bad_rows_pass_through() -> None:
    """Rows without pixels keep their reason and get no score; the model sees the others only."""
    detector = Brightness()
    rows = scorer(detector)(table(None, 51, None)).to_pylist()
    assert [row["reason"] for row in rows] == ["corrupt", None, "corrupt"]
    assert [row["pred_score"] is None for row in rows] == [True, False, True]
    assert [row["scored_at"] is None for row in rows] == [True, False, True]
    assert detector.batches == [1]


def test_a_table_without_pictures_needs_no_model() -> None:
    """All bad, or no rows at all: handed on."""
    detector = Brightness()
    assert len(scorer(detector)(table(None, None))) == 2
    assert len(scorer(detector)(table())) == 0
    assert detector.batches == []


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
def test_out_of_memory_halves_the_batch_and_goes_on(room: int) -> None:
    """Each image is scored once and right, however few fit; the smaller batch stays for what comes next."""
    detector = Brightness(room=room)
    stage, values = scorer(detector, batch_size=8), [10, 20, 30, 40, 50, 60, 70, 80]
    rows = stage(table(*values)).to_pylist()
    assert [row["pred_score"] for row in rows] == pytest.approx([value / 255 for value in values])
    assert stage.batch_size <= room
    detector.batches.clear()
    stage(table(*values))
    assert max(detector.batches) <= room


def test_a_call_that_failed_holds_no_memory_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors hang on the error; another call may need the room."""
    detector, kept, alive = Brightness(), [], []

    def predict(images: Any, **_: Any) -> Found:
        activations = np.zeros(1)
        kept.append(weakref.ref(activations))
        raise NoMemory("full")

    detector.predict = predict  # type: ignore[method-assign]
    monkeypatch.setattr("pipeline.scorer.time.sleep", lambda _: alive.append(kept[-1]() is not None))
    scorer(detector)(table(10))
    assert alive == [False] * 3


def test_a_batch_size_that_another_call_has_found_stays() -> None:
    """Two calls run out of memory with eight; the first is down to one when the second is told."""
    detector = Brightness(room=1)
    stage = scorer(detector, batch_size=8)
    whole = detector.predict

    def predict(images: Any, **options: Any) -> Found:
        if len(images) == 8:
            stage.batch_size = 1  # as the other call leaves it
        return whole(images, **options)

    detector.predict = predict  # type: ignore[method-assign]
    stage(table(*range(20, 28)))
    assert detector.batches == [8, *[1] * 8]
    assert stage.batch_size == 1


def test_one_image_that_does_not_fit_is_quarantined() -> None:
    """Alone in its batch and still too much: that image has the reason, its neighbours their scores."""
    rows = scorer(Brightness(), batch_size=4)(table(10, 13, 30, 40)).to_pylist()
    assert [(row["stage"], row["reason"]) for row in rows] == [
        (None, None), ("score", "out_of_memory"), (None, None), (None, None),
    ]  # fmt: skip
    assert [row["pred_score"] is None for row in rows] == [False, True, False, False]


def test_one_image_that_did_not_fit_for_a_moment_is_scored() -> None:
    """Another call, or another program, held the memory: tried again, it is not blamed for that."""
    detector = Brightness()
    whole, failures = detector.predict, iter([True, True, False])

    def predict(images: Any, **options: Any) -> Found:
        if len(images) == 1 and next(failures, False):
            raise NoMemory("full")
        return whole(images, **options)

    detector.predict = predict  # type: ignore[method-assign]
    rows = scorer(detector, batch_size=2)(table(10, 20, 30)).to_pylist()
    assert [row["pred_score"] for row in rows] == pytest.approx([10 / 255, 20 / 255, 30 / 255])


def test_where_memory_is_tight_calls_take_turns() -> None:
    """After the first time out of memory, two calls of one actor compute one after the other."""
    detector = Brightness(room=2)
    stage = scorer(detector, batch_size=4)
    stage(table(1, 2, 3, 4))
    whole, busy, most = detector.predict, [0], [0]

    def predict(images: Any, **options: Any) -> Found:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.01)
        busy[0] -= 1
        return whole(images, **options)

    detector.predict = predict  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as calls:
        list(calls.map(stage, [table(*range(10)) for _ in range(4)]))
    assert most == [1]


@pytest.mark.parametrize("value", [66, 77])
def test_a_score_that_is_no_number_is_quarantined(value: int) -> None:
    """NaN in the image score or infinity in one patch: a reason and no score; neighbours are untouched."""
    rows = scorer(Brightness())(table(10, value)).to_pylist()
    assert [row["reason"] for row in rows] == [None, "not_finite"]
    assert (rows[1]["pred_score"], rows[1]["patch_scores"]) == (None, None)


def test_other_errors_are_raised() -> None:
    """A bad world is not blamed on an image."""
    detector = Brightness()
    stage = scorer(detector)
    stage.out_of_memory = MemoryError
    with pytest.raises(NoMemory):
        stage(table(13))


def test_another_model_on_a_node_is_refused() -> None:
    """An actor that built other weights than the run was planned with does not score."""
    with pytest.raises(RuntimeError, match="has model other, the run was planned with m"):
        scorer(Brightness(model_id="other"))


@dataclass
class Hungry(Brightness):
    """Takes a sixth of a GPU for each image, and for one that is 13 more than there is."""

    def predict(self, images: Any, *, batch_size: int | None = None) -> Found:
        whole = torch.cuda.get_device_properties(0).total_memory
        wanted = sum(2 * whole if value == 13 else whole // 6 for value in images[:, 0, 0, 0])
        torch.empty(wanted, dtype=torch.uint8, device="cuda")
        return super().predict(images)


@pytest.mark.gpu
def test_a_gpu_that_is_really_full() -> None:
    """CUDA's own error: the batch becomes what fits and stays so; the image that never fits is quarantined alone."""
    detector, values = Hungry(), list(range(20, 52))
    stage = Scorer(
        lambda: detector, model_id="m", side=SIDE, batch_size=16, metadata={}, out_of_memory=torch.OutOfMemoryError
    )
    rows = stage(table(*values)).to_pylist()
    assert [row["pred_score"] for row in rows] == pytest.approx([value / 255 for value in values])
    assert 2 <= stage.batch_size < 6
    rows = stage(table(10, 13, 30)).to_pylist()
    assert [row["reason"] for row in rows] == [None, "out_of_memory", None]


HANGS = """
import time
import pyarrow as pa
from pipeline.schema import decoded_schema
from pipeline.scorer import Scorer
from pipeline.watchdog import Patience

class Hangs:
    model_id = "m"
    def predict(self, images, *, batch_size=None):
        time.sleep(60)

if __name__ == "__main__":
    patience = Patience(silent_s=30, work_s=1)
    stage = Scorer(
        Hangs, model_id="m", side=4, batch_size=1, metadata={}, out_of_memory=MemoryError, patience=patience
    )
    stage(pa.Table.from_pylist([{"image_id": "a", "image_uri": "u", "pixels": bytes(48)}], schema=decoded_schema({})))
"""


def test_a_batch_that_never_ends_is_ended() -> None:
    """The stage is watched: its process is killed, and the driver's log is told why."""
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=50, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "cops-log " in done.stderr
    assert "a model actor was at one batch for more than 1 s: it is ended" in done.stderr
