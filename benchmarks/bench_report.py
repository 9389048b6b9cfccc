"""The network page of 1,500 stations: at most 5 MB, interactive within 1.5 s in headless Chromium.

Interactive is when words, tables, search and the chosen station's figures are painted and react;
the map and the charts follow when they come near the screen. Both are counted by the browser's own
clock; the median of several openings, each in a browser of its own with nothing cached.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # its network and its browser

import published
from chromium import chromium, open_page, wait_for
from velib_cli.report.charts import report_data
from velib_cli.report.page import report_html

STATIONS = int(os.environ.get("BENCH_STATIONS", "1500"))
OPENINGS = 5
MOST_BYTES = 5_000_000
MOST_SECONDS = 1.5

AFTER_A_CLICK = """
  const started = performance.now();
  choose(data.stations.id[700 % data.stations.id.length]);
  return performance.now() - started;
"""


def main() -> int:
    sources = published.sources(STATIONS)
    started = time.monotonic()
    page = report_html(report_data(sources, dt.datetime.now(dt.UTC))).encode()
    made = time.monotonic() - started
    interactive, charts, click = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_bytes(page)
        for _ in range(OPENINGS):
            with chromium() as browser:
                open_page(browser, file)
                interactive.append(wait_for(browser, file, "interactive"))
                charts.append(wait_for(browser, file, "ready") - interactive[-1])
                click.append(browser.execute_script(AFTER_A_CLICK) / 1000)
    figures = {
        "stations": STATIONS,
        "page_mb": round(len(page) / 1e6, 2),
        "made_s": round(made, 2),
        "interactive_s": round(statistics.median(interactive), 2),
        "slowest_s": round(max(interactive), 2),
        "charts_s": round(statistics.median(charts), 2),
        "click_s": round(statistics.median(click), 2),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures))
    met = len(page) <= MOST_BYTES and statistics.median(interactive) <= MOST_SECONDS
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
