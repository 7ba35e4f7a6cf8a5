"""Write the report: one HTML file that holds everything it needs and asks nothing of any network.

Comes in: a run folder. Goes out: the page. Vega comes from ``vl-convert``, as one script; the page's own
security policy lets only the two scripts run that were written here, and lets nothing be loaded. The
template escapes every text, since names come from users' files. The same run gives the same bytes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import vl_convert
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from offtake.files import write_whole
from offtake.report import theme
from offtake.report.parts import Page
from offtake.report.sections import page
from offtake.report.tables import read_run
from offtake.report.words import day

VEGA_LITE_VERSION = "6.4"
MARKS = {
    "square": "M5 2h8v8h-8Z",
    "triangle-up": "M9 1l5 9h-10Z",
    "triangle-down": "M9 11l5-9h-10Z",
    "diamond": "M9 1l5 5l-5 5l-5-5Z",
    "cross": "M7 1h4v3h3v4h-3v3h-4v-3h-3v-4h3Z",
}
UNIT_AFTER_FIGURE = re.compile(r"(\d) (bn|m|MW|GW|kW|ms|s|%)(?!\w)")
PAINTS = ["ink", *(str(place) for place in range(1, theme.SERIES_COUNT + 1))]


def write_page(run_folder: Path, out: Path) -> Path:
    """Read a run folder, write its report to ``out``, whole or not at all, and return ``out``.

    Raises
    ------
    InputError
        Where the folder holds no stage of a run, or a file in it cannot be read.
    """
    text = render(page(read_run(run_folder)))
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(out, text.encode())


def render(content: Page) -> str:
    """Return the page as HTML."""
    library, script = chart_library(), resource("page.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=None
    )
    environment.filters |= {"json": safe_json, "data_url": csv_url, "spoken": spoken}
    return environment.from_string(resource("page.html.jinja")).render(
        page=content,
        config=theme.CONFIG,
        paints=PAINTS,
        marks=MARKS,
        style=Markup(resource("page.css")),  # noqa: S704 our own file, and no user's text in it
        library=Markup(library),  # noqa: S704 Vega itself
        script=Markup(script),  # noqa: S704 our own file
        script_hashes=Markup(f"{content_hash(library)} {content_hash(script)}"),  # noqa: S704 two hashes
    ).lstrip()  # fmt: skip


@functools.cache
def chart_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that is safe between script tags.

    Wrapped in a function, so that its names stay its own.
    """
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE_VERSION)
    return "(function(){" + bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--") + "\n})();"


def content_hash(script: str) -> str:
    """Return a script's hash as a content security policy writes it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def safe_json(value: Any) -> Markup:  # noqa: ANN401 whatever a chart's spec holds
    """Return JSON that is safe between script tags, keys in order."""
    return htmlsafe_json_dumps(value, dumps=json.dumps, sort_keys=True, separators=(",", ":"))


def spoken(text: str) -> str:
    """Write dates in words, and keep a figure and its unit on one line."""
    return UNIT_AFTER_FIGURE.sub("\\1\u00a0\\2", day(text))


def csv_url(text: str) -> str:
    """Return CSV text as the address of a download that needs no network."""
    return "data:text/csv;charset=utf-8," + quote(text, safe="")


def resource(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return files("offtake.report").joinpath(name).read_text("utf-8")
