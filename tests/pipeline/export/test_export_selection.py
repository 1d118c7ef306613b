"""Which images are exported, and what they are called."""

import re
from pathlib import Path
from typing import Any

import pytest
from export_making import blob, commit_rows, marked
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import string
from run_making import score_row

from pipeline.errors import InputError, RunError
from pipeline.export.names import names_for, picture_name
from pipeline.export.selection import Selection, choose
from pipeline.layout import RunLayout
from pipeline.sources.items import image_id


@pytest.fixture
def output(layout: RunLayout) -> str:
    """a and b of line 1, c of line 2, which has a mask."""
    rows = [score_row(name, pred_score=score, line=line) for name, score, line in (("b", 0.2, "1"), ("a", 0.4, "1"))]
    row = marked("c", blob(4, 5, (0, 0, 1, 1)), line="2")
    return commit_rows(layout, *rows, row, columns={"line": string()})


def ids(**options: Any) -> list[str]:
    with choose(Selection(**options)) as chosen:
        return [row["image_id"] for row in chosen.rows(["image_id"])]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "abc"),
        ({"where": "pred_label = 1 AND line = '2'"}, "c"),
        ({"where": "line = '1' -- a remark"}, "ab"),
        ({"where": "line = '1' OR true", "limit": 2}, "ab"),
        ({"where": "false"}, ""),
        ({"order_by": "pred_score DESC"}, "cab"),
        ({"order_by": "line DESC, pred_score", "limit": 2}, "cb"),
        ({"order_by": "pred_score DESC -- a remark", "limit": 1}, "c"),
    ],
)
def test_conditions_and_orders(output: str, options: Any, expected: str) -> None:
    """SQL over the columns; by URI where nothing is said."""
    assert ids(output=output, **options) == list(expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": "pred_lab = 1"}, "pred_lab"),
        ({"where": "line = 1 AND line + 1 = 'x'"}, "--where"),
        ({"where": "true; DROP VIEW scores"}, "Cannot have any modifiers"),
        ({"where": "true) UNION SELECT * FROM scores --"}, "syntax error"),
        ({"where": "image_id IN (SELECT content FROM read_text('/etc/passwd'))"}, "disabled by configuration"),
        ({"where": "count(*) > 1"}, "aggregates"),
        ({"where": ""}, "--where"),
        ({"order_by": "nothing"}, "nothing"),
        ({"order_by": "line; DROP VIEW scores"}, "Expected a single"),
        ({"order_by": "line) --"}, "syntax error"),
        ({"limit": 0}, "--limit: expected 1 or more"),
        ({"run_id": "r2"}, "has no record"),
        ({"label_set": "none"}, "no label set 'none'"),
    ],
)
def test_wrong_use(output: str, options: Any, words: str) -> None:
    """DuckDB's own words; no SQL reaches beyond the views."""
    with pytest.raises(InputError, match=re.escape(words)):
        ids(output=output, **options)


def test_a_condition_that_chooses_at_random(layout: RunLayout) -> None:
    """Chosen once: as many images as were counted, the same ones in one order, however often they are asked for."""
    output = commit_rows(layout, *(score_row(str(number)) for number in range(1000)))
    with choose(Selection(output=output, where="random() < 0.5", order_by="random()")) as chosen:
        first, again = ([row["image_id"] for row in chosen.rows(["image_id"])] for _ in range(2))
        assert 300 < chosen.images == len(first) < 700
        assert first == again != sorted(first)


def test_a_part_that_cannot_be_read(layout: RunLayout) -> None:
    """No fault of the condition: exit code 1, and what to do."""
    output = commit_rows(layout, score_row("a"))
    part = Path(layout.parts("scores")[0])
    part.write_bytes(part.read_bytes()[:4] + bytes(300) + part.read_bytes()[304:])
    with pytest.raises(RunError, match=r"cannot be read: .*verify --all"):
        ids(output=output, where="pred_score > 0.5")


def test_columns_of_any_name(layout: RunLayout) -> None:
    """A run's own columns come from file names and manifests."""
    name = 'a"; DROP VIEW chosen; --'
    output = commit_rows(layout, score_row("a", **{name: "x"}), columns={name: string()})
    with choose(Selection(output=output)) as chosen:
        assert chosen.columns == [name]
        assert list(chosen.rows([name])) == [{name: "x"}]


HOSTILE = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["..", "/etc/passwd", "a\0b", "x" * 500])


@given(HOSTILE, HOSTILE)
def test_picture_names_are_safe_and_apart(one: str, two: str) -> None:
    """Letters, digits, - and _ and one dot; no path, no hidden file, never too long; another for every image."""
    names = [picture_name({"image_uri": f"/in/{uri}", "image_id": image_id(f"/in/{uri}")}) for uri in (one, two)]
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*\.png", name)
        assert len(name) <= 90
    assert (names[0].lower() == names[1].lower()) == (one == two)


def test_picture_names_tell_where_from() -> None:
    """Two folders and the name, of files and of members of shards."""
    key = image_id("x")
    row = {"image_uri": "/in/woven/hole/0001.jpg", "image_id": key}
    assert picture_name(row) == f"woven_hole_0001-{key[:16]}.png"
    assert picture_name(row, "mask") == f"woven_hole_0001-{key[:16]}.mask.png"
    assert picture_name({"image_uri": "s3://b/s.tar#k/7", "image_id": key}) == f"s_tar_k_7-{key[:16]}.png"


def names(layout: RunLayout, uris: list[str], **options: Any) -> list[str]:
    given = {"relative_to": None, "pictures": None} | options
    shards = [uri.partition("#")[0] if "#" in uri else None for uri in uris]
    rows = [
        score_row(str(at), image_uri=uri, shard=shard) for at, (uri, shard) in enumerate(zip(uris, shards, strict=True))
    ]
    output = commit_rows(layout, *rows)
    with choose(Selection(output=output)) as chosen:
        found = names_for(chosen, **given)
        return [found.folder, *(found.of(row) for row in chosen.rows(["image_id", "image_uri"]))]


@pytest.mark.parametrize(
    ("uris", "options", "expected"),
    [
        (["/in/a/1.png", "/in/ab/2.png"], {}, ["/in/", "a/1.png", "ab/2.png"]),
        (["/in/a/1.png"], {}, ["/in/a/", "1.png"]),
        (["/1.png", "/in/2.png"], {}, ["/", "1.png", "in/2.png"]),
        (["s3://b/x/1.png", "s3://b/y/2.png"], {}, ["s3://b/", "x/1.png", "y/2.png"]),
        (["/in/a/1.png", "/in/a/2.png"], {"relative_to": "/in"}, ["/in/", "a/1.png", "a/2.png"]),
        (["/in/a'\n%?/1.png", "/in/b"], {}, ["/in/", "a'\n%?/1.png", "b"]),
    ],
)  # fmt: skip
def test_file_names(layout: RunLayout, uris: list[str], options: Any, expected: list[str]) -> None:
    """Relative to the deepest folder of all images of the run, or to the one that is given."""
    assert names(layout, uris, **options) == expected


@pytest.mark.parametrize(
    ("uris", "options", "words"),
    [
        (["/in/1.png", "/in/s.tar#a"], {}, r"1 of the 2 images lie in shards.*/in/s.tar#a.*--pictures FOLDER"),
        (["s3://b/1.png", "gs://b/2.png"], {}, "several stores"),
        (["/in/1.png", "s3://b/2.png"], {}, "several stores"),
        (["s3://a/1.png", "s3://b/2.png"], {}, "several stores"),
        (["/in/1.png", "/on/2.png"], {"relative_to": "/in"}, "1 are not in /in/: /on/2.png"),
        (["/in/1.png"], {"relative_to": "/in", "pictures": "/p"}, "not both"),
    ],
)
def test_names_that_would_find_nothing(layout: RunLayout, uris: list[str], options: Any, words: str) -> None:
    """What no tool could open is an error, and the way on is told."""
    with pytest.raises(InputError, match=words):
        names(layout, uris, **options)
    assert names(layout, uris, pictures="/p")[0] == "/p/"
