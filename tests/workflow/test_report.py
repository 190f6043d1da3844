"""The report in a real browser: it opens without an error, and tables, figures and captions can be read."""

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
    chromedriver = shutil.which("chromedriver")
    if not (shutil.which("chromium") and chromedriver):
        pytest.skip("chromium or chromedriver not found: install chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


@pytest.fixture
def page(report: Path, browser: Any) -> Iterator[Any]:
    """The report, freshly opened; a test fails with what the browser complained of meanwhile."""
    browser.get(report.as_uri())
    yield browser
    browser.switch_to.default_content()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def click(page: Any, text: str) -> None:
    """Click the link with this text."""
    page.find_element("xpath", f"//*[self::a or self::button][contains(., '{text}')]").click()


def click_icon(page: Any, icon: str, path: str) -> None:
    """Click an icon in the row of a result."""
    page.find_element("xpath", f"//tr[contains(., '{path}')]//a[@iconname='{icon}']").click()


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_read_in_the_report(page: Any, table: str) -> None:
    click(page, "Tables")
    click_icon(page, "eye", f"results/tables/{table}.html")
    page.switch_to.frame(page.find_element("tag name", "iframe"))
    cells = [cell.text for cell in page.find_elements("xpath", "//table//td")]
    assert {"2", "block"} & set(cells)
    assert any(cell.startswith("≤") for cell in cells)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_shown_in_the_report(page: Any, figure: str) -> None:
    click(page, "Figures")
    click_icon(page, "eye", f"results/figures/{figure}.svg")
    image = page.find_element("xpath", f"//img[contains(@src, 'filename={figure}.svg')]")
    assert page.execute_script("return arguments[0].naturalWidth", image) > 100


@pytest.mark.parametrize(
    ("category", "path", "words"),
    [
        ("Tables", "results/tables/bounds.html", "rounded up"),
        ("Figures", "results/figures/tightness.svg", "hollow ones estimates"),
    ],
)
def test_every_result_has_a_caption(page: Any, category: str, path: str, words: str) -> None:
    click(page, category)
    click_icon(page, "information-circle", path)
    assert page.find_element("xpath", f"//*[contains(text(), '{words}')]").is_displayed()


def test_the_first_page_says_what_a_value_may_claim(page: Any) -> None:
    assert "rounding included" in page.find_element("tag name", "body").text
