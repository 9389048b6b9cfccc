"""What the network page says first, in a real Chromium, where not all is well."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import published
import pytest
from chromium import chromium, open_page
from selenium.webdriver.common.by import By
from velib_cli.report.charts import report_data
from velib_cli.report.page import report_html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

pytestmark = pytest.mark.e2e

MADE_AT = dt.datetime(2025, 11, 7, 10, 2, tzinfo=dt.UTC)
STATIONS = 240


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(report_html(report_data(published.sources(STATIONS), MADE_AT)), "utf-8")
    with chromium() as window:
        open_page(window, page)
        window.execute_script("choice.lang = 'en'; words()")
        yield window


def alerts(browser: Chrome) -> list[str]:
    return [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#alerts li")]


def test_a_forecast_of_an_earlier_snapshot_is_said_to_be_one(browser: Chrome) -> None:
    assert not [line for line in alerts(browser) if "starts from" in line]
    browser.execute_script("data.horizons[1].generated_at = '2025-11-07T08:30:00Z'; alerts()")
    (line,) = [line for line in alerts(browser) if "starts from" in line]
    assert "60 min" in line
    assert "09:30" in line, "by the clock of Paris"
    assert "11:00" in line
    browser.execute_script("data.horizons[1].generated_at = data.newest; alerts()")


def test_a_list_that_is_cut_short_says_so(browser: Chrome) -> None:
    risks = browser.execute_script("return risks.length")
    rows = browser.find_elements(By.CSS_SELECTOR, "#now tbody tr")
    assert risks > len(rows) == 200
    said = browser.find_element(By.ID, "now-count").text
    assert said == f"Stations at risk: {risks}; the first 200 here, all in CSV and JSON"
    assert browser.execute_script("return actionRecords().length") == risks


def test_the_trend_goes_back_by_the_models_of_earlier_weeks(browser: Chrome) -> None:
    browser.execute_script("""
      data.horizons.at(-1).models = ["10-05", "10-12", "10-19"].map((day, n) => (
        { version: `2.0.${n}`, end_date: `2025-${day}`, mae: 0.9 - n / 10, mae_persistence: 1 }));
      drawAll();
    """)
    chart = "document.getElementById('trend').data"
    names, x, y = browser.execute_script(
        f"return [{chart}.map(t => t.name), {chart}.at(-1).x, {chart}.at(-1).y]"
    )
    assert names == ["One day", "Each new model"]
    assert x == ["2025-10-05", "2025-10-12", "2025-10-19"]
    assert y == pytest.approx([10, 20, 30])
