"""The network page: one HTML file that needs nothing else and asks nobody.

Style, texts, scripts, data and the charting library are inside; the two large parts are packed
with gzip (RFC 1952) and unpacked by the browser's own ``DecompressionStream``. The page forbids
itself every request by its content security policy, but for map tiles where an operator named a
server of them.
"""

from __future__ import annotations

import base64
import gzip
import html
import importlib.resources
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPTS = tuple(
    f"{name}.js" for name in ("state", "reasons", "charts", "labels", "station", "actions", "page")
)
"""In the order in which they need each other."""


def report_html(data: Mapping[str, Any]) -> str:
    """Return the page of what `velib_cli.report.charts.report_data` shaped."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 -- megabytes, only for this page

    parts = {
        "TITLE": html.escape(str(data["network"])),
        "TILES": _tile_hosts(data),
        "STYLE": _file("page.css"),
        "TEXTS": _inline(texts()),
        "DATA": _packed(json.dumps(data, allow_nan=False, separators=(",", ":"))),
        "LIBRARY": _packed(get_plotlyjs()),
        "SCRIPT": "\n".join(_file(name) for name in SCRIPTS),
    }
    page = _file("page.html")
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part)
    return page


def _tile_hosts(data: Mapping[str, Any]) -> str:
    """Return the hosts of the tiles that the operator named: all that the page may ask."""
    tiles = (data.get("map") or {}).get("tiles") or []
    hosts = {"{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(tile["src"])) for tile in tiles}
    return "".join(f" {html.escape(host)}" for host in sorted(hosts))


def texts() -> dict[str, dict[str, str]]:
    """Return every text of the page by language and key."""
    loaded: dict[str, dict[str, str]] = json.loads(_file("texts.json"))
    return loaded


def _file(name: str) -> str:
    folder = importlib.resources.files("velib_cli.report") / "assets"
    return (folder / name).read_text("utf-8")


def _packed(text: str) -> str:
    """Return text as base64 of gzip, the same bytes for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _inline(document: object) -> str:
    """Return JSON that no text in it can break out of its script element with."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
