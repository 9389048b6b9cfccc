"""The network page in a real Chromium: what a reader sees, clicks and types."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import published
import pytest
from axe_core_python.selenium import Axe
from chromium import chromium, log, open_page, requests_of
from present import present
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from velib_cli.report import charts
from velib_cli.report.charts import report_data
from velib_cli.report.page import report_html, texts
from velib_cli.report.sources import Horizon, Sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.e2e

STATIONS = 24
MADE_AT = dt.datetime(2025, 11, 7, 10, 2, tzinfo=dt.UTC)
STICKING_OUT = """
  const right = (part) => part.getBoundingClientRect().right;
  return [...document.querySelectorAll(".card")].flatMap((card) =>
    [...card.querySelectorAll(":not(.scroll *):not(#results *)")]
      .filter((part) => !part.closest("svg"))
      .filter((part) => right(part) > right(card) - 16)
      .map((part) => `${part.tagName} ${part.id || part.textContent}`));
"""
SHAPES = ".point, .point path, .js-line, .hm image"


def write(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> Path:
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(report_html(report_data(sources, MADE_AT)), "utf-8")
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory, published.sources(STATIONS))


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened_once(window: Any, page: Path) -> Any:
    open_page(window, page)
    window.execute_script("drawAll()")
    return window


@pytest.fixture
def browser(opened_once: Any) -> Any:
    """The page as it comes up, in English."""
    opened_once.execute_script("""
      Object.assign(choice, { lang: "en", theme: "auto", mode: "now", station: "1003" });
      document.documentElement.dataset.theme = "auto";
      element("search").value = "";
      words();
      charts();
    """)
    return opened_once


def press(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def shown(browser: Any, selector: str = "body") -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def opened(browser: WebDriver) -> Any:
    return browser.execute_script("return document.getElementById('station').dataset.station")


def test_the_page_complains_of_nothing_and_asks_nobody(opened_once: Any, page: Path) -> None:
    assert log(opened_once, "browser") == []
    asked = requests_of(opened_once)
    assert page.as_uri() in asked
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_every_chart_has_shapes_and_a_name(browser: Any) -> None:
    charts = browser.find_elements(By.CSS_SELECTOR, "figure.chart")
    assert len(charts) == 14
    for chart in charts:
        assert chart.find_elements(By.CSS_SELECTOR, SHAPES), chart.get_attribute("id")
        assert chart.get_attribute("aria-label")


def test_the_map_has_every_station(browser: Any) -> None:
    points = browser.find_elements(By.CSS_SELECTOR, "#map .scatterlayer .trace:first-child .point")
    assert len(points) == STATIONS
    ids = browser.execute_script("return document.getElementById('map').data[0].customdata")
    assert ids == present(published.sources(STATIONS).panel).stations.ids.tolist()


@pytest.mark.parametrize("mode", ["now", "bike"])
def test_the_map_ends_above_its_legend(browser: Any, mode: str) -> None:
    browser.execute_script("choice.mode = arguments[0]; drawMap()", mode)
    plot, card, legend = browser.execute_script("""
      const box = (query) => document.querySelector(query).getBoundingClientRect();
      return [box("#map .main-svg").bottom, box("#map").bottom, box("#map + *").top];""")
    browser.execute_script("choice.mode = 'now'; drawMap()")
    assert plot <= card + 1
    assert plot <= legend


def test_a_click_on_the_map_opens_the_station_under_it(browser: Any) -> None:
    points = browser.find_elements(By.CSS_SELECTOR, "#map .scatterlayer .trace:first-child .point")
    for n in (17, 5):
        ActionChains(browser).move_to_element(points[n]).click().perform()
        assert opened(browser) == str(1000 + n)
        assert f"Rue {n}" in shown(browser, "#station")
        series = browser.execute_script(
            "return document.getElementById('station-chart').data.map(t => [t.name, t.y])"
        )
        assert [name for name, _ in series] == ["Usual", "Observed", "Forecast"]
        assert series[1][1][-1] == n % 20
        assert series[2][1] == [n % 20, n % 20 + 0.5, n % 20 + 0.5]


def test_the_keyboard_can_skip_the_list_of_stations_at_risk(browser: Any) -> None:
    browser.find_element(By.ID, "now-json").send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "Skip the list of stations"
    box = link.rect
    card = browser.find_element(By.ID, "now-card").rect
    assert card["x"] <= box["x"]
    assert card["y"] <= box["y"] < card["y"] + card["height"]
    link.send_keys(Keys.ENTER)
    assert browser.execute_script("return location.hash") == "#map-section"
    browser.execute_script("history.replaceState(null, '', location.pathname)")


def test_the_keyboard_alone_opens_a_station(browser: Any) -> None:
    field = browser.find_element(By.ID, "search")
    field.send_keys("rue 1")
    assert shown(browser, "#matches").startswith("Stations: 11;")
    field.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert opened(browser) == "1010"
    chosen = browser.find_element(By.CSS_SELECTOR, "#results [aria-selected=true]")
    assert chosen.get_attribute("id") == field.get_attribute("aria-activedescendant")


def test_a_search_needs_no_accents_and_finds_numbers(browser: Any) -> None:
    field = browser.find_element(By.ID, "search")
    field.send_keys("ete")
    assert shown(browser, "#results").startswith(published.TRICKY)
    field.clear()
    field.send_keys("1023", Keys.ENTER)
    assert opened(browser) == "1023"


def test_colour_follows_what_the_reader_asks_for(browser: Any) -> None:
    def colours() -> Any:
        return browser.execute_script(
            "return document.getElementById('map').data[0].marker.color.slice()"
        )

    now = colours()
    assert now[1] != now[19]
    press(browser, "#modes [data-value=bike]")
    risk = colours()
    assert risk[2] == "rgba(0,0,0,0)"  # closed: no forecast, so no risk either
    assert len(set(risk)) == 2
    assert "model 2.0.1" in shown(browser, "#map-note")


def test_a_station_without_a_forecast_says_why(browser: Any) -> None:
    browser.execute_script("choose('1002')")
    assert "closed" in shown(browser, "#station")


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_word_is_in_the_chosen_language(browser: Any, language: str) -> None:
    press(browser, f"[data-lang={language}]")
    other = "en" if language == "fr" else "fr"
    both = texts()
    visible = shown(browser)
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
    for key, words in both[language].items():
        if words != both[other][key] and "{" not in words and len(both[other][key]) > 8:
            assert both[other][key] not in visible, key
    titles = [k for k in both[language] if k.endswith(".title")]
    assert len(titles) > 15
    assert not [k for k in titles if both[language][k] not in visible]
    assert "undefined" not in visible
    assert "NaN" not in visible


def test_an_old_page_says_how_old(browser: Any) -> None:
    assert "this page shows the network as it was then" in shown(browser, "#age")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_their_ground_in_both_themes(browser: Any, theme: str) -> None:
    presses = {"light": 1, "dark": 2}[theme]
    for _ in range(presses):
        press(browser, "#theme")
    ratio = """
      const channel = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
      const light = (hex) => [1, 3, 5].map((n) => channel(parseInt(hex.slice(n, n + 2), 16)))
        .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
      const [a, b] = [light(colour(arguments[0])), light(colour(arguments[1]))].sort();
      return (b + .05) / (a + .05);
    """
    for words in ("ink", "muted", "accent", "warm", "good", "bad"):
        for ground in ("paper", "card"):
            assert browser.execute_script(ratio, words, ground) >= 4.5, (words, ground)


def test_a_telephone_shows_the_page_without_scrolling_sideways(page: Path) -> None:
    with chromium(390, 844) as phone:
        open_page(phone, page)
        phone.execute_script("drawAll()")
        # A station without a forecast has its reason in the table, in words of both lengths.
        for language, station in itertools.product(("fr", "en"), ("1002", "1003")):
            press(phone, f"[data-lang={language}]")
            phone.execute_script("choose(arguments[0])", station)
            assert phone.execute_script("return document.documentElement.scrollWidth") == 390
            assert phone.execute_script(STICKING_OUT) == []
        assert opened(phone) == "1003"


def test_before_the_first_model_the_page_says_what_it_waits_for(
    window: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    horizons = [Horizon(minutes, None, {}, None, []) for minutes in published.HORIZONS]
    window.switch_to.new_window("tab")
    sources = published.sources(STATIONS, horizons=horizons, logged=[])
    open_page(window, write(tmp_path_factory, sources))
    window.execute_script("choice.lang = 'en'; words(); drawAll(); drawMap(); showStation()")
    assert opened(window) == "1000"  # all but one moved alike: the first of them
    assert log(window, "browser") == []
    assert "takes a trained model" in shown(window, "#map-note")
    assert not window.find_element(By.CSS_SELECTOR, "#modes [data-value=bike]").is_enabled()
    assert shown(window, "#station").count("no model is live") == len(horizons)
    assert shown(window, "#models .empty")
    assert "No published forecast" in shown(window, "#accuracy-none")
    assert not shown(window, "#accuracy-cards")
    assert not shown(window, "#accuracy-horizons")
    window.close()
    window.switch_to.window(window.window_handles[0])


def test_what_scrolls_can_be_reached_and_has_a_name(browser: Any) -> None:
    regions = browser.find_elements(By.CSS_SELECTOR, ".scroll")
    assert len(regions) == 7
    for region in regions:
        assert region.get_attribute("tabindex") == "0"
        assert region.get_attribute("aria-label")


def test_a_network_without_anything_gives_a_reason_everywhere(
    window: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    window.switch_to.new_window("tab")
    open_page(window, write(tmp_path_factory, published.nothing()))
    window.execute_script("drawAll()")
    assert log(window, "browser") == []
    for chart in window.find_elements(By.CSS_SELECTOR, "figure.chart:not([hidden])"):
        assert chart.find_elements(By.CSS_SELECTOR, ".empty"), chart.get_attribute("id")
    for table in ("models", "made", "functions", "health"):
        assert shown(window, f"#{table} .empty")
    window.close()
    window.switch_to.window(window.window_handles[0])


REASON = "3 of 14 local days have observations"


def test_a_reason_that_cards_share_is_given_once(
    window: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = published.network_documents()
    documents["model/performance/manifest.json"] = {"status": "no_data", "reason": REASON}
    young = [Horizon(minutes, None, {}, None, []) for minutes in published.HORIZONS]
    sources = published.sources(STATIONS, horizons=young, documents=documents, logged=[])
    window.switch_to.new_window("tab")
    open_page(window, write(tmp_path_factory, sources))
    window.execute_script("choice.lang = 'en'; words(); drawAll()")
    section = shown(window, "#accuracy-section")
    lights = shown(window, "#lights").splitlines()
    window.close()
    window.switch_to.window(window.window_handles[0])
    assert section.count("local days with observations: 3 of 14") == 1
    assert section.count("No published forecast") == 1
    assert lights[lights.index("Forecast 15 min ahead") + 1] == "not yet"


COVERED = """
  const box = (part) => part.getBoundingClientRect();
  const meet = (a, b) => a.left < b.right && b.left < a.right
    && a.top < b.bottom && b.top < a.bottom;
  const boxes = (query) => [...document.querySelectorAll(query)].map(box);
  const dots = boxes("#map .scatterlayer .trace:first-child .point");
  const names = boxes("#map .annotation-text-g").filter((_, n) => n > 1); // not scale and north
  return [names.length, names.filter((name, n) => dots.some((dot) => meet(name, dot))
    || names.some((other, m) => m !== n && meet(name, other))).length];
"""


@pytest.mark.parametrize("width", [390, 1300])
def test_no_name_on_the_map_covers_a_dot_or_another_name(
    tmp_path_factory: pytest.TempPathFactory, width: int
) -> None:
    crowded = write(tmp_path_factory, published.sources(1500))
    with chromium(width, 900) as browser:
        open_page(browser, crowded)
        count, covering = browser.execute_script(COVERED)
        assert (covering, count > 2) == (0, True)
        browser.execute_script("document.querySelector('#map .modebar-btn').click()")  # zoom in
        browser.execute_async_script("setTimeout(arguments[0], 500)")
        assert browser.execute_script(COVERED)[1] == 0


# --- what to do now -------------------------------------------------------------------------------


@pytest.fixture
def risky(browser: Any) -> Any:
    """Station 1005 runs empty in an hour, 1007 full in a quarter; its neighbours are sure."""
    browser.execute_script("""
      for (const { forecast } of data.horizons) {
        forecast.p_bike = forecast.p_bike.map(() => 0.95);
        forecast.p_dock = forecast.p_dock.map(() => 0.95);
      }
      data.horizons[1].forecast.p_bike[5] = 0.1;
      data.horizons[0].forecast.p_dock[7] = 0.4;
      data.horizons[1].forecast.p_bike[0] = 0.0; // it has no bike left to run out of
      actions();
    """)
    return browser


def cells(browser: Any) -> Any:
    rows = browser.find_elements(By.CSS_SELECTOR, "#now tbody tr")
    return [[c.text for c in row.find_elements(By.TAG_NAME, "td")] for row in rows]


def test_stations_at_risk_are_ranked_with_the_nearest_alternative(risky: Any) -> None:
    first, second = cells(risky)
    assert first[0].startswith("Rue 5")
    assert first[1:5] == ["90%", "empty in 60 min", "5 bikes", "5.5 bikes"]
    assert second[0].startswith("Rue 7")
    assert second[1:4] == ["60%", "full in 15 min", "18 docks"]
    panel = present(published.sources(STATIONS).panel)
    x, y = charts.projected(panel.stations)
    km = np.hypot(x - x[5], y - y[5])
    km[5] = np.inf
    assert first[5].splitlines()[0] == panel.stations.names[km.argmin()]
    assert "1 station" not in shown(risky, "#now-count")


def test_the_table_is_filtered_by_text_kind_and_district(risky: Any) -> None:
    risky.find_element(By.ID, "now-search").send_keys("rue 7")
    assert [row[0].splitlines()[0] for row in cells(risky)] == ["Rue 7"]
    risky.find_element(By.ID, "now-search").clear()
    risky.execute_script("asked.words = ''; actionTable()")
    press(risky, "#now-kinds [data-value=empty]")
    assert [row[0].splitlines()[0] for row in cells(risky)] == ["Rue 5"]
    press(risky, "#now-kinds [data-value=all]")
    quarter = risky.execute_script("return data.map.quarter[7]")
    risky.execute_script("asked.quarter = String(arguments[0]); actionTable()", quarter)
    assert {row[0].splitlines()[1] for row in cells(risky)} == {
        risky.execute_script("return quarterName(arguments[0])", quarter)
    }
    risky.execute_script("asked.quarter = ''; actionTable()")


def test_the_table_can_be_taken_away_and_no_cell_is_a_formula(risky: Any) -> None:
    risky.execute_script("data.stations.name[7] = '=HYPERLINK(\"http://x\")'; actions()")
    records = risky.execute_script("return actionRecords()")
    rows = list(csv.DictReader(io.StringIO(risky.execute_script("return csv(actionRecords())"))))
    assert (
        [row["station_id"] for row in rows]
        == ["1005", "1007"]
        == [r["station_id"] for r in records]
    )
    assert rows[1]["name"].startswith("'=")
    assert float(rows[0]["risk"]) == records[0]["risk"] == 0.9
    risky.execute_script("data.stations.name[7] = 'Rue 7'; actions()")


def test_a_link_opens_its_station(risky: Any) -> None:
    risky.execute_script("location.hash = '#station=1007'")
    WebDriverWait(risky, 10).until(lambda b: opened(b) == "1007")
    risky.execute_script("history.replaceState(null, '', location.pathname)")


def test_a_line_of_a_slow_feed_joins_its_polls_and_not_what_is_missing(browser: Any) -> None:
    drawn = browser.execute_script("""
      const every = (step, missing) => Array.from({ length: 40 }, (_, n) =>
        (n % step || missing.includes(n) ? null : n));
      return [[1, [7]], [3, []], [3, [12, 15]]].map(([step, missing]) => {
        const y = every(step, missing);
        return line("name", y.map((_, n) => n), y, "truth");
      }).map(({ x, y }) => [x.length, y]);
    """)
    (length, known), (_, slow), (_, broken) = drawn
    assert (length, known[6:9]) == (40, [6, None, 8])
    assert slow == list(range(0, 40, 3))
    gap = broken.index(9) + 1
    assert set(broken[gap : broken.index(18)]) == {None}
    assert [value for value in broken if value is not None] == [
        n for n in range(0, 40, 3) if n not in {12, 15}
    ]


def test_alerts_come_first_and_next_to_the_lights(browser: Any) -> None:
    alerts = browser.find_elements(By.CSS_SELECTOR, "#alerts li")
    assert [alert.get_attribute("class") for alert in alerts] == ["high", "medium"]
    assert "95.83% of the expected" in alerts[0].text
    assert shown(browser, "#lights li").splitlines() == ["Alerts", "2"]


def test_a_network_without_weather_has_no_light_that_is_down_for_it(browser: Any) -> None:
    browser.execute_script("""
      data.statuses.push({ name: "weather_provider", led: "down" });
      data.freshness = { weather: { freshness_min: null, reason: "the snapshot has no weather" } };
      lights();
    """)
    assert shown(browser, "#lights li:last-child").splitlines() == ["Weather", "none"]
    browser.execute_script("data.statuses.pop(); data.freshness = null; lights()")


def test_a_network_too_young_to_compare_has_no_light_that_is_down_for_it(browser: Any) -> None:
    browser.execute_script("""
      data.statuses.push({ name: "data_drift", led: "down", psi_global: null,
        source_generated_at: "2025-11-07T00:00:00Z" });
      lights();
    """)
    assert shown(browser, "#lights li:last-child").splitlines() == ["Data drift", "not yet"]
    browser.execute_script("data.statuses.pop(); lights()")


@pytest.mark.parametrize("reason", [
    "5 of 14 local days have observations; h15: no forecast in the window",
    "something that nobody translated",
])  # fmt: skip
def test_reasons_and_alerts_are_french_on_the_french_page(browser: Any, reason: str) -> None:
    press(browser, "[data-lang=fr]")
    browser.execute_script("data.reasons['data/drift'] = arguments[0]", reason)
    said = browser.execute_script("return reasonText(arguments[0])", reason)
    assert not {"days", "forecast", "something", "window"} & set(said.split())
    unknown = {"code": "new_code", "text": "A text in English", "level": "high"}
    assert "English" not in browser.execute_script("return alertText(arguments[0])", unknown)
    quotes = browser.execute_script(
        "const q = document.createElement('q'); document.body.append(q);"
        "const found = getComputedStyle(q).quotes; q.remove(); return found"
    )
    assert "«\u00a0" in quotes


# --- everybody can use it -------------------------------------------------------------------------

SERIOUS = {"serious", "critical"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_accessibility_checker_has_no_serious_finding(risky: Any, theme: str) -> None:
    risky.execute_script(
        "document.documentElement.dataset.theme = choice.theme = arguments[0]; charts()", theme
    )
    found = Axe().run(risky)
    serious = [v for v in found["violations"] if v["impact"] in SERIOUS]
    assert not [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in serious]
    assert len(found["passes"]) > 20, "the checker did run"


@pytest.fixture(scope="module")
def phone(page: Path) -> Iterator[Any]:
    with chromium(390, 844) as small:
        open_page(small, page)
        yield small


def test_a_tap_on_a_telephone_opens_a_sheet_with_the_forecast(phone: Any) -> None:
    phone.execute_script("choose('1009', true)")
    assert phone.execute_script("return element('sheet').open")
    assert "Rue 9" in shown(phone, "#sheet")
    box = phone.execute_script("return element('sheet').getBoundingClientRect().toJSON()")
    assert box["bottom"] == 844
    assert box["top"] > 100
    press(phone, "#sheet-close")
    WebDriverWait(phone, 10).until(
        lambda b: b.execute_script("return !!element('station').closest('#station-home')")
    )


def test_what_a_finger_presses_has_44_pixels(phone: Any) -> None:
    small = phone.execute_script("""
      return [...document.querySelectorAll("button, input, select, nav a, [role=option]")]
        .filter((part) => part.offsetParent !== null)
        .map((part) => [part.id || part.textContent, part.getBoundingClientRect()])
        .filter(([_, box]) => box.height < 44 || box.width < 44)
        .map(([name, box]) => [name, box.width, box.height]);
    """)
    assert small == []


def test_nothing_moves_under_the_eyes_of_the_reader(page: Path) -> None:
    with chromium(390, 844) as small:
        small.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument",
            {
                "source": "window.moved = 0; new PerformanceObserver((list) => {"
                "for (const e of list.getEntries()) if (!e.hadRecentInput) window.moved += e.value;"
                "}).observe({ type: 'layout-shift', buffered: true });"
            },
        )
        open_page(small, page)
        height = small.execute_script("return document.documentElement.scrollHeight")
        for y in range(0, height, 600):
            small.execute_script("scrollTo({ top: arguments[0], behavior: 'instant' })", y)
            small.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 60))")
        assert small.execute_script("return window.moved") <= 0.05
