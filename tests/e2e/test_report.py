"""The network page in a real Chromium: what a reader sees, clicks and types."""

import datetime as dt

import published
import pytest
from chromium import chromium, open_page, requests_of
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from velib_cli.report.charts import report_data
from velib_cli.report.page import report_html, texts
from velib_cli.report.sources import Horizon

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


def write(tmp_path_factory, sources):
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(report_html(report_data(sources, MADE_AT)), "utf-8")
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write(tmp_path_factory, published.sources(STATIONS))


@pytest.fixture(scope="module")
def window():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened_once(window, page):
    open_page(window, page)
    window.execute_script("drawAll()")
    return window


@pytest.fixture
def browser(opened_once):
    """The page as it comes up, in English."""
    opened_once.execute_script("""
      Object.assign(choice, { lang: "en", theme: "auto", mode: "now", station: "1003" });
      document.documentElement.dataset.theme = "auto";
      element("search").value = "";
      words();
      charts();
    """)
    return opened_once


def press(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def shown(browser, selector="body"):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def opened(browser):
    return browser.execute_script("return document.getElementById('station').dataset.station")


def test_the_page_complains_of_nothing_and_asks_nobody(opened_once, page):
    assert opened_once.get_log("browser") == []
    asked = requests_of(opened_once)
    assert page.as_uri() in asked
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_every_chart_has_shapes_and_a_name(browser):
    charts = browser.find_elements(By.CSS_SELECTOR, "figure.chart")
    assert len(charts) == 10
    for chart in charts:
        assert chart.find_elements(By.CSS_SELECTOR, SHAPES), chart.get_attribute("id")
        assert chart.get_attribute("aria-label")


def test_the_map_has_every_station(browser):
    points = browser.find_elements(By.CSS_SELECTOR, "#map .scatterlayer .trace:first-child .point")
    assert len(points) == STATIONS
    ids = browser.execute_script("return document.getElementById('map').data[0].customdata")
    assert ids == published.sources(STATIONS).panel.stations.ids.tolist()


def test_a_click_on_the_map_opens_the_station_under_it(browser):
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


def test_the_keyboard_alone_opens_a_station(browser):
    field = browser.find_element(By.ID, "search")
    field.send_keys("rue 1")
    assert shown(browser, "#matches").startswith("11 ")
    field.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert opened(browser) == "1010"
    chosen = browser.find_element(By.CSS_SELECTOR, "#results [aria-selected=true]")
    assert chosen.get_attribute("id") == field.get_attribute("aria-activedescendant")


def test_a_search_needs_no_accents_and_finds_numbers(browser):
    field = browser.find_element(By.ID, "search")
    field.send_keys("ete")
    assert shown(browser, "#results").startswith(published.TRICKY)
    field.clear()
    field.send_keys("1023", Keys.ENTER)
    assert opened(browser) == "1023"


def test_colour_follows_what_the_reader_asks_for(browser):
    def colours():
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


def test_a_station_without_a_forecast_says_why(browser):
    browser.execute_script("choose('1002')")
    assert "closed" in shown(browser, "#station")


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_word_is_in_the_chosen_language(browser, language):
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


def test_an_old_page_says_how_old(browser):
    assert "this page shows the network as it was then" in shown(browser, "#age")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_their_ground_in_both_themes(browser, theme):
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


def test_a_telephone_shows_the_page_without_scrolling_sideways(page):
    with chromium(390, 844) as phone:
        open_page(phone, page)
        phone.execute_script("drawAll()")
        assert phone.execute_script("return document.documentElement.scrollWidth") == 390
        assert phone.execute_script(STICKING_OUT) == []
        assert opened(phone) == "1003"


def test_before_the_first_model_the_page_says_what_it_waits_for(window, tmp_path_factory):
    horizons = [Horizon(minutes, None, {}, None, []) for minutes in published.HORIZONS]
    window.switch_to.new_window("tab")
    open_page(window, write(tmp_path_factory, published.sources(STATIONS, horizons=horizons)))
    window.execute_script("choice.lang = 'en'; words(); drawAll(); drawMap()")
    assert opened(window) == "1000"  # all but one moved alike: the first of them
    assert window.get_log("browser") == []
    assert "takes a trained model" in shown(window, "#map-note")
    assert not window.find_element(By.CSS_SELECTOR, "#modes [data-value=bike]").is_enabled()
    assert shown(window, "#station").count("no model is live") == len(horizons)
    for part in ("truth", "hours", "residuals", "scores", "models"):
        assert shown(window, f"#{part} .empty")
    window.close()
    window.switch_to.window(window.window_handles[0])


def test_what_scrolls_can_be_reached_and_has_a_name(browser):
    regions = browser.find_elements(By.CSS_SELECTOR, ".scroll")
    assert len(regions) == 5
    for region in regions:
        assert region.get_attribute("tabindex") == "0"
        assert region.get_attribute("aria-label")


def test_a_network_without_anything_gives_a_reason_everywhere(window, tmp_path_factory):
    window.switch_to.new_window("tab")
    open_page(window, write(tmp_path_factory, published.nothing()))
    window.execute_script("drawAll()")
    assert window.get_log("browser") == []
    for chart in window.find_elements(By.CSS_SELECTOR, "figure.chart:not([hidden])"):
        assert chart.find_elements(By.CSS_SELECTOR, ".empty"), chart.get_attribute("id")
    for table in ("scores", "models", "made", "functions", "health"):
        assert shown(window, f"#{table} .empty")
    window.close()
    window.switch_to.window(window.window_handles[0])
