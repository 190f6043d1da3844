"""The report in a real browser: it opens without an error, and tables, figures and captions are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workspace import FIGURES, TABLES, Workspace

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]


@pytest.fixture(scope="module")
def report(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the finished run."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    outcome = finished.snakemake("--report", str(path))
    assert outcome.returncode == 0, outcome.text
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium of its own."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium or chromedriver not found: install chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


def test_the_report_is_one_file_that_loads_nothing_from_elsewhere(report: Path) -> None:
    text = report.read_text()
    assert '<script src="http' not in text
    assert '<link rel="stylesheet" href="http' not in text


def test_the_report_opens_without_errors_and_shows_tables_and_figures(report: Path, browser: Any) -> None:
    browser.get(report.as_uri())
    for category, names in (("Tables", TABLES), ("Figures", FIGURES)):
        click(browser, category)
        page = browser.find_element("tag name", "body").text
        for name in names:
            assert name in page, f"{name} is not in the category {category}"
        browser.get(report.as_uri())
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def click(browser: Any, text: str) -> None:
    """Click the link with this text."""
    browser.find_element("xpath", f"//*[self::a or self::button][contains(., '{text}')]").click()
