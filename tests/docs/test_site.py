"""The docs site: it builds without a warning, needs no network, and has what the repository has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_links import ROOT, pages

MAKEFILE = ROOT / "Makefile"

NOT_ON_THE_SITE = re.compile(r"tests/|README\.md$")
FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe|source)\b[^>]*?\bsrc|<link\b[^>]*?\bhref)=["'](https?:)?//|url\(["']?https?:"""
)


pytestmark = pytest.mark.timeout(1200)  # the first of them builds it


def test_every_page_of_the_repository_is_on_the_site(site: Path) -> None:
    """Those of docs/, and those outside of it under their own names."""
    for page in pages():
        if not NOT_ON_THE_SITE.match(page):
            assert (site / page.removeprefix("docs/")).with_suffix(".html").is_file(), page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """No font, script, style or picture: the site works from a disk, and tells nobody who reads it."""
    looked_at = 0
    for path in (*site.rglob("*.html"), *site.rglob("*.css")):
        looked_at += 1
        assert not FETCHED.search(path.read_text("utf-8")), path
    assert looked_at > 20


def test_docstrings_are_sections_not_one_line(site: Path) -> None:
    """Each parameter and each error of a function stands for itself, with its type."""
    page = (site / "reference" / "cops.html").read_text("utf-8")
    assert 'id="cops.maps.anomaly_map"' in page
    shown = re.sub(
        r"<[^>]+>", "", page[page.index('id="cops.maps.anomaly_map"') : page.index('id="cops.maps.axis_operator"')]
    )
    for text in ("Parameters:", "patch_scores", "image_size", "rows", "Raises:", "ShapeError", "Returns:", "Source:"):
        assert text in shown
    assert "Args:" not in page


def test_every_job_shows_its_help(site: Path) -> None:
    """The commands' page has a section for each job and each command of one, with its flags and without frames."""
    page = (site / "reference" / "commands.html").read_text("utf-8")
    for job in ROOT.glob("jobs/*.py"):
        if '__name__ == "__main__"' in job.read_text("utf-8"):
            assert f"jobs/{job.name}</h2>" in re.sub(r"<a class=.headerlink.*?</a>", "", page)
    for text in ("--path-fields", "jobs/runs.py discard", "python -m cops"):
        assert text in page
    assert not set("╭│╰") & set(page)


def test_search_needs_no_server(site: Path) -> None:
    """The index is a script beside the pages, and what a browser will not start from a disk is ours."""
    assert (site / "search" / "search_index.js").stat().st_size > 100_000
    start = (site / "index.html").read_text("utf-8")
    assert '<script src="_site/offline_worker.js#iframe-worker">' in start
    assert "unpkg" not in start


def test_a_link_that_leads_nowhere_fails(tmp_path: Path) -> None:
    """With the very flags that `make docs` has: --quiet beside --strict would let every warning pass."""
    (made,) = re.findall(r"(-m mkdocs build .*)", MAKEFILE.read_text("utf-8"))
    assert "--strict" in made and "--quiet" not in made
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](gone.md)")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\ntheme: {name: material, font: false}\n")
    command = [sys.executable, *made.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "gone.md" in done.stderr
