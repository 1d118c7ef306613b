"""docs/analytics.md is true: its pandas and Polars give what the queries give, and every query stands in it."""

import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tyro
from analytics_page import PAGE, blocks, differences
from nights import QUERIES, B, bad, box, by_views, image, label_set, night

import pipeline
from jobs.query import SETUP, Options
from pipeline.queries import parameters_of

QUERY_NAMES = sorted(path.stem for path in QUERIES.glob("*.sql") if path.stem not in SETUP)
BLOCKS = list(blocks())
FIRST, WITHOUT_US, *_ = [code for query, code in BLOCKS if not query]
FORMS = Counter(query for query, _ in BLOCKS if query)


def pictures(prefix: str, count: int, seed: int, **fields) -> list[dict]:
    """Scores, labels and areas of all sorts, on two lines and one unknown, in two categories and an unknown one."""
    rng = np.random.default_rng(seed)
    made = []
    for number, score in enumerate(np.round(rng.random(count), 2)):
        category, line = ["bolt", "nut", None][number % 7 % 3], ["a", "b", None][number % 5 % 3]
        area = [None, 0, 10, 200][number % 4]
        regions = None if area is None else [box(1, 1, 5, 5, area)] if area else []
        own = {"category": category, "line": line, "mask_area": area, "regions": regions}
        threshold = None if number % 11 == 0 else 0.5
        made.append(image(f"{prefix}{number}", float(score), image_threshold=threshold, **(own | fields)))
    return made


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs over three weeks, one of another model; images again, copies, names that were overwritten, parts under
    two dates, a new category, one that is gone.
    """
    place = tmp_path_factory.mktemp("page")
    output = str(place / "out")
    first = pictures("p", 130, 1)
    night(output, "n1", "2026-02-27T04:00", [*first, *pictures("old", 5, 2, category="washer")], [bad("x")])
    night(output, "b1", "2026-02-28T04:00", pictures("p", 40, 3), model_id=B)
    night(output, "n2", "2026-03-01T23:30", [*pictures("q", 120, 4), *pictures("gone", 5, 5, category="gear")])
    again = [row | {"mask_area": 7} for row in first[:30]]
    copies = [row | {"image_id": f"copy {row['image_id']}"} for row in first[30:34]]
    others = [row | {"content_hash": f"another {row['content_hash']}", "pred_score": 0.4} for row in first[34:50]]
    night(output, "n3", "2026-03-03T04:00", [*again, *copies, *others, *pictures("r", 150, 6)])
    new = pictures("new", 35, 7, category="spring")
    last = [*pictures("s", 140, 8), *new, *pictures("g", 40, 9, category="washer")]
    label_set(night(output, "n4", "2026-03-09T04:00", last), "strict", [{"image_id": row["image_id"]} for row in last])
    return place


@pytest.mark.parametrize("preamble", [FIRST, f"{FIRST}\n{WITHOUT_US}"], ids=["open_views", "without this package"])
def test_pandas_and_polars(nights: Path, preamble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each form on the page, whichever way the tables were read, gives the query's own rows."""
    monkeypatch.chdir(nights)
    known: dict = {}
    exec("import pandas as pd\nimport polars as pl", known)
    exec(preamble, known)
    answered = []
    for query, code in BLOCKS:
        if query:
            exec(code, known)
            expected = by_views("out", query)
            assert expected.num_rows > 0
            assert differences(known.pop("answer"), expected) == ([], []), f"{query}:\n{code}"
            answered.append(query)
    assert Counter(answered) == FORMS
    assert min(FORMS.values()) == max(FORMS.values()) == 2


def test_the_comparison_can_fail(nights: Path) -> None:
    """A row more, a row less or another value is seen."""
    table = by_views(str(nights / "out"), "anomaly_rate_over_time")
    frame = table.to_pandas()[["run_id", "flagged"]]
    assert differences(frame, table) == ([], [])
    assert differences(frame[1:], table) != ([], [])
    assert differences(frame.assign(flagged=1), table) != ([], [])


def test_decoding_masks_and_maps(nights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of Python for a row, as they stand."""
    (code,) = [code for query, code in BLOCKS if not query and "masks.decode" in code]
    row = by_row(nights)
    known = {"row": row}
    exec(code, known)
    assert known["mask"].shape == known["heat"].shape == (row["height"], row["width"])
    assert known["mask"].sum() == 4
    assert known["grid"].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(known["heat"], 0.5, rtol=1e-5)


def by_row(nights: Path) -> dict:
    (row, *_) = pipeline.open_run(str(nights / "out"), "n1").scores.head(1).to_pylist()
    return row | {"width": 5, "height": 4}  # of the mask that tests make


@pytest.mark.parametrize("query", QUERY_NAMES)
def test_every_query_is_shown(query: str) -> None:
    """With a command that can be given, and the columns that it answers with."""
    (section,) = re.findall(rf"^### `{query}`\n(.*?)(?=^##)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    _, *command = shlex.split(re.search(r"^\$ python (.*)$", section, re.MULTILINE)[1])
    options = tyro.cli(Options, args=command)
    assert options.query == query
    known = parameters_of((QUERIES / f"{query}.sql").read_text("utf-8"))
    assert all(value.partition("=")[0] in known for value in options.values)


@pytest.mark.parametrize("query", QUERY_NAMES)
def test_shown_with_its_columns(nights: Path, query: str) -> None:
    """The heading of the answer has the query's columns, in order; what is left out is said."""
    page = PAGE.read_text("utf-8")
    (section,) = re.findall(rf"^### `{query}`\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE)
    shown = re.search(r"^\$ python .*\n(.*)$", section, re.MULTILINE)[1].split()
    left_out = re.findall(r"`(\w+)`", next(iter(re.findall(r"^Left out here: (.*)$", section, re.MULTILINE)), ""))
    names = by_views(str(nights / "out"), query).column_names
    assert [name for name in names if name not in left_out] == shown
    assert set(left_out) <= set(names)
