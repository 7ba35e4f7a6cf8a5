from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import vl_convert

from offtake.report import theme
from offtake.report.page import PAINTS, VEGA_LITE_VERSION
from offtake.report.parts import Figure, Page, Spec
from tests.report.parts_of import figures_of

UNITS = ("MW", "per second", "US dollars", "%", "Date", "ms")
NAMES = ("Policy", "Demand growth", "Site · chip", "Block of the week", "Share of", "Site", "Workload")


def channels(spec: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every encoding channel of these names, in every layer."""
    if isinstance(spec, dict):
        for name, value in spec.get("encoding", {}).items():
            if name in names:
                yield name, value
        for layer in spec.get("layer", []):
            yield from channels(layer, names)


def paints(spec: Spec) -> set[str]:
    return set(re.findall(r"(?:var\(--[\w-]+\)|url\(#[\w-]+\)|#[0-9a-fA-F]{3,8})", json.dumps(spec)))


def test_a_page_has_charts(content: Page) -> None:
    assert [figure.key for figure in figures_of(content)][:4] == [
        "appraisal-spacex-c1",
        "capacity",
        "demand",
        "refusals",
    ]


def test_each_chart_asks_a_question_and_says_its_answer(content: Page) -> None:
    for figure in figures_of(content):
        assert figure.question.endswith("?")
        assert figure.says.endswith(".")
        assert not re.search(r"nan|None|inf\b", figure.says)


def test_each_chart_compiles_and_draws_without_a_warning(content: Page, capfd: pytest.CaptureFixture[str]) -> None:
    for figure in figures_of(content):
        vega = vl_convert.vegalite_to_vega(
            figure.spec, vl_version=VEGA_LITE_VERSION, config=theme.CONFIG, show_warnings=True
        )
        assert "<svg" in vl_convert.vega_to_svg(vega)
        out, err = capfd.readouterr()
        assert (figure.key, out, err) == (figure.key, "", "")


def test_a_poor_chart_would_warn(capfd: pytest.CaptureFixture[str]) -> None:
    poor = {"data": {"values": [{"a": 1}]}, "mark": "bar", "encoding": {"nonsense": {"field": "a"}}}
    vl_convert.vegalite_to_vega(poor, vl_version=VEGA_LITE_VERSION, show_warnings=True)
    assert "nonsense" in "".join(capfd.readouterr())


def test_each_axis_has_a_title_with_its_unit(content: Page) -> None:
    for figure in figures_of(content):
        titled = [value["axis"]["title"] for _, value in channels(figure.spec, ("x", "y")) if value.get("axis")]
        assert len(titled) >= 2, figure.key
        assert all(any(word in title for word in UNITS + NAMES) for title in titled), (figure.key, titled)


def test_charts_are_painted_only_with_colours_that_every_theme_has(content: Page) -> None:
    style = files("offtake.report").joinpath("page.css").read_text("utf-8")
    known = {f"var({name})" for name in re.findall(r"(--[\w-]+):", style)}
    known |= {f"url(#{hatch}-{paint})" for hatch in ("option", "letter") for paint in PAINTS}
    for figure in figures_of(content):
        used = paints(figure.spec) | {key.paint for key in figure.legend if not key.paint.startswith("color-mix")}
        assert used <= known, figure.key


def test_what_is_not_firm_is_hatched_not_only_coloured(content: Page) -> None:
    figure = next(figure for figure in figures_of(content) if figure.key == "capacity")
    assert {"url(#option-ink)", "url(#letter-ink)"} <= {key.paint for key in figure.legend}
    assert [paint for paint in paints(figure.spec) if paint.startswith("url(#option-")]


def test_each_chart_gives_its_data_as_csv(content: Page) -> None:
    for figure in figures_of(content):
        rows = list(csv.reader(io.StringIO(figure.csv)))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1


def test_dates_are_local_midnights_so_that_no_time_zone_moves_them(content: Page) -> None:
    starts = [row["start"] for figure in figures_of(content) for row in data_rows(figure) if "start" in row]
    assert starts
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00", start) for start in starts)


def data_rows(figure: Figure) -> Iterator[dict[str, Any]]:
    for dataset in figure.spec.get("datasets", {}).values():
        yield from dataset
