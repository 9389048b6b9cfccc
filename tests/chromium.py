"""A real headless Chromium that opens one file and may ask nobody for anything."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from velib_local.emulator import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

READY_TIMEOUT_S = 60.0


@contextlib.contextmanager
def chromium(width: int = 1300, height: int = 900) -> Iterator[Chrome]:
    """Yield a browser with a window of this size; skips where Chromium is not installed."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium: the network page is NOT tested (Debian: chromium-driver)")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    class Service(ChromeService):
        """The driver, in a process group that ends with this process, killed or not."""

        def _start_process(self, path: str) -> None:
            command = [path, *self.command_line_args()]
            quiet = subprocess.DEVNULL
            self.process = processes.start(command, env=self.env, stdout=quiet, stderr=quiet)

    options = ChromeOptions()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(driver)
    browser = Chrome(options, service)
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        yield browser
    finally:
        browser.quit()
        processes.stop(service.process)


def open_page(browser: Chrome, page: Path) -> None:
    """Open a network page and wait until its charts are drawn; its logs start anew."""
    for kind in ("browser", "performance"):
        log(browser, kind)
    browser.get(page.as_uri())
    wait_for(browser, page, "interactive")
    browser.execute_script("wantCharts()")
    wait_for(browser, page, "ready")


def wait_for(browser: Chrome, page: Path, stage: str) -> float:
    """Wait until a page has reached a stage; return its seconds since the navigation began."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    script = f"return document.documentElement.dataset.{stage}"
    while not (at := browser.execute_script(script)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{page} is not {stage}: {log(browser, 'browser')}")
        time.sleep(0.05)
    return float(at) / 1000


def requests_of(browser: Chrome) -> list[str]:
    """Return the addresses that were asked for since the page was opened."""
    events = [json.loads(entry["message"])["message"] for entry in log(browser, "performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in asked]


def log(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    """Return and empty a log of the browser."""
    read: Any = browser.get_log
    entries: list[dict[str, Any]] = read(kind)
    return entries
