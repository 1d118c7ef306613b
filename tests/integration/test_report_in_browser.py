"""The report's page as a browser shows it: wide, on a phone, in the dark and on paper; with any name in it.

Needs Debian's chromium, chromium-driver and poppler-utils.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_parts import ROOT, clean_environment
from report_making import hostile_night, make_nights

pytestmark = pytest.mark.debian
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with an empty profile, its console and its requests kept."""
    from selenium import webdriver  # noqa: PLC0415 -- the other tests do without
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in (*_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=["usual", "hostile"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command, of usual nights and of one with hostile names in every place."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "usual":
        make_nights(folder / "out", folder / "pictures", nights=6)
    else:
        hostile_night(folder / "out", folder / "pictures")
    saved = folder / "page.html"
    command = [sys.executable, str(ROOT / "jobs/report.py"), "--output", str(folder / "out"), "--save", str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=clean_environment())
    assert done.returncode == 0, done.stderr
    return saved


def shown(browser: Any, page: Path, *, width: int = 1280, mobile: bool = False, scheme: str = "light") -> Any:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    browser.get_log("browser"), browser.get_log("performance")  # what came before
    browser.get(page.as_uri())
    return browser


def test_it_is_quiet(browser: Any, page: Path) -> None:
    """No word in the console (a refusal of the page's own policy would be one), nothing asked for but itself."""
    shown(browser, page)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert asked
    assert {url for url in asked if not url.startswith("data:image/webp;base64,")} == {page.as_uri()}


def test_nothing_in_it_runs(browser: Any, page: Path) -> None:
    """No script, no handler, no link; a script that was put into it by hand would be refused."""
    shown(browser, page)
    found = browser.execute_script(
        "return [...document.querySelectorAll('*')].flatMap(one => [...one.attributes].map(at => at.name))"
    )
    assert not {name for name in found if name.startswith("on") or name in ("href", "xlink:href", "srcdoc", "action")}
    assert browser.execute_script("return document.querySelectorAll('script, a, iframe, form, object').length") == 0
    browser.execute_script(
        "let s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s)"
    )
    assert browser.execute_script("return window.ran === undefined")


def test_pictures_are_seen_and_drawings_have_names(browser: Any, page: Path) -> None:
    """Every picture decodes; every drawing says what it is to who cannot see it."""
    shown(browser, page)
    sizes = browser.execute_script("return [...document.images].map(one => [one.naturalWidth, one.alt])")
    assert sizes
    assert all(width > 0 and alt for width, alt in sizes)
    named = "return [...document.querySelectorAll('svg[role]')].map(one => one.querySelector('title').textContent)"
    assert all(browser.execute_script(named))


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_its_width(browser: Any, page: Path, width: int) -> None:
    """Nothing is wider than a phone: only tables scroll, in their own frames."""
    shown(browser, page, width=width, mobile=width < 500)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    beyond = """
        return [...document.body.querySelectorAll('*')]
            .filter(one => !one.closest('.wide') && !one.closest('svg') && one.getBoundingClientRect().width)
            .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1)
            .map(one => one.outerHTML.slice(0, 80))
    """
    assert browser.execute_script(beyond) == []


def test_dark_and_light(browser: Any, page: Path) -> None:
    """As the reader has it set; the words stand out from the ground in both."""

    def lightness(scheme: str) -> list[float]:
        shown(browser, page, scheme=scheme)
        style = "getComputedStyle(document.body)"
        colours = browser.execute_script(f"return [{style}.color, {style}.backgroundColor]")
        return [sum(int(part) for part in colour.strip("rgb()").split(",")) / 765 for colour in colours]

    (ink, paper), (light_ink, dark_paper) = lightness("light"), lightness("dark")
    assert ink < 0.25 < 0.9 < paper
    assert dark_paper < 0.25 < 0.8 < light_ink


def test_on_paper(browser: Any, page: Path, tmp_path: Path) -> None:
    """Every section, what is folded too, in black on white; no page is empty."""
    shown(browser, page, scheme="dark")
    paper = {"paperWidth": 8.27, "paperHeight": 11.69}
    printed = tmp_path / "page.pdf"
    printed.write_bytes(base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"]))
    told = subprocess.run(["pdftotext", str(printed), "-"], capture_output=True, text=True, check=True).stdout
    for words in ("Inspection report", "Yield and anomaly rate", "Top anomalies", "Quarantine", "What changed"):
        assert words in told
    if page.parent.name.startswith("usual"):
        assert "/in/cut.jpg" in told, "an example behind a fold"
    pages = told.split("\f")[:-1]
    assert len(pages) >= 3
    assert all(len(one.strip()) > 20 for one in pages)
    subprocess.run(["pdftoppm", "-r", "20", "-gray", str(printed), str(tmp_path / "p")], check=True)
    first = sorted(tmp_path.glob("p-*.pgm"))[0].read_bytes()
    pixels = first[-(len(first) // 2) :]
    assert sum(pixels) / len(pixels) > 180, "printed on white, whatever the screen"
