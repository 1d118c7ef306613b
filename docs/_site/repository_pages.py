"""Pages from outside of docs/: a hook of MkDocs, so that one text serves a code host and the site.

What lies in the repository under P is a page P of the site; docs/P is P. Links are written as the repository has them
(`../SECURITY.md`, `../queries/worst.sql`) and turned into the site's here. A linked file that is no page of its own
becomes one that shows it; of a linked folder the site shows the name alone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("*.md", "benchmarks/results/*.md", "deploy/**/*.md", "queries/*.md")
PAGE_OF = {"README.md": "docs/index.md"}  # in the repository the README, on the site its first page
SHOWN_BELOW = "files"
LANGUAGE = {
    ".sql": "sql", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".py": "python", ".sh": "bash", ".toml": "toml",
}  # fmt: skip
LINK = re.compile(r"(?P<before>\[(?P<text>[^\]]*)\]\()(?P<target>[^)\s#:]*)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"\s*(```|~~~)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages from outside, then one for each other file that a page links to."""
    for path in outside_pages():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    linked = {target for file in files.documentation_pages() for target in _links_of(file)}
    for target in sorted(target for target in linked if _is_shown(target)):
        files.append(File.generated(config, site_place(target), content=_shown(target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """The page with its links as the site has them; what leads nowhere is left, for MkDocs to find."""
    here = page.file.src_uri
    if here.startswith(f"{SHOWN_BELOW}/"):
        return markdown
    return "".join(relinked(line, here) if prose else line for line, prose in _lines(markdown))


def outside_pages() -> list[str]:
    """Paths in the repository of the pages outside of docs/, but for those that another page stands for."""
    found = {path.relative_to(ROOT).as_posix() for pattern in OUTSIDE for path in ROOT.glob(pattern)}
    return sorted(found - set(PAGE_OF))


def site_place(path: str) -> str:
    """Where on the site a file of the repository is: the path of its page's source."""
    path = PAGE_OF.get(path, path)
    if path.endswith(".md") or path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{SHOWN_BELOW}/{path}.md"


def repository_place(src_uri: str) -> str:
    """Where in the repository a page of the site comes from."""
    return src_uri if (ROOT / src_uri).is_file() and not (ROOT / "docs" / src_uri).is_file() else f"docs/{src_uri}"


def relinked(line: str, here: str) -> str:
    """A line of a page with its links as the site has them."""

    def placed(link: re.Match[str]) -> str:
        if not link["target"]:
            return link[0]
        target = _resolve(here, link["target"])
        if (ROOT / target).is_dir():
            return link["text"]
        if not (ROOT / target).is_file():
            return link[0]
        place = posixpath.relpath(site_place(target), posixpath.dirname(here) or ".")
        return f"{link['before']}{place}{link['anchor'] or ''})"

    return LINK.sub(placed, line)


def _resolve(here: str, target: str) -> str:
    """The path in the repository that a page's relative link names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(repository_place(here)), target))


def _lines(markdown: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is prose rather than code."""
    fenced = False
    for line in markdown.splitlines(keepends=True):
        is_fence = FENCE.match(line) is not None
        fenced = fenced != is_fence
        yield line, not fenced and not is_fence


def _links_of(file: File) -> Iterator[str]:
    for line, prose in _lines(file.content_string):
        for link in LINK.finditer(line) if prose else ():
            if link["target"]:
                yield _resolve(file.src_uri, link["target"])


def _is_shown(path: str) -> bool:
    return (ROOT / path).is_file() and not path.endswith(".md") and not path.startswith("docs/")


def _shown(path: str) -> str:
    """A page that shows a file as it is."""
    text = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
    ticks = "`" * (1 + max([2, *(len(run) for run in re.findall("`+", text))]))
    return f"# {path}\n\n{ticks}{LANGUAGE.get(Path(path).suffix, 'text')}\n{text}\n{ticks}\n"
