"""What the network page says first, in a real Chromium, where not all is well."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from typing import TYPE_CHECKING

import published
import pytest
from chromium import chromium, open_page
from selenium.webdriver.common.by import By
from velib_cli.report.charts import FAMILIES, report_data
from velib_cli.report.page import report_html, texts

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


ENGLISH = """
    about above after ago all already also and another any are at back because been before
    behind below better between bike bikes both by can cannot chance city closed coverage
    day days dead deleted docks down each earlier edited empty enough every expected fails feed
    few first for forecast forecasts from full further gives good has have hour hours how if is
    it its last late left less let line list long made many mean means missing more most
    much name names near nearest network never new newest next night nobody not nothing now
    object objects observed of often old older once one only open other over own past peak
    published quiet read ready reason report reports row rows same says seen share shown since
    slow snapshot snapshots some stale start starts still take than that the their them there
    these they this those threshold till time times to today tomorrow too trained training twice
    under unknown unreadable until up usual value was weather week weeks well were what when
    where which while who whose why will with within without works worse worst written year
    yesterday you your
"""
"""Common words of English that French does not have."""

CODES = [key.removeprefix("alert.") for key in texts()["fr"] if key.startswith("alert.")]
FOUND = [key.removeprefix("finding.") for key in texts()["fr"] if key.startswith("finding.")]


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


def test_the_french_page_has_no_english_whatever_is_wrong(browser: Chrome) -> None:
    raised = [
        {"level": level, "code": code, "text": "a text in English", "value": 3.5, "threshold": 2}
        | {"family": family, "as_of": "2025-11-07T08:30:00Z", "artefact": "h15/kpis"}
        for level, family in zip(itertools.cycle(("high", "medium")), FAMILIES, strict=False)
        for code in [*CODES, "code_x"]
    ]
    found = [
        {"code": code, "about": "h15", "text": "a text in English", "subject": "x", "command": None}
        for code in [*FOUND, "code_x"]
    ]
    before = browser.execute_script("return [data.alerts, data.findings]")
    put = "[data.alerts, data.findings] = arguments; document.querySelector(`[data-lang=${lang}]`)"
    browser.execute_script(f"const lang = 'fr'; {put}.click()", raised, found)
    # What an object or a command says stays as it is, labelled as English or as code.
    browser.execute_script(
        "document.querySelectorAll('details').forEach(d => { d.open = true });"
        "document.querySelectorAll('[lang=en], code').forEach(e => { e.hidden = true })"
    )
    visible = browser.execute_script("return document.body.innerText")
    assert len(alerts(browser)) >= len(raised)
    said = set(re.findall(r"[\wà-ÿœ]+", visible.replace("Vélib’ Forecast", "").lower()))
    assert not [family for family in FAMILIES if f"({family}" in visible]
    assert said & set(ENGLISH.split()) == {"bikes"}, "the name of a feature in the documents"
    assert "éditeur" not in visible
    assert not re.search("«[^\u00a0\u202f]|[^\u00a0\u202f]»", visible)
    browser.execute_script(f"const lang = 'en'; {put}.click()", *before)


@pytest.mark.parametrize("width", [768, 901, 1300])
def test_a_figure_stays_inside_its_tile(browser: Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    outside = browser.execute_script("""
      document.querySelectorAll(".tiles dt + dd").forEach(d => { d.textContent = "100,0\u00a0%"; });
      const figures = [...document.querySelectorAll(".tiles dt + dd")];
      const found = figures.filter(d => d.scrollWidth > d.clientWidth).length;
      tiles();
      return found;""")
    assert outside == 0
