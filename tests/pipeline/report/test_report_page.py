"""The page and its terminal form: every section says what the counts say, and no name is ever markup."""

import datetime
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_making import HOSTILE, hostile_night, make_nights, night, pictured, rows_of

from pipeline.errors import InputError
from pipeline.report import output as outputs
from pipeline.report import page as pages
from pipeline.report.config import ReportConfig
from pipeline.report.findings import Attention, Report
from pipeline.report.output import make_report, report_and_write
from pipeline.report.page import page
from pipeline.report.text import terminal_text
from pipeline.report.window import find_window

AT = datetime.datetime(2026, 11, 23, 5, tzinfo=datetime.UTC)
OURS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "bdi", "br", "span", "dl", "dt",
    "dd", "div", "section", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "line", "text", "g",
    "polyline", "figure", "figcaption", "img", "b", "details", "summary", "footer",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "style", "aria-label", "role", "viewbox", "x", "y",
    "x1", "x2", "y1", "y2", "width", "height", "fill", "points", "text-anchor", "src", "alt", "colspan", "aria-hidden",
}  # fmt: skip
UNSEEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Seen(HTMLParser):
    """Every element, attribute and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.attributes: list[tuple[str, str, str]] = []
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def require_harmless(text: str) -> Seen:
    """Our own elements and attributes alone; pictures are data; no text turns lines round or moves a cursor."""
    seen = Seen(text)
    assert set(seen.elements) <= OURS
    assert {name for _, name, _ in seen.attributes} <= ATTRIBUTES
    for tag, name, value in seen.attributes:
        if name == "src":
            assert re.fullmatch(r"data:image/webp;base64,[A-Za-z0-9+/=]+", value)
        elif name == "style":
            assert re.fullmatch(r"--v:[01]\.\d{3}", value)
        elif name not in ("aria-label", "content"):
            assert re.fullmatch(r"[\w\s.,:;%#'-]*", value), (tag, name, value)
        assert not UNSEEN.search(value)
    assert not UNSEEN.search("".join(seen.texts))
    assert "script" not in seen.elements
    return seen


def report_of(output: Path | str, **options: Any) -> Report:
    config = ReportConfig(**{"output": str(output)} | options)
    window = find_window(config.output, config.run_ids, config.trailing, compare_with=config.compare_with)
    return make_report(config, window)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    make_nights(folder / "out", folder / "pictures", nights=6)
    return folder / "out"


@pytest.fixture(scope="module")
def report(nights: Path) -> Report:
    return report_of(nights)


@pytest.fixture(scope="module")
def seen(report: Report) -> Seen:
    return require_harmless(page(report, at=AT))


def test_what_stands_out(report: Report) -> None:
    """The category that drifted, the one with more anomalies, and the new one; nothing of the steady one."""
    alerts = [one.text for one in report.attention if one.is_alert]
    assert alerts == [
        "Anomaly rate higher than before: bad (23.1%, before 2.9%).",
        "Scores have drifted: drifting.",
        "The scores of all images together have drifted.",
    ]
    assert [one.text for one in report.attention if not one.is_alert] == [
        "New, in no trailing run: new.",
        "Rates are compared without what has fewer than 30 images before: new (2 images).",
    ]
    assert {line.name for line in report.lines if line.drift.is_flagged} == {"drifting"}


@pytest.mark.parametrize(
    "words",
    [
        "Inspection report: night-5",
        "images scored 134 4 groups",
        "Anomaly rate higher than before: bad (23.1%, before 2.9%).",
        "bad ▲ higher 23.1% 13.7–36.1% 2.9% 12 52 76.9%",
        "drifted 1 of 3 groups tested; all together: yes",
        "1. 0.950 · bad threshold 0.500 (+0.450) · defect area 256 px, 6.2% of the picture",
        "regions 1: peak 0.750, 16×16 px",
        "pixel threshold 0.300",
        "drifting 40 200",
        "▲ PSI and KS",
        "too few images",
        "6 decode truncated it ends before its own marks and lengths say",
        "read 10.5, decode 10.5",
        "Flagged: PSI ≥ 0.25, or KS D ≥ 0.10",
        "Higher or lower: 1.5 times the rate before",
        "against the run committed before, night-4",
        "Made 2026-11-23 05:00 UTC",
    ],
)
def test_the_page_says(seen: Seen, words: str) -> None:
    """Each section its own."""
    assert words in seen.text


def test_the_page_needs_nothing_else(report: Report) -> None:
    """No script, no link, nothing to fetch, and a policy that would refuse it."""
    text = page(report, at=AT)
    assert not re.search(r"(?i)<(script|link|iframe|object|a)\b|@import|url\(|https?://", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert page(report, at=AT) == text


def test_the_terminal_says_the_same(report: Report) -> None:
    """Figures, alerts, groups, drift, quarantine, the highest scores, what changed."""
    lines = terminal_text(report).splitlines()
    assert lines[0] == "Report on night-5, model tiny; labels: the run's own"
    told = "\n".join(lines)
    for words in (
        "  ! Anomaly rate higher than before: bad (23.1%, before 2.9%).",
        "  - New, in no trailing run: new.",
        "             6  decode: truncated",
        "Drifted\n  all                          PSI 0.46",
        "   1   0.950  bad ",
    ):
        assert words in told
    assert all(len(line) < 160 for line in lines)


def test_pictures_come_with_it(report: Report, seen: Seen) -> None:
    """The anomalies' own, and their maps."""
    assert [round(float(one.row["pred_score"]), 3) for one in report.top[:2]] == [0.95, 0.918]
    assert all(one.original and one.overlay for one in report.top)
    assert sum(tag == "img" for tag in seen.elements) == 2 * len(report.top) + sum(
        bool(one.original) + bool(one.overlay) for one in report.borderline
    )


def test_without_pictures(nights: Path) -> None:
    """Figures alone; not one image in the page."""
    seen = require_harmless(page(report_of(nights, pictures=False), at=AT))
    assert "img" not in seen.elements
    assert "No picture: --no-pictures" in seen.text


def test_names_are_never_markup(tmp_path: Path) -> None:
    """Hostile names in every place that is anybody's: shown as text, in one line, and nothing else."""
    hostile_night(tmp_path / "out", tmp_path / "pictures")
    for by in (("category",), ("category", "defect")):
        made = report_of(tmp_path / "out", by=by)
        seen = require_harmless(page(made, at=AT))
        for name in HOSTILE[:6]:
            assert " ".join(name.split()) in seen.text
        assert r"\u202egnp.exe\u202c" in seen.text
        assert "2 scores not finite, and in no figure." in seen.text
        assert not UNSEEN.search(terminal_text(made))


def test_every_night_has_its_scale(tmp_path: Path) -> None:
    """Before the first pictures, whatever these are; a night without an anomaly is on a scale that keeps it dark."""
    (row,) = rows_of("a", [0.45])
    normal = row | pictured(tmp_path, "p", patch_score_max=0.04)
    night(tmp_path / "out", "r", [*rows_of("a", [0.1] * 9), normal])
    made = report_of(tmp_path / "out")
    text = page(made, at=AT)
    assert (made.top, len(made.borderline), made.scale_top) == ((), 1, pytest.approx(0.6))
    assert text.index('class="scale"') < text.index("<img")
    assert "up to twice the pixel threshold at the least" in text


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=4, unique=True)
)
def test_any_name_is_text(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    """Whatever it is made of."""
    folder = tmp_path_factory.mktemp("any")
    hostile_night(folder / "out", folder / "pictures", names)
    made = report_of(folder / "out", by=("category", "defect"), pictures=False)
    require_harmless(page(made, at=AT))
    assert not UNSEEN.search(terminal_text(made))


def test_without_thresholds_nothing_is_called_anomalous(tmp_path: Path) -> None:
    """Scores stand for themselves: no yield, no rate, no borderline, and it is said."""
    for day in range(3):
        night(tmp_path / "out", f"r{day}", rows_of("a", [0.2, 0.9], threshold=None), day=day)
    made = report_of(tmp_path / "out")
    seen = require_harmless(page(made, at=AT))
    assert "No thresholds: no image is called normal or anomalous." in seen.text
    assert "Highest scores" in seen.text
    assert (
        "Mean score, by category and run, the newest first category 11-03 11-02 11-01 a 0.550 0.550 0.550" in seen.text
    )
    for words in ("yield", "Borderline", "Top anomalies"):
        assert words not in seen.text
    assert "labels: none" in terminal_text(made)


@pytest.mark.parametrize(
    ("rows", "bad", "words"),
    [
        ([], ["/a", "/b"], "In quarantine"),
        (rows_of("a", [0.1]), [], "No image is labelled anomalous."),
        (rows_of(None, [0.9]), [], "(no category)"),
    ],
)
def test_odd_nights(tmp_path: Path, rows: list[Any], bad: list[str], words: str) -> None:
    """All in quarantine; no anomaly; a single image of no category; and no run before."""
    night(tmp_path / "out", "r", rows, bad=bad)
    made = report_of(tmp_path / "out")
    seen = require_harmless(page(made, at=AT))
    assert words in seen.text
    assert "No earlier run of this model: nothing to compare with." in seen.text
    assert terminal_text(made)


def test_no_image_scored_is_no_lack_of_thresholds(tmp_path: Path) -> None:
    """It is told as what it is."""
    night(tmp_path / "out", "r", [], bad=["/a"], config={"image_threshold": 0.5})
    made = report_of(tmp_path / "out")
    seen = require_harmless(page(made, at=AT))
    assert made.attention[0] == Attention("No image was scored.", is_alert=True)
    assert "No image was scored." in seen.text
    assert "no thresholds" not in seen.text.lower()


def test_nothing_to_compare_with_has_a_reason(nights: Path) -> None:
    """None was asked for, or there is none; then nothing is said to be quiet."""
    for options, words in (
        ({"trailing": 0}, "Compared with no earlier run, as --trailing 0 asks: nothing to compare with."),
        ({"run_ids": ("night-0",)}, "No earlier run of this model: nothing to compare with."),
        ({"compare_with": "x*"}, "No earlier run of this model of these names: nothing to compare with."),
    ):
        made = report_of(nights, pictures=False, **options)
        assert [one.text for one in made.attention if "compare with" in one.text] == [words]
        assert "Nothing that can be told" not in terminal_text(made)


def test_quiet_nights_say_what_was_not_tested(tmp_path: Path) -> None:
    """That nothing can be told from chance, and what was too small for a test; few nights are told as few."""
    for day in range(4):
        rows = rows_of("a", [0.1] * 40) + rows_of("b", [0.1] * 12) + rows_of("c", [0.1] * (4 if day == 3 else 10))
        night(tmp_path / "out", f"r{day}", rows, day=day)
    made = report_of(tmp_path / "out")
    told = terminal_text(made)
    assert "Nothing that can be told from chance" in told
    assert "Nothing that can be told from chance" in page(made, at=AT)
    assert [one.text for one in made.attention] == [
        "Fewer than 5 trailing runs: by how much nights differ anyway is not known, and a rate may be called higher or "
        "lower for no other reason.",
        "Fewer than 30 images now or before, so not tested for drift: b, c.",
        "Fewer than 5 images, so their rates are not tested: c.",
    ]
    assert "of 1 group tested; all together: no" in told


def test_sets_that_are_no_nights_are_told(tmp_path: Path) -> None:
    """An evaluation, and a run that thresholds were made from as a whole; with --compare-with they are nights."""
    for day, fields in enumerate(({}, {"config": {"format": "visa"}}, {}, {})):
        night(tmp_path / "out", f"r{day}", rows_of("a", [0.1] * 40), day=day, **fields)
    row = {"model_id": "m" * 32, "category": None, "image_threshold": 0.5, "pixel_threshold": None, "run_ids": ["r2"]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    made = report_of(tmp_path / "out", thresholds=str(tmp_path / "t.parquet"))
    assert made.window.before_ids == ("r0",)
    assert [one.before for one in made.changes] == ["r0"]
    words = "Not compared with evaluations and calibration sets: r1, r2 (--compare-with would)."
    assert words in [one.text for one in made.attention]
    made = report_of(tmp_path / "out", thresholds=str(tmp_path / "t.parquet"), compare_with="r?")
    assert made.window.before_ids == ("r0", "r1", "r2")


def test_each_run_has_what_changed(tmp_path: Path) -> None:
    """Of several, each beside the one before it; inputs of the date are folded away, and nothing else is said so."""
    commits = ("old", "old", "new", "old")
    for day, commit in enumerate(commits):
        config = {"inputs": [f"/{day}"]}
        night(tmp_path / "out", f"r{day}", rows_of("a", [0.1]), day=day, git_commit=commit, config=config)
    made = report_of(tmp_path / "out", run_ids=("r2", "r3"))
    assert [(one.run_id, one.before, [field.name for field in one.fields]) for one in made.changes] == [
        ("r2", "r1", ["git_commit"]),
        ("r3", "r2", ["git_commit"]),
    ]
    made = report_of(tmp_path / "out", run_ids=("r1",))
    seen = require_harmless(page(made, at=AT))
    assert "Nothing but the inputs. the inputs field before now config.inputs /0 /1" in seen.text
    assert terminal_text(made).endswith("than in the run before, r0\n  nothing but the inputs")


def test_many_groups_stay_readable(tmp_path: Path) -> None:
    """Two hundred categories: the largest are seen at once, the others behind a fold; none is lost."""
    night(tmp_path / "out", "r", [row for at in range(200) for row in rows_of(f"category-{at:03d}", [0.1])])
    seen = require_harmless(page(report_of(tmp_path / "out"), at=AT))
    assert seen.text.count("176 more groups") == 3  # groups, over time, distributions; there is no drift
    assert all(f"category-{at:03d}" in seen.text for at in range(200))


def test_another_model_is_a_break(tmp_path: Path) -> None:
    """Told where it stood, and compared with nothing."""
    for day, model in enumerate(("m" * 32, "other", "m" * 32)):
        night(tmp_path / "out", f"r{day}", rows_of("a", [0.1] * 40), day=day, model_id=model)
    seen = require_harmless(page(report_of(tmp_path / "out"), at=AT))
    assert "Dashed: where 1 run of another model stood between (r1), which are not compared." in seen.text
    assert ("line", "class", "break") in seen.attributes
    assert "The run before was of another model" in seen.text
    assert "model_id other " + "m" * 32 in seen.text


def test_quarantine_and_speed_are_told(tmp_path: Path) -> None:
    """More bad images than before, a category that is not there, a slow night, and the run's own warnings."""
    for day in range(4):
        last = day == 3
        rows = rows_of("a", [0.1] * 40) + ([] if last else rows_of("b", [0.1] * 5))
        bad = [f"/{at}" for at in range(20 if last else 1)]
        night(tmp_path / "out", f"r{day}", rows, day=day, bad=bad, images_per_s=1.0 if last else 3.0,
              warnings=["random weights"] if last else [])  # fmt: skip
    alerts = [one.text for one in report_of(tmp_path / "out").attention if one.is_alert]
    assert alerts == [
        "More images in quarantine than before: 33.3%, before 2.2%.",
        "Not seen this time: b.",
        "Slow: 1.0 images/s; the median of the trailing runs is 3.0.",
        "Warning of run r3: random weights",
    ]


def test_the_page_is_written_whole(nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under reports/ by the run's name, or where --save says, in a store too; an older one is replaced whole."""
    told = report_and_write(ReportConfig(output=str(nights), pictures=False))
    path = nights / "reports/night-5.html"
    assert told.splitlines()[-1].startswith(f"Page: {path} (")
    assert path.read_text().endswith("</html>")
    twins = [("r" * 119 + end, "s") for end in "ab"]
    assert len({outputs._name(names, label_set) for names in twins for label_set in ("run", "x")}) == 4
    assert outputs._name(("night-5",), "strict") == "night-5@strict"
    night_of_two = ReportConfig(output=str(nights), run_ids=("night-1", "night-0"), pictures=False)
    assert "reports/night-0+night-1.html" in report_and_write(night_of_two)
    saved = ReportConfig(output=str(nights), save="memory://reports-test/page.html", pictures=False)
    assert "memory:///reports-test/page.html" in report_and_write(saved)
    before = path.read_bytes()
    monkeypatch.setattr(outputs, "page", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report_and_write(ReportConfig(output=str(nights), pictures=False))
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="--save: expected the name of a file, got a folder"):
        report_and_write(ReportConfig(output=str(nights), save=str(tmp_path)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trailing": -1}, "--trailing"),
        ({"top": 10**6}, "--top"),
        ({"borderline": -1}, "--borderline"),
        ({"by": ("",)}, "--by"),
        ({"compare_with": ""}, "--compare-with"),
        ({"by": ("a", "a")}, "named twice"),
        ({"run_ids": ("../x",)}, "--run-id"),
        ({"label_set": "a/b"}, "label set"),
        ({"save": " "}, "--save"),
        ({"save": "s3://key:secret@b/x.html"}, "carries credentials"),
    ],
)
def test_values_that_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    """With the option's name, before anything is read."""
    with pytest.raises(InputError, match=words):
        ReportConfig(**{"output": "o"} | options)


def test_every_text_is_escaped_by_default() -> None:
    """A later line of the template cannot forget it: what is printed goes through `shown` and Jinja's escaping."""
    made = pages._environment().from_string("{{ name }}|{{ nothing }}")
    assert made.render(name="<b>\x1b\u202e", nothing=None) == r"&lt;b&gt;\x1b\u202e|–"
