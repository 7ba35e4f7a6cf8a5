from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

from offtake.report import page as page_module
from offtake.report.page import content_hash, write_page
from tests.report.run_folder import Wish, build_run

ATTACK = '<script>alert("taken")</script><img src=x onerror=alert(1)>\'"&'
PAGE_BYTES_MAX = 5_000_000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Reader(HTMLParser):
    """Read a page as a browser does, into tags, ids and text by tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]][-1] += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="session")
def report(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(run_folder, tmp_path_factory.mktemp("out") / "report.html")


@pytest.fixture(scope="session")
def html(report: Path) -> str:
    return report.read_text("utf-8")


@pytest.fixture(scope="session")
def reader(html: str) -> Reader:
    return Reader(html)


def test_the_decision_is_the_first_heading_in_one_sentence(reader: Reader) -> None:
    heads = [text.replace("\u00a0", " ") for text in reader.text["h1"]]
    assert heads == [Wish().answer]
    assert "should a frontier lab sign" in reader.text["p"][0]


def test_nothing_is_loaded_from_anywhere(reader: Reader) -> None:
    loading = [
        (tag, name)
        for tag, attributes in reader.tags
        for name in ("src", "srcset", "action", "poster")
        if name in attributes
    ]
    assert loading == []
    assert not reader.all("link")
    addresses = {(attributes["href"] or "")[:5] for attributes in reader.all("a")}
    assert all(address.startswith(("#", "data:")) for address in addresses)
    style = "".join(reader.text["style"])
    assert "@import" not in style
    assert "url(" not in style


def test_the_pages_own_policy_forbids_every_request_and_foreign_script(reader: Reader) -> None:
    policy = (
        next(tag["content"] for tag in reader.all("meta") if tag.get("http-equiv") == "Content-Security-Policy") or ""
    )
    assert policy.startswith("default-src 'none';")
    scripts = [
        text
        for text, attributes in zip(reader.text["script"], reader.all("script"), strict=True)
        if attributes.get("type") != "application/json"
    ]
    assert len(scripts) == 2
    assert re.findall(r"'sha256-[^']+'", policy) == [content_hash(script) for script in scripts]
    assert "unsafe-eval" not in policy


def test_the_page_is_under_five_megabytes(report: Path) -> None:
    assert report.stat().st_size < PAGE_BYTES_MAX


def test_the_page_can_be_read_without_seeing_it(reader: Reader) -> None:
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    charts = [attributes for _, attributes in reader.tags if attributes.get("class") == "chart"]
    assert charts
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 40 for chart in charts)
    assert len(reader.all("caption")) == len(reader.all("table"))
    assert all(attributes.get("scope") in {"col", "row"} for attributes in reader.all("th"))
    assert reader.all("html") == [{"lang": "en"}]


def test_each_link_within_the_page_leads_somewhere(reader: Reader) -> None:
    ids = Counter(attributes["id"] for _, attributes in reader.tags if "id" in attributes)
    assert max(ids.values()) == 1
    assert {href[1:] for tag in reader.all("a") if (href := tag["href"] or "").startswith("#")} <= set(ids)


def test_each_chart_downloads_its_data(reader: Reader) -> None:
    links = [tag for tag in reader.all("a") if "download" in tag]
    assert len(links) == len([tag for tag in reader.all("div") if tag.get("class") == "chart"])
    capacity = next(tag["href"] or "" for tag in links if tag["download"] == "capacity.csv")
    assert unquote(capacity.partition(",")[2]).splitlines()[:2] == [
        "start,end,partner,firmness,kw",
        "2026-05-01,2026-05-08,google,firm,500000.0",
    ]


def test_names_from_a_users_files_are_text_and_never_markup(tmp_path: Path, html: str) -> None:
    wish = Wish(
        answer=f"Sign nothing from {ATTACK}.",
        rename={"google": ATTACK, "chat": ATTACK, "6x a year": ATTACK, "Mean": ATTACK, "wisconsin": f"w{ATTACK}"},
    )
    attacked = write_page(build_run(tmp_path, wish), tmp_path / "report.html").read_text("utf-8")
    reader, plain = Reader(attacked), Reader(html)
    assert Counter(tag for tag, _ in reader.tags)["script"] == Counter(tag for tag, _ in plain.tags)["script"]
    assert not reader.all("img")
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert reader.text["h1"] == [f"Sign nothing from {ATTACK}."]
    assert any(ATTACK in text for text in reader.text["td"])


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run_folder: Path, tmp_path: Path, report: Path) -> None:
    code = "import sys, pathlib, offtake.report.page as p; p.write_page(*map(pathlib.Path, sys.argv[1:]))"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "POLARS_MAX_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(run_folder), "r.html"], cwd=tmp_path, env=environment, check=True)
    assert digest(tmp_path / "r.html") == digest(report)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_page_is_written_whole_or_not_at_all(run_folder: Path, tmp_path: Path) -> None:
    write_page(run_folder, tmp_path / "deep" / "report.html")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_a_run_with_an_appraisal_alone_still_makes_a_page(tmp_path: Path) -> None:
    path = write_page(build_run(tmp_path, Wish(plan=False)), tmp_path / "report.html")
    reader = Reader(path.read_text("utf-8"))
    assert reader.text["h1"][0].startswith("Do not sign")
    assert any(text.startswith("No plan:") for text in reader.text["li"])


def test_each_colour_of_text_stands_out_from_its_ground() -> None:
    style = files("offtake.report").joinpath("page.css").read_text("utf-8")
    grounds = re.findall(r"\{([^{}]*--paper:[^{}]*)\}", style)
    assert len(grounds) == 4  # light, dark by system, dark by choice, print
    for block in grounds:
        colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", block))
        for text in ("--ink", "--muted", "--link", "--good", "--bad"):
            assert contrast(colours[text], colours["--paper"]) >= 4.5, (text, block)
        assert contrast(colours["--ink"], colours["--caution-panel"]) >= 4.5
        for heat in range(7):
            label = "--heat-low-text" if heat < 4 else "--heat-high-text"
            assert contrast(colours[label], colours[f"--heat-{heat}"]) >= 4.5, (heat, block)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_black_on_white_has_the_contrast_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


def test_the_chart_library_cannot_end_its_own_script() -> None:
    library = page_module.chart_library()
    assert "</script" not in library
    assert "<!--" not in library


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to draw the page with")
def test_a_browser_draws_every_chart_offline(report: Path, reader: Reader, tmp_path: Path) -> None:
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=30000",
    ]
    command = [str(CHROMIUM), *options, "--dump-dom", report.as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert 'data-drawn="yes"' in drawn
    charts = len([tag for tag in reader.all("div") if tag.get("class") == "chart"])
    assert len(re.findall(r"<svg[^>]*class=\"marks\"", drawn)) == charts
