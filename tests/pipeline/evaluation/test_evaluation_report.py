"""What people read: the terminal's tables, and Markdown."""

from dataclasses import replace
from pathlib import Path

import pytest
from making import counted, evaluation, flawed, image, method_result, two_categories

from pipeline.evaluation.measures import measure
from pipeline.evaluation.report import (
    Section,
    as_markdown,
    as_text,
    flaw_section,
    headline,
    main_sections,
    more_sections,
    warnings_of,
)
from pipeline.evaluation.tables import flaws_table
from pipeline.table_text import markdown_text


def test_empty_cells_have_their_reason_below(tmp_path: Path):
    """A dash, never 0; below it why, for which categories, and what the mean is of."""
    (section, _) = main_sections(evaluation(tmp_path, method_result("CoPS", two_categories(), tmp_path)))
    screw = next(row for row in section.rows if row[0] == "screw")
    assert screw[1:4] == ["–", "–", "–"] and "–" not in screw[4:]
    assert section.rows[-1][0] == "mean" and section.rows[-1][-2:] == ["3", "6"]
    assert "– I-AUROC, I-AP, I-F1-max: no normal image (screw)" in section.notes
    assert section.notes[-1].endswith("of 2: I-AUROC 1, I-AP 1, I-F1-max 1")


def test_the_means_stand_beside_all_seven_methods(tmp_path: Path):
    """Ours first, then the paper's with its tables, then the differences."""
    results = [method_result(method, two_categories(), tmp_path) for method in ("CoPS", "CLIP")]
    means = main_sections(evaluation(tmp_path, *results))[-1]
    assert [row[0] for row in means.rows] == [
        "CoPS", "CLIP", "WinCLIP", "APRIL-GAN", "CLIP-AD", "AdaCLIP", "AnomalyCLIP", "FAPrompt", "CoPS",
        "CoPS − paper's CoPS", "CoPS − CLIP",
    ]  # fmt: skip
    assert means.rows[8][1:4] == ["paper, S7, S8", "95.0", "97.8"]
    assert means.rows[9][2] == f"{float(means.rows[0][2]) - 95.0:+.1f}"
    assert means.rows[10][2:] == ["+0.0"] * 7


def test_a_dataset_that_the_paper_has_not_stands_alone(tmp_path: Path):
    """No table of dashes."""
    own = evaluation(tmp_path, method_result("CoPS", two_categories(), tmp_path), dataset="plain")
    assert [section.title for section in main_sections(own)] == ["CoPS, %"]
    assert more_sections(own) == []


def test_categories_stand_beside_the_papers(tmp_path: Path):
    """For the four metrics that it gives; a category that it does not know has dashes."""
    categories = [*two_categories(), measure("new", counted(5))]
    sections = more_sections(evaluation(tmp_path, method_result("CoPS", categories, tmp_path)))
    assert [section.title.split()[0] for section in sections[:4]] == ["I-AUROC", "I-AP", "P-AUROC", "P-AP"]
    bottle, _, new, mean = sections[0].rows
    assert bottle[0] == "bottle" and bottle[2] == f"{float(bottle[1]) - float(bottle[-1]):+.1f}"
    assert set(new[2:]) == {"–"}
    assert mean[0] == "mean" and mean[-1] == "95.0"
    assert [section.title[:8] for section in sections[4:]] == ["Table S2", "Table S3"]


def test_another_model_than_the_papers_is_said(tmp_path: Path):
    """A figure of another backbone or size is no reproduction."""
    result = method_result("CoPS", two_categories(), tmp_path)
    assert "this model is another one, at 56 px" in warnings_of(evaluation(tmp_path, result))[-1]
    assert warnings_of(evaluation(tmp_path, result, dataset="plain")) == []


@pytest.mark.parametrize(
    ("dataset", "trained_on", "said"),
    [
        ("visa", "visa", "the model was trained on visa, whose test images these are"),
        ("visa", "mvtec-ad", None),
        ("btad", "visa", None),
        ("btad", None, None),
        ("btad", "mvtec-ad", "of a model trained on visa; this one was trained on mvtec-ad"),
        ("visa", "mpdd", "of a model trained on mvtec-ad; this one was trained on mpdd"),
    ],
)
def test_what_the_model_was_trained_on_is_held_against_the_paper(tmp_path: Path, dataset, trained_on, said):
    """Its own auxiliary set is no test; another one than the paper's is no reproduction."""
    result = method_result("CoPS", two_categories(), tmp_path, trained_on=trained_on)
    of_their_size = replace(
        evaluation(tmp_path, result, dataset=dataset, backbone="ViT-L-14-336-quickgelu"), image_size=518
    )
    told = warnings_of(of_their_size)
    assert (said in told[0] and len(told) == 1) if said else told == []


def test_the_headline_counts(tmp_path: Path):
    """Categories, images, run and model; how many could not be scored."""
    images = (image("a", "bottle", 1), image("b", "bottle", 0))
    bad = [{"image_uri": "/d/a.png", "stage": "read", "reason": "empty", "message": "no bytes"}]
    result = method_result("CoPS", [two_categories()[0]], tmp_path, bad=bad)
    first, second = headline(evaluation(tmp_path, result, images=images))
    assert first == "MVTec-AD: 1 category, 1 normal and 1 anomalous images in /d"
    assert second == "CoPS: 6 of 7 images scored, run r, model tiny (id-of-CoPS), float32, 56 px"


def test_flaws_are_counted_by_kind(tmp_path: Path):
    """With a few names, and what they are left out of."""
    category = counted()
    category.flaws += [flawed(f"y{number}", "bottle") for number in range(7)]
    found = evaluation(tmp_path, method_result("CoPS", [measure("bottle", category)], tmp_path))
    section = flaw_section(flaws_table(found), root="/d", where="flaws.csv")
    ((problem, count, left_out_of, names),) = section.rows
    assert (problem, count, left_out_of) == ("empty_mask", "7", "pixel metrics")
    assert names == "y0.png, y1.png, y2.png and 4 more"
    sound = evaluation(tmp_path, method_result("CoPS", two_categories(), tmp_path))
    assert flaw_section(flaws_table(sound), root="/d", where="flaws.csv") is None


def test_names_cannot_break_a_table():
    """Pipes are escaped in Markdown; columns of numbers are to the right, of names to the left."""
    section = Section(title="T", header=["category", "I-AP"], rows=[["a|b", "9.1"], ["c", "100.0"]], notes=["why"])
    assert as_markdown(section).splitlines()[2:] == [
        "| category | I-AP |", "| --- | ---: |", "| a\\|b | 9.1 |", "| c | 100.0 |", "", "why  ",
    ]  # fmt: skip
    assert as_text(section).splitlines() == [
        "T", "  category   I-AP", "  a|b         9.1", "  c         100.0", "  why",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("<script>x</script>", r"\<script\>x\</script\>"),
        ("![](http://h/pixel)", r"!\[\](http:<!-- -->//h/pixel)"),
        ("[a](javascript:x)", r"\[a\](javascript:x)"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        (r"\<b>", r"\\\<b\>"),  # an escape of the name's own
        ("bottle_top 5", r"bottle\_top 5"),
        ("_a_ ~~b~~", r"\_a\_ \~\~b\~\~"),
        ("https://h.de/a_b", r"https:<!-- -->//h.de/a\_b"),
        ("HTTP://h.de, ftp://h.de", "HTTP:<!-- -->//h.de, ftp:<!-- -->//h.de"),
        ("www.h.de", "www<!-- -->.h.de"),
        ("mailto:a.b@h.de", "mailto:a.b<!-- -->@h.de"),
        ("5 @ 3, s3://b/x", "5 @ 3, s3://b/x"),
    ],
)
def test_no_name_is_markup(name: str, expected: str):
    """In cells, titles and notes."""
    assert markdown_text(name) == expected
    told = as_markdown(Section(title=name, header=[name, "b"], rows=[[name, name]], notes=[name]))
    assert told.count(expected) == 5
    assert name == expected or name not in told
