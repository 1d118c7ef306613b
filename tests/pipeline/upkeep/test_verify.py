"""A committed run against its record: each kind of damage is found, in the file that has it, and nothing else is."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from run_making import bad_row, commit_run, make_run, put, record_of, score_row

from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.parts import parquet_bytes
from pipeline.schema import SCORES, with_metadata
from pipeline.storage import Root
from pipeline.upkeep.text import verification_text
from pipeline.upkeep.verify import verify, verify_all


def found(layout: RunLayout) -> list[tuple[str, str]]:
    """Each finding's file and problem."""
    return [(one.path.rpartition("/")[2], one.problem) for one in verify(layout.root.path, "r1").findings]


def one_problem(layout: RunLayout) -> str:
    ((_, problem),) = found(layout)
    return problem


def largest_part(layout: RunLayout) -> Path:
    return max(Path(layout.root.path).rglob("*.parquet"), key=lambda path: path.stat().st_size)


def test_a_sound_run(layout: RunLayout) -> None:
    """Nothing is found, and what was read is told."""
    make_run(layout)
    done = verify(layout.root.path)
    assert (done.is_sound, done.run_id, done.files, done.rows) == (True, "r1", 3, 4)
    assert done.num_bytes == sum(file["num_bytes"] for file in record_of(layout)["files"])
    assert verification_text(done).startswith("Run r1 is as recorded: 4 rows in 3 files, ")


def test_a_run_without_thresholds_and_with_columns_of_its_own(layout: RunLayout) -> None:
    """Null masks and metadata columns are as they should be."""
    schema = with_metadata(SCORES, {"line": pa.string()})
    for name in "ab":
        put(layout, "scores", [score_row(name, pixel_threshold=None, pred_mask=None, mask_area=None)], schema)
    commit_run(layout)
    assert found(layout) == []


def test_a_run_in_a_store(memory_root: Root) -> None:
    """Not on a disk alone."""
    make_run(RunLayout(memory_root, "r1"))
    assert verify(memory_root.fs.unstrip_protocol(memory_root.path)).is_sound


def test_a_part_that_is_cut(layout: RunLayout) -> None:
    """Its size tells."""
    make_run(layout)
    part = largest_part(layout)
    size = part.stat().st_size
    part.write_bytes(part.read_bytes()[: size // 2])
    assert found(layout) == [(part.name, f"expected {size} bytes, has {size // 2}")]


def test_a_part_that_is_gone(layout: RunLayout) -> None:
    """By name."""
    make_run(layout)
    part = largest_part(layout)
    part.unlink()
    assert found(layout) == [(part.name, "is missing")]


def test_a_part_too_many(layout: RunLayout) -> None:
    """A late writer's: readers by the record do not see it, readers of the folder do."""
    make_run(layout)
    stray = put(layout, "scores", [score_row("late")])
    assert found(layout) == [(stray.name, "is not in the record: pipeline.open_run does not read it, a glob does")]


def a_column(part: Path, name: str) -> range:
    """Where a part's column lies, headers of its pages included."""
    group = pq.read_metadata(part).row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    start = columns[name].dictionary_page_offset or columns[name].data_page_offset
    return range(start, start + columns[name].total_compressed_size)


def damages(part: Path, places: Iterable[int]) -> Iterator[int]:
    """The part with a bit of one byte flipped, one byte after the other; whole again in the end."""
    sound, bits = part.read_bytes(), itertools.cycle(range(8))
    for at in places:
        damaged = bytearray(sound)
        damaged[at] ^= 1 << next(bits)
        part.write_bytes(damaged)
        yield at
    part.write_bytes(sound)


@pytest.fixture
def part_of_noise(layout: RunLayout) -> Path:
    """A committed run's only part: maps of random numbers, which are most of it."""
    scores = np.random.default_rng(0).random((40, 64)).astype("<f2")
    rows = [score_row(f"{at:032x}", patch_scores=row.tobytes(), map_size=[8, 8]) for at, row in enumerate(scores)]
    part = put(layout, "scores", rows)
    commit_run(layout)
    return part


def test_a_bit_that_flips_in_a_page(layout: RunLayout, part_of_noise: Path) -> None:
    """Whichever byte of the scores: it breaks a checksum, though the numbers would look as good as any."""
    pages = a_column(part_of_noise, "patch_scores")
    for at in damages(part_of_noise, range(pages.start + 60, pages.stop, 97)):
        assert "cannot be read whole" in one_problem(layout), at
    assert found(layout) == []


def test_a_bit_that_flips_in_the_footer(layout: RunLayout, part_of_noise: Path) -> None:
    """Whichever byte: a statistic that lies would have readers skip rows."""
    size = part_of_noise.stat().st_size
    footer = int.from_bytes(part_of_noise.read_bytes()[-8:-4], "little")
    for at in damages(part_of_noise, range(size - 8 - footer, size, 61)):
        assert one_problem(layout) == "the footer is not the one that was committed", at
    assert found(layout) == []


def test_a_part_written_again(layout: RunLayout, part_of_noise: Path) -> None:
    """By a task that Ray repeated after the commit: as many rows and bytes, and another file."""
    rows = pq.read_table(part_of_noise, partitioning=None)
    later = pc.add(rows["scored_at"], pa.scalar(1_000_001, pa.duration("us"))).cast(rows.schema.field("scored_at").type)
    size = part_of_noise.stat().st_size
    part_of_noise.write_bytes(parquet_bytes(rows.set_column(len(rows.schema) - 1, "scored_at", later)))
    assert part_of_noise.stat().st_size == size
    assert one_problem(layout) == "the footer is not the one that was committed"


def test_a_record_without_digests(layout: RunLayout, part_of_noise: Path) -> None:
    """Runs of earlier versions have none, and are verified all the same, pages and all."""
    record = record_of(layout)
    for file in record["files"]:
        del file["footer_sha256"]
    layout.write_json(layout.commit_path, record)
    assert found(layout) == []
    next(damages(part_of_noise, a_column(part_of_noise, "patch_scores")[1000:]))
    assert "cannot be read whole" in one_problem(layout)


def test_a_part_that_is_no_parquet(layout: RunLayout) -> None:
    """Of the right size, and something else."""
    make_run(layout)
    part = largest_part(layout)
    part.write_bytes(b"x" * part.stat().st_size)
    assert "the footer is not the one that was committed" in one_problem(layout)


@pytest.mark.parametrize("name", ["scored", "quarantined", "planned", "bytes"])
def test_counts_that_were_changed(layout: RunLayout, name: str) -> None:
    """The record's sums are those of its files."""
    make_run(layout)
    record = record_of(layout)
    record["counts"][name] += 1
    layout.write_json(layout.commit_path, record)
    was = record["counts"][name]
    assert found(layout) == [("r1.json", f"counts.{name} is {was}, its files hold {was - 1}")]


def test_rows_that_were_changed(layout: RunLayout) -> None:
    """A file's rows in the record are those in the file, whatever the sums say."""
    make_run(layout)
    record = record_of(layout)
    record["files"][0]["rows"] += 1
    record["counts"]["scored"] += 1
    record["counts"]["planned"] += 1
    layout.write_json(layout.commit_path, record)
    (_, problem) = found(layout)[0]
    rows = record["files"][0]["rows"]
    assert problem == f"expected {rows} rows, has {rows - 1}"


@pytest.mark.parametrize("other", ["scores", "quarantine"])
def test_an_image_of_two_parts(layout: RunLayout, other: Any) -> None:
    """Within a table or across both: told once, with an id and both files."""
    first = put(layout, "scores", [score_row("a"), score_row("b")])
    second = put(layout, other, [score_row("b"), score_row("c")] if other == "scores" else [bad_row("b")])
    commit_run(layout)
    problem = one_problem(layout)
    assert problem.startswith("1 images are in the tables more than once (image_id b, in ")
    told = {verify(layout.root.path).findings[0].path.rpartition("/")[2], problem.split(", too")[0].rpartition("/")[2]}
    assert told == {first.name, second.name}


def test_an_image_twice_in_one_part(layout: RunLayout) -> None:
    """No other file is needed for that."""
    put(layout, "scores", [score_row("a"), score_row("a")])
    commit_run(layout)
    assert one_problem(layout) == "1 images are in the tables more than once (image_id a, in this file, too)"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_id": "other"}, "model_id is not the record's"),
        ({"model_id": None}, "model_id is not the record's"),
        ({"pred_score": float("nan")}, "pred_score is no finite number"),
        ({"class_score": float("inf")}, "class_score is no finite number"),
        ({"patch_score_max": None}, "patch_score_max is no finite number"),
        ({"map_size": [2, 3]}, "patch_scores are not map_size finite numbers"),
        ({"map_size": [4]}, "patch_scores are not map_size finite numbers"),
        ({"map_size": [None, 2]}, "patch_scores are not map_size finite numbers"),
        ({"map_size": None}, "patch_scores are not map_size finite numbers"),
        ({"patch_scores": None}, "patch_scores are not map_size finite numbers"),
        ({"patch_scores": np.array([0, 1, np.nan, 0], "<f2").tobytes()}, "patch_scores are not map_size finite"),
        ({"mask_area": 5}, "pred_mask does not fit"),
        ({"mask_area": None}, "pred_mask does not fit"),
        ({"pred_mask": None}, "pred_mask does not fit"),
        ({"pixel_threshold": None}, "pred_mask does not fit"),
        ({"width": 4, "height": 5}, "pred_mask does not fit"),
        ({"width": None}, "pred_mask does not fit"),
        ({"height": None, "pred_mask": {"size": [None, 5], "counts": "0"}}, "pred_mask does not fit"),
        ({"pred_mask": {"size": [4, 5], "counts": "0"}}, "pred_mask does not fit"),
        ({"pred_mask": {"size": [4, 5], "counts": "\x1b[2J"}}, "pred_mask does not fit"),
        ({"pred_mask": {"size": [4, 5], "counts": None}}, "pred_mask does not fit"),
    ],
)
def test_rows_that_break_their_columns_promise(layout: RunLayout, fields: dict[str, Any], words: str) -> None:
    """How many, and the id of one of them."""
    part = put(layout, "scores", [score_row("a"), score_row("b", **fields), score_row("c", **fields)])
    commit_run(layout)
    ((name, problem),) = found(layout)
    assert name == part.name
    assert problem.startswith(f"2 rows: {words}")
    assert problem.endswith("(image_id b)")


@pytest.mark.parametrize(
    ("fields", "words"), [({"reason": "bad luck"}, "reason is none"), ({"stage": None}, "stage is none")]
)
def test_reasons_that_are_none_of_ours(layout: RunLayout, fields: dict[str, Any], words: str) -> None:
    """The set is fixed."""
    put(layout, "quarantine", [bad_row("a"), bad_row("b", **fields)])
    commit_run(layout)
    assert words in one_problem(layout)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (SCORES.remove(SCORES.get_field_index("mask_area")), "expected mask_area int64, got regions"),
        (pa.schema(list(SCORES)[:-1]), "expected scored_at, the file has none"),
        (SCORES.set(10, pa.field("pred_score", pa.float64())), "expected pred_score float, got pred_score double"),
        (with_metadata(SCORES, {"message": pa.string()}), "columns that no scores table has: message"),
    ],
)
def test_columns_of_another_table(layout: RunLayout, schema: pa.Schema, words: str) -> None:
    """Names, types and order are those of the schema, and none of the run's own takes a name of ours."""
    row = {name: value for name, value in score_row("a").items() if name in schema.names}
    put(layout, "scores", [row], schema)
    commit_run(layout)
    assert words in one_problem(layout)


def test_parts_with_different_columns_of_their_own(layout: RunLayout) -> None:
    """One table has one set of columns."""
    put(layout, "scores", [score_row("a")], with_metadata(SCORES, {"line": pa.string()}))
    put(layout, "scores", [score_row("b")], with_metadata(SCORES, {"line": pa.int64()}))
    commit_run(layout)
    problem = one_problem(layout)
    assert problem.startswith("expected the run's own columns line ")
    assert "int64" in problem


def test_several_findings_and_where(layout: RunLayout) -> None:
    """Each in a line with its file; names in them are not obeyed."""
    make_run(layout)
    largest_part(layout).unlink()
    put(layout, "scores", [score_row("late")])
    told = verification_text(verify(layout.root.path))
    assert told.startswith("Run r1 is NOT as recorded: 2 findings; ")
    assert [line.split(":")[1][:12] for line in told.splitlines()[1:]] == [" is missing", " is not in t"]


def test_all_runs_and_what_is_no_record(layout: RunLayout) -> None:
    """Every committed run, and a record that cannot be read is a finding; a run that goes on is left out."""
    make_run(layout)
    make_run(RunLayout(layout.root, "r2"))
    Path(layout.root.join("runs/odd.json")).write_text("{")
    put(RunLayout(layout.root, "going"), "scores", [score_row("x")])
    done = {one.run_id: one.is_sound for one in verify_all(layout.root.path)}
    assert done == {"odd": False, "r1": True, "r2": True}


@pytest.mark.parametrize("run_id", ["odd", None])
def test_a_record_that_cannot_be_read_is_a_finding(layout: RunLayout, run_id: str | None) -> None:
    """Not a wrong use. Without an id, too: which run is the last one cannot be told."""
    make_run(layout)
    Path(layout.root.join("runs/odd.json")).write_text("{")
    done = verify(layout.root.path, run_id)
    ((path, problem),) = [(one.path, one.problem) for one in done.findings]
    assert (done.run_id, path) == ("odd", "runs/odd.json")
    assert "damaged; expected JSON" in problem


def test_only_committed_runs_can_be_verified(layout: RunLayout) -> None:
    """Without a record there is nothing to hold a run against."""
    put(layout, "scores", [score_row("a")])
    with pytest.raises(InputError, match="has no record"):
        verify(layout.root.path, "r1")
    with pytest.raises(InputError, match="no committed run"):
        verify(layout.root.path)


def test_a_record_that_leads_elsewhere_is_not_followed(layout: RunLayout, tmp_path: Path) -> None:
    """A file outside of the run's folders is not even opened."""
    make_run(layout)
    record = json.loads(Path(layout.commit_path).read_text())
    record["files"][0]["path"] = "scores/run_id=r1/../../../secret.parquet"
    layout.write_json(layout.commit_path, record)
    done = verify(layout.root.path, "r1")
    assert done.files == 0
    assert "expected each file once, as scores/run_id=r1/" in one_problem(layout)
