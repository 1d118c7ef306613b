"""The docs site from a disk, in a browser: search, a phone's width, the dark, and nothing asked of a network.

Needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.debian, pytest.mark.timeout(1200)]
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
PAGES = (
    "index",
    "tutorial",
    "faq",
    "tables",
    "operations",
    "reference/commands",
    "reference/cops",
    "reference/pipeline",
)


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


def shown(browser: Any, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    browser.get(page.as_uri())


def search(browser: Any, words: str) -> list[str]:
    """The titles that a reader sees who types these words."""
    from selenium.webdriver.common.by import By  # noqa: PLC0415
    from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415

    browser.find_element(By.CSS_SELECTOR, ".md-search__input").send_keys(words)
    found = WebDriverWait(browser, 60).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, ".md-search-result__item h1, .md-search-result__item h2")
    )
    return [one.get_attribute("textContent") for one in found]


@pytest.mark.parametrize(
    ("words", "title"), [("QuickGELU", "Questions"), ("patch_scores", "Tables"), ("path-fields", "Commands")]
)
def test_search_finds_from_a_disk(browser: Any, site: Path, words: str, title: str) -> None:
    """Without a server and without a network; words of pages, columns and flags."""
    shown(browser, site / "index.html")
    browser.get_log("browser"), browser.get_log("performance")
    assert title in search(browser, words)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_scrolls_no_page_sideways(browser: Any, site: Path, page: str) -> None:
    """Wide tables and help texts scroll by themselves."""
    shown(browser, site / f"{page}.html", width=390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_dark_is_followed(browser: Any, site: Path) -> None:
    """As the reader's system has it, until they say otherwise."""
    of_page = "return document.body.getAttribute('data-md-color-scheme')"
    shown(browser, site / "index.html", scheme="dark")
    assert browser.execute_script(of_page) == "slate"
    shown(browser, site / "index.html", scheme="light")
    assert browser.execute_script(of_page) == "default"
