"""docs/tutorial.md runs as it is written."""

import os
from pathlib import Path

import pytest
from fences import ROOT, Step, differences, run_step, steps

TUTORIAL = ROOT / "docs" / "tutorial.md"
IN_A_CHECKOUT = ("jobs", "queries")


@pytest.mark.timeout(1800)
def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    """Every block of bash, Python and SQL, in order, in a fresh folder: it ends and prints as the page says."""
    folder = (tmp_path / "checkout").resolve()
    folder.mkdir()
    for name in IN_A_CHECKOUT:
        (folder / name).symlink_to(ROOT / name)
    left = list(steps(TUTORIAL.read_text("utf-8")))
    assert len(left) > 10
    for step in left:
        came = run_step(step, folder)
        if said := os.environ.get("TUTORIAL_SAID"):  # a file for whoever writes the page
            with Path(said).open("a", encoding="utf-8") as file:
                file.write(f"\n### line {step.line}\n{step.code}---\n{came}")
        if step.shown is not None:
            wrong = "\n".join(differences(step.shown, came))
            assert not wrong, f"line {step.line}:\n{wrong}\n\nall of it:\n{came}"
    assert not (folder / "tour").exists()  # the page ends with clearing up


def test_blocks_are_read_with_what_they_should_say() -> None:
    """Language, code, exit code and the output that follows; blocks of other kinds are no steps."""
    page = "a\n\n```bash\nls\n```\n\nb\n\n```text\nfile\n```\n\n```sh\nmake\n```\n\n"
    page += "```python\nexit(3)  # ends with exit code 3\n```\n"
    assert list(steps(page)) == [
        Step(language="bash", code="ls\n", line=3, shown="file\n"),
        Step(language="python", code="exit(3)  # ends with exit code 3\n", line=17, shown=None, exit_code=3),
    ]


def test_another_exit_code_is_an_error(tmp_path: Path) -> None:
    """Of any command in a block, not of the last one alone."""
    with pytest.raises(AssertionError, match="exit code 1 instead of 0, line 7"):
        run_step(Step(language="bash", code="false\ntrue\n", line=7, shown=None), tmp_path)


def test_python_and_sql_are_run(tmp_path: Path) -> None:
    """In the folder, which is called as the page calls it."""
    python = Step(language="python", code="import os; print(os.getcwd())", line=1, shown=None)
    assert run_step(python, tmp_path.resolve()) == "/srv/cops-inspection\n"
    assert "42" in run_step(Step(language="sql", code="SELECT 6 * 7 AS n", line=1, shown=None), tmp_path)


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ("80 images, 3.8 s", "80  images, 100.2 s"),
        ("score 0.987 is", "score 0.984 is"),
        ("2026-11-23 10:15 hash 0123456789abcdef", "2027-01-02 11:16 hash fedcba9876543210"),
        ("one\n…\nthree", "one\ntwo\nmore\nthree"),
        ("path …", "path of many words"),
        ("one\n…", "one\ntwo"),
        ("│ a │ 1 │\n├───┤", "│ a  │   1 │\n├──────┤"),
    ],
)
def test_what_may_differ(shown: str, came: str) -> None:
    """Measured figures, the last digits of scores, dates, hashes, spaces, and what the page leaves out."""
    assert differences(shown, came) == []


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ("80 images", "81 images"),
        ("score 0.9", "score 0.8"),
        ("one\nthree", "one\ntwo\nthree"),
        ("one\n…\nthree", "one\ntwo"),
        ("one", "one\ntwo"),
        ("one\ntwo", "one"),
        ("truncated", "corrupt"),
        ("2026-11-11 is", "night-2026-11-11 is"),
        ("leather/good/000084.jpg", "leather/good/000085.jpg"),
    ],
)
def test_what_may_not_differ(shown: str, came: str) -> None:
    """Counts, words, names, and lines that come or are missing."""
    assert differences(shown, came)
